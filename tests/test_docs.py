"""README and docs: what they link to and name is there, each page is found, sentences are short."""

import ast
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from espnet_dq.bin import recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "egs2/dq_whisper/asr1"
README = ROOT / "README.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *RECIPE.glob("*.md")]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
ABBREVIATION = r"\b(e\.g|i\.e|etc|vs|cf)\.$"


def blocks(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


@cache
def page(path: Path) -> list[Token]:
    return blocks(path.read_text(encoding="utf-8"))


def inline(tokens: list[Token], kind: str) -> list[Token]:
    return [x for token in tokens for x in token.children or () if x.type == kind]


def said(token: Token) -> str:
    """The words of a block; code in it is a word that ends no sentence."""
    parts = []
    for child in token.children or ():
        if child.type == "code_inline":
            parts.append(re.sub(r"[.!?](?=\s|$)", "_", child.content))
        else:
            parts.append(" " if child.type.endswith("break") else child.content)
    return "".join(parts)


def sentences(text: str) -> list[int]:
    """How many words each sentence of a page has; without tables, headings and code.

    A sentence ends at `.`, `!` or `?` before white space, and at the end of a paragraph or item.
    """
    counts, skipped = [], 0
    for token in blocks(text):
        if token.type in ("table_open", "heading_open"):
            skipped += 1
        elif token.type in ("table_close", "heading_close"):
            skipped -= 1
        elif token.type == "inline" and not skipped:
            parts = [""]
            for piece in re.split(r"(?<=[.!?])(?=\s)|(?<=[.!?][\"')])(?=\s)", said(token)):
                parts[-1] += piece
                if not re.search(ABBREVIATION, piece):
                    parts.append("")
            counts += [len(re.findall(r"\S*\w\S*", part)) for part in parts]
    return [count for count in counts if count]


def anchors(path: Path) -> set[str]:
    """Those that GitHub makes of a page's headings."""
    tokens, made = page(path), set()
    for opened, token in pairwise(tokens):
        if opened.type == "heading_open":
            text = "".join(x.content for x in token.children or ())
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            same = sum(re.fullmatch(re.escape(name) + r"(-\d+)?", x) is not None for x in made)
            made.add(f"{name}-{same}" if same else name)
    return made


def targets(path: Path) -> list[tuple[Path, str]]:
    """(file, anchor) of each relative link and picture."""
    tokens = page(path)
    links = [str(x.attrs["href"]) for x in inline(tokens, "link_open")]
    links += [str(x.attrs["src"]) for x in inline(tokens, "image")]
    parts = [urlsplit(link) for link in links]
    return [
        ((path.parent / unquote(part.path)).resolve() if part.path else path, part.fragment)
        for part in parts
        if not part.scheme and not part.netloc
    ]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("It takes 0.64 s, e.g. on two cores (v1.2.1). So `a. b` helps!", [9, 4]),
        ("# Not this.\n\nOne\ntwo three: \n\n- four five\n- six. `Seven.` eight", [3, 2, 1, 2]),
        ("| a. b. |\n|---|\n| c. d. |\n\n```\ne. f.\n```\n", []),
        ('He said "no." She said *yes.*\n\n<details><summary>a. b</summary>\n', [3, 3]),
    ],
)  # fmt: skip
def test_sentences_are_counted_as_a_reader_counts_them(text, counts):
    assert sentences(text) == counts


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_short(name):
    counts = sentences((ROOT / name).read_text(encoding="utf-8"))
    assert len(counts) > 5  # something was read
    assert max(counts) <= 35
    assert sum(counts) / len(counts) <= 18


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    for target, anchor in targets(ROOT / name):
        assert target.exists(), target
        assert target.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


def test_each_page_is_reached_from_the_readme():
    found, to_read = {README}, [README]
    while to_read:
        new = {target for target, _ in targets(to_read.pop()) if target.suffix == ".md"} - found
        found |= new
        to_read += new
    assert set(PAGES) <= found


@pytest.mark.parametrize("name", [name for name in NAMES if "/" in name])
def test_each_page_says_first_what_it_is_for(name):
    tokens = page(ROOT / name)
    assert [x.type for x in tokens[:4]] == [
        "heading_open", "inline", "heading_close", "paragraph_open",
    ]  # fmt: skip
    assert said(tokens[4]).rstrip().endswith((".", ":"))


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_are_there(name):
    folders = "docs|benchmarks|tests|egs2|espnet_dq|local|tools|conf"
    for code in inline(page(ROOT / name), "code_inline"):
        if re.search(r"/exp/|[A-Z]{3,}", code.content):
            continue  # made by a run, or a name that stands for others
        if re.fullmatch(rf"({folders})/[\w./*-]+", code.content):
            assert any([*ROOT.glob(code.content), *RECIPE.glob(code.content)]), code.content


def imported() -> set[str]:
    """Modules that benchmarks and tests import, by the first part of their names."""
    found: set[str] = set()
    for path in [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


def test_each_benchmark_has_a_page_or_a_user():
    """One whose numbers nobody can find is code that nobody runs."""
    pages = [path for path in PAGES if path.name != "CHANGELOG.md"]
    text, used = "\n".join(path.read_text(encoding="utf-8") for path in pages), imported()
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("benchmarks/ablations/*.yaml")]:
        name = str(path.relative_to(ROOT))
        assert name in text or (path.suffix == ".py" and path.stem in used), name


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for command in re.findall(r"(?<!espnet2\.)\bbin\.([a-z_0-9]+)", text):
        assert (ROOT / f"espnet_dq/bin/{command}.py").is_file(), command
    for token in page(ROOT / name):
        for line in re.findall(r"run\.sh (.*)", token.content.replace("\\\n", "")):
            if token.type == "fence":
                words = shlex.split(line, comments=True)
                recipe.read([word for word in words if word != "--help"])  # with their values


def test_each_result_has_a_few_lines_and_folds_the_rest():
    """At most four lines before the fold, or before the next heading (docs/results.md says how)."""
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    sections = re.split(r"(?m)^#+ (.*)$", text)[3:]  # behind the page's own introduction
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        lines = body.split("<details>")[0].strip().splitlines()
        assert len(lines) <= 4, f"{title}: {len(lines)} lines before its fold"
