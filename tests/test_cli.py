"""`espnet-dq COMMAND`: every command, by its name, without what the others import."""

import argparse
import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import espnet_dq
from espnet_dq import cli

ROOT = Path(__file__).parents[1]
BIN = ROOT / "espnet_dq/bin"


@pytest.fixture(autouse=True)
def program(monkeypatch):
    """`sys.argv`, which the command line changes, is pytest's again afterwards."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/espnet-dq", "transcibe", "a.wav"])


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def test_every_command_is_in_the_table():
    modules = {p.stem for p in BIN.glob("*.py") if "def main" in p.read_text(encoding="utf-8")}
    assert sorted(cli.COMMANDS.values()) == sorted(modules)


def test_help_lists_all_and_imports_no_torch():
    script = (
        "import sys\nfrom espnet_dq.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit as e:\n    assert not e.code\n"
        "assert not {'torch', 'numpy', 'whisper'} & set(sys.modules), 'heavy'\n"
    )
    for option in ("--help", "--version"):
        done = python("-P", "-OO", "-c", script, option)
        assert done.returncode == 0, done.stderr
        if option == "--version":
            assert done.stdout == f"espnet-dq {espnet_dq.__version__}\n"
        else:
            told = {line.split()[0] for line in done.stdout.splitlines() if line[:2] == "  "}
            assert cli.COMMANDS.keys() <= told
    assert all(cli._first_line(module) for module in cli.COMMANDS.values())


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_each_command_is_reached(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert not end.value.code
    assert capsys.readouterr().out.startswith(f"usage: espnet-dq {command} ")
    module = import_module(f"espnet_dq.bin.{cli.COMMANDS[command]}")
    assert isinstance(module.get_parser(), argparse.ArgumentParser)


def test_what_stands_behind_two_dashes_is_passed_on(tmp_path):
    job = ["touch", str(tmp_path / "made.JOB")]
    log = str(tmp_path / "log.JOB")
    done = python("-Pm", "espnet_dq.cli", "jobs", "--nj", "2", "--log", log, "--", *job)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made.1").exists() and (tmp_path / "made.2").exists()


def test_an_unknown_command_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        cli.entry()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("espnet-dq: unknown command 'transcibe': the nearest is transcribe;")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_errors_and_codes_are_the_commands(tmp_path):
    options = ["--from", str(tmp_path / "none.pt"), "--to", "ct2", "--out", str(tmp_path / "out")]
    done = python("-Pm", "espnet_dq.cli", "convert", *options)
    assert done.returncode == 2
    assert done.stderr == f"espnet-dq convert: {tmp_path}/none.pt: no such file\n"


def test_the_console_script():
    ((name, value),) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "scripts"
    ].items()
    assert name == "espnet-dq" and EntryPoint(name, value, "console_scripts").load() is cli.entry


@pytest.mark.slow
def test_it_leaves_the_current_folder_out(tmp_path):
    """As `python -m` of a command does: what PYTHONPATH names relative to it is not imported."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('ran')\n")
    script = tmp_path / "bin" / "espnet-dq"
    script.parent.mkdir()
    script.write_text("from espnet_dq.cli import entry\nentry()\n")
    done = subprocess.run(
        [sys.executable, script, "convert", "--help"], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": f".:{ROOT}", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("usage: espnet-dq convert"), done.stderr


def test_a_command_is_a_parser_and_a_call():
    """What it does is a function elsewhere: `main` is short, and beside it stands its parser."""
    for path in sorted((ROOT / "espnet_dq/bin").glob("*.py")):
        if path.stem in ("__init__", "arguments"):
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        made = {x.name: x for x in body if isinstance(x, ast.FunctionDef | ast.ClassDef)}
        assert made.keys() == {"get_parser", "main"}, path
        main = made["main"].body
        assert main[-1].end_lineno - main[1].lineno < 25, path  # behind the docstring
