"""What the project's files say of each other: dependencies, pins, the version, markers, lengths."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import espnet_dq

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PROJECT["optional-dependencies"].items()
}
UNLOCKED = "page"  # the extra that requirements.lock leaves out, and set-up does not install
# Folder -> the extras that its code may use, beside what `pip install .` brings.
USES = {
    "espnet_dq": ["runtimes"],
    "examples": ["runtimes", "trainer", UNLOCKED],
    "local": ["recipe"],
    "tools": ["dev"],
    "tests": list(EXTRAS),
    "benchmarks": list(EXTRAS),
}
OURS = {*USES, *(path.stem for name in ("benchmarks", "local") for path in (ROOT / name).iterdir())}
LONGEST = 60  # lines of a function, its docstring aside
COMPANIONS = {"_pywhispercpp": "pywhispercpp", "google": "protobuf"}  # shared or private names


def imported(folder: str) -> set[str]:
    """Top-level names of other packages that the code of a folder imports, anywhere in it."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - OURS


@pytest.mark.slow
@pytest.mark.parametrize("folder", USES)
def test_what_is_imported_is_declared(folder):
    declared = {canonicalize_name(r.name) for r in CORE}
    declared |= {canonicalize_name(r.name) for extra in USES[folder] for r in EXTRAS[extra]}
    optional = {r.name for r in EXTRAS[UNLOCKED]} if UNLOCKED in USES[folder] else set()
    if folder == "tests":
        optional |= {"lhotse", "datasets", "gradio_client"}  # importorskip
    if folder == "benchmarks":
        optional |= {"moonshine_onnx", "vosk"}  # of peers.txt
    of = packages_distributions() | {name: [package] for name, package in COMPANIONS.items()}
    for name in sorted(imported(folder) - optional):
        assert declared & {canonicalize_name(x) for x in of.get(name, ())}, name


def test_each_pin_is_in_its_range():
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", lock, re.M))
    locked = EXTRAS.keys() - {UNLOCKED}
    named = re.findall("--extra ([a-z]+)", (ROOT / "tools/setup.sh").read_text())
    assert sorted(named) == sorted(locked)  # what the lock is made of
    for requirement in [*CORE, *(r for extra in locked for r in EXTRAS[extra])]:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin, prereleases=True), f"{requirement}: {pin}"


@pytest.mark.parametrize("folder", ["espnet_dq", "local"])
def test_no_function_is_too_long(folder):
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            parts = [node]
            if ast.get_docstring(node) is not None:
                parts.append(node.body[0])
            whole, *said = (part.end_lineno - part.lineno + 1 for part in parts)
            if (lines := whole - sum(said)) > LONGEST:
                found.append(f"{path.relative_to(ROOT)}: {node.name}: {lines} lines")
    assert not found, "\n".join(found)


def test_one_version():
    assert version("espnet_dq") == espnet_dq.__version__
    headings = re.findall(r"^## .*", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert espnet_dq.__version__ in headings[0]


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(tmp_path):
    source = tmp_path / "source"  # setuptools leaves its own folders beside what it builds
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, tracked):
        if name.startswith(("espnet_dq/", "tests/toys", "local/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('../out'))"],
        cwd=source, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    (wheel,) = (tmp_path / "out").iterdir()
    names = set(subprocess.check_output(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], text=True).split()
    )  # fmt: skip
    code = {name for name in tracked if name.startswith("espnet_dq/")}
    assert code <= names
    info = f"espnet_dq-{espnet_dq.__version__}.dist-info/"
    assert {x for x in names if "/" in x and not x.startswith((info, "espnet_dq/"))} == set()


def test_the_workflow_runs_what_we_run_with_pinned_actions_and_no_secret():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"} and "secrets." not in text
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job and job["steps"][-1] == {"run": ".ci/run"}
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in uses)


def test_the_citation_is_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()
    assert citation["references"][0]["url"].endswith("2305.10788")
    assert "version" not in citation  # said once


OFFENDERS = """
import socket
import subprocess
import sys

import pytest

from espnet_dq.fetch.weights import default_cache, fetch

FETCH = "from espnet_dq.fetch.weights import *; fetch('tiny', default_cache() / 'pt')"
CONNECT = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=5)"

def test_fetches():
    fetch("tiny", default_cache() / "pt")

def test_fetches_in_a_process():
    subprocess.run([sys.executable, "-c", FETCH], check=True)

def test_connects():
    socket.create_connection(("192.0.2.1", 80), timeout=5)

def test_connects_in_a_process():
    subprocess.run([sys.executable, "-c", CONNECT], check=True)

def test_looks_up():
    socket.getaddrinfo("example.org", 80)

@pytest.fixture(scope="session")
def early():
    return socket.create_connection(("192.0.2.1", 80), timeout=5)

def test_connects_in_a_fixture(early):
    pass

def test_does_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()

@pytest.fixture
def speech(clips):
    return clips

def test_speech(speech):
    pass
"""


@pytest.mark.slow
def test_what_is_not_marked_network_has_none(tmp_path):
    """Tests with our `conftest.py`, of which some leave the machine in one way each."""
    (tmp_path / "test_offenders.py").write_text(OFFENDERS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider",
               "-c", "pyproject.toml", "-m", "not network", "-rA", str(tmp_path)]  # fmt: skip
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300).stdout
    outcome = {name: word for word, name in re.findall(
        r"^(PASSED|FAILED|ERROR) \S+::(\w+)", said, re.M)}  # fmt: skip
    assert outcome.pop("test_does_not") == "PASSED", said
    assert len(outcome) == 6 and set(outcome.values()) <= {"FAILED", "ERROR"}, said
