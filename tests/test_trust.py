"""What docs/security.md says of all of our code: one shell, no code from files, all pinned."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from espnet_dq.fetch.sources import SOURCES
from local import asterisk, festvox_ru, fillets

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(p for name in ("espnet_dq", "local", "benchmarks", "tools")
                  for p in (ROOT / name).rglob("*.py"))  # fmt: skip
SCRIPTS = [
    ROOT / "local/data.sh",
    ROOT / "tools/setup.sh",
    *sorted((ROOT / "egs2").glob("*/*/*.sh")),
]


@cache
def calls() -> list[tuple[str, str, dict[str, ast.expr]]]:
    """(file, what is called, {argument or its number: its value}) of every call in our programs."""
    found = []
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = dict(enumerate(node.args)) | {k.arg: k.value for k in node.keywords}
                found.append((str(path.relative_to(ROOT)), _dotted(node.func), given))
    return found


def _dotted(node: ast.expr) -> str:
    """`a.b.c`; of something else than names only what comes behind it."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.slow
def test_one_shell():
    """The commands of wav.scp, which stage 2 runs when --allow_pipes is given."""
    found = calls()
    assert len(found) > 1000
    assert [(p, f) for p, f, given in found if "shell" in given] == [
        ("espnet_dq/data/command.py", "subprocess.Popen")
    ]
    shells = {"os.system", "os.popen", "os.execl", "subprocess.getoutput"}
    assert not [(p, f) for p, f, _ in found if f in shells]
    words = r"(?m)^[^#]*\b(eval|(ba)?sh\s+-c|source /dev/stdin)\b"
    assert not [p.name for p in SCRIPTS if re.search(words, p.read_text(encoding="utf-8"))]


def test_nothing_that_is_read_can_be_code():
    for path, name, given in calls():
        where = f"{path}: {name}({list(given)})"
        last = name.split(".")[-1]
        if name == "torch.load":
            assert ast.unparse(given["weights_only"]) == "True", where
        if name == "yaml.load":
            assert ast.unparse(given[1]) == "_Loader", where  # a yaml.CSafeLoader, in reading.py
        if name.startswith("yaml.") and "load" in last:
            assert last in ("load", "safe_load"), where
        if name == "json.loads" and path.startswith("espnet_dq/"):  # reading.py knows bounds
            assert "read_text" not in ast.unparse(given[0]), where
        assert name not in ("eval", "exec", "compile", "__import__", "np.load"), where
        assert last not in ("extractall", "extract", "unpack_archive"), where
        assert not re.match(r"(pickle|joblib|dill|marshal|shelve)\.", name), where
        for key in given.keys() & {"trust_remote_code", "allow_pickle"}:
            assert ast.unparse(given[key]) == "False", where


def test_downloads_are_pinned():
    packages = [fillets.TEXTS, *fillets.CLIPS.values(), festvox_ru.PACKAGE]
    hashes = [p.sha256 for p in packages] + [x for pair in asterisk.SHA256.values() for x in pair]
    for source in SOURCES.values():
        hashes += [member.sha256 for members in source.files.values() for member in members]
        assert all(re.search(r"[^@=]+(@|==)\d", package) for package in source.packages)
    assert len(hashes) > 15 and all(re.fullmatch(r"[0-9a-f]{64}", x) for x in hashes)


@pytest.mark.parametrize("lock", ["requirements.lock", "tools/audit.lock"])
def test_every_package_has_a_version_and_hashes(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))[1:]
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==\S+ ", entry) and "--hash=sha256:" in entry, entry


def test_documented_commands_do_not_look_in_the_current_folder():
    """`python -Pm`; results in docs/reliability.md say what was run."""
    docs = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("egs2/*/*/*.md"), *PROGRAMS]
    for path in docs:
        found = re.search(r"python -m\s+espnet_dq\b", path.read_text(encoding="utf-8"))
        assert not found or path.name in ("reliability.md", "__init__.py"), path
