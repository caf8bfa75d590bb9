"""No part of the package imports what stands above it, in the order of docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "espnet_dq"
# What is for whom it is: the front door (lazily), and what `python -m espnet_dq` starts.
DOORS = ("__init__", "__main__")


def floors() -> list[str]:
    """Packages and modules from the ground up, as the page lists them."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Floors")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)


def part(module: str) -> str:
    """The package or module directly below espnet_dq to which a module belongs."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of everything of ours that a file imports, in functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            # What is imported may be a module itself.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith("espnet_dq."))


def test_the_page_lists_every_part_once():
    found = {path.stem for path in PACKAGE.glob("*.py")} - {*DOORS}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(floors()) == sorted(found)


@pytest.mark.parametrize("name", floors())
def test_nothing_is_imported_from_above(name):
    order = floors()
    place = PACKAGE / name
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    above = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files
        for line, module in imports(path)
        if part(module) in order[order.index(name) + 1 :]
    ]
    assert not above


def test_formats_are_strangers_to_each_other():
    """Writers and judges of one format know no other, but for what Hugging Face's describe.

    One is made of two others: ONNX graphs in Hugging Face's folder.
    """
    made_of = {"transformers_js": ("onnx", "hf")}
    shared = {"ct2.config", "hf.names", "hf.vocabulary", "onnx.read", "ggml.write"}
    found = set()
    for path in (PACKAGE / "formats").glob("*/*.py"):
        for _, module in imports(path):
            first, second, *_ = [*module.split(".")[2:], ""]
            other = first != path.parent.name and (PACKAGE / "formats" / first).is_dir()
            other = other and first not in made_of.get(path.parent.name, ())
            if other and module.startswith("espnet_dq.formats."):
                found.add(f"{first}.{second}")
    assert found <= shared
