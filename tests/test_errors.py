import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np
import pytest

from espnet_dq.errors import PATH, InputError, _causes, check_kind, one_line, run


def test_an_error_is_one_line_whatever_is_in_a_name(capsys):
    def main():
        raise InputError("Größe/\x1b]0;title\x07 a\nb\r\u009b2J: broken")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(": Größe/\\x1b]0;title\\x07 a\\nb\\r\\x9b2J: broken\n")


def test_an_error_has_an_end(capsys):
    """Names of others may be longer than a screen; what the line begins and ends with is shown."""

    def main():
        raise InputError(f"x.yaml: {'a' * 100_000}: is too long")

    with pytest.raises(SystemExit):
        run(main)
    said = capsys.readouterr().err
    assert ": x.yaml: aaa" in said and said.endswith("aaa: is too long\n") and len(said) < 2100


@pytest.mark.parametrize("character", ["\u202e", "\u2028", "\u200b", "\ufeff", "\udc9b", "\x85"])
def test_nothing_hidden_in_a_name_is_shown_as_it_is(character):
    assert one_line(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files", "a\x1bb"), 1, "a\\x1bb: Too many open files"),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error"),
        (FileNotFoundError(errno.ENOENT, "No such file", "given"), 2, "given: No such file"),
        (FileNotFoundError(errno.ENOENT, "No such file", "ours"), 1, "ours: No such file"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 2, "a/b: No such file"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b/c"), 1, "a/b/c: No such file"),
        (NotADirectoryError(errno.ENOTDIR, "No folder", "a/b/c"), 2, "a/b/c: No folder"),
        (NotADirectoryError(errno.ENOTDIR, "No folder", "a/c"), 1, "a/c: No folder"),
        (IsADirectoryError(errno.EISDIR, "A folder", "d/e"), 2, "d/e: A folder"),
        (FileNotFoundError(errno.ENOENT, "No such file", os.path.abspath("g")), 2,
         f"{os.path.abspath('g')}: No such file"),
        (NotADirectoryError(errno.ENOTDIR, "No folder", 7), 1, "7: No folder"),  # a descriptor
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory"),
        (RuntimeError("std::bad_alloc"), 1, "not enough memory"),
        (RecursionError(), 1, "what is read is nested too deep"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_conditions_of_the_machine_are_one_line(monkeypatch, capsys, error, code, said):
    def main():
        raise error

    monkeypatch.setattr("sys.argv", ["x/command.py", "given", "./a//b", "--out=d//e", "", "f/../g"])
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err == f"command: {said}\n"


def test_a_missing_file_is_said_where_the_current_folder_is_gone(tmp_path, monkeypatch, capsys):
    def main():
        raise FileNotFoundError(errno.ENOENT, "No such file", "here")

    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith(": here: No such file\n")


def test_nothing_is_no_path_and_an_array_is_no_text():
    check_kind("shares", np.array([0.5, 0.5]), Iterable | None, "numbers")
    check_kind("prompt", "", str, "a text")
    for kinds in (PATH, PATH | None, PATH | Iterable):
        check_kind("data", "a", kinds, "a folder")
        with pytest.raises(InputError, match=r"^data: is empty$"):
            check_kind("data", "", kinds, "a folder")


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError):
        run(lambda: {}["what"])


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">&-", 1, "standard output: Bad file descriptor"),
        ("> /dev/full", 1, "standard output: No space left on device"),
        ("| :", 1, None),
        ("2>&-", 0, None),
        ("2> /dev/full", 0, None),
    ],
)
@pytest.mark.parametrize("options", ["", "--help"])
def test_streams_that_take_nothing(tmp_path, redirected, code, said, options):
    script = tmp_path / "command.py"
    script.write_text(
        "import argparse, sys, time\nfrom espnet_dq.errors import run\n"
        "def main():\n    time.sleep(0.2)\n    argparse.ArgumentParser().parse_args()\n"
        "    print('to stderr', file=sys.stderr)\n    print('done')\n"
        "run(main)\n"
    )
    line = f'"{sys.executable}" "{script}" {options} {redirected}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    lines = [x for x in done.stderr.splitlines() if x != "to stderr"]
    assert lines == ([f"command: {said}"] if said else [])


SIGNAL = """
import atexit, os, signal, sys, time
from espnet_dq.errors import run

number = int(sys.argv[1])


class Package:
    def __del__(self):
        os.kill(os.getpid(), number)
        sum(range(10**6))  # where the handler is called


def destructor():
    Package()
    time.sleep(20)
    print("went on")


def bare():
    try:
        os.kill(os.getpid(), number)
        time.sleep(1)
    except:
        pass
    time.sleep(20)
    print("went on")


def another():
    try:
        os.kill(os.getpid(), number)
        time.sleep(1)
    except BaseException as e:
        raise RuntimeError("of a package") from e


def done():
    Package()
    print("done")


def cleaning():
    try:
        destructor()
    finally:
        time.sleep(0.5)  # longer than until it comes again
        print("cleaned")


def ending():  # behind the command
    atexit.register(lambda: (os.kill(os.getpid(), number), sum(range(10**6)), time.sleep(0.4)))


run(globals()[sys.argv[2]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["destructor", "bare", "another", "done", "cleaning"])
def test_a_signal_that_a_package_swallows_comes_again(number, how, tmp_path):
    """And what is half-written is removed in peace."""
    (tmp_path / "command.py").write_text(SIGNAL)
    done = subprocess.run(
        [sys.executable, "-P", str(tmp_path / "command.py"), str(int(number)), how],
        capture_output=True, text=True, timeout=15,
    )  # fmt: skip
    said = "ended by SIGTERM" if number == signal.SIGTERM else "interrupted"
    assert (done.returncode, done.stderr) == (128 + number, f"command: {said}\n")
    assert done.stdout == {"cleaning": "cleaned\n", "done": "done\n"}.get(how, "")


def test_behind_the_command_signals_do_what_they_did(tmp_path):
    (tmp_path / "command.py").write_text(SIGNAL)
    command = [sys.executable, "-P", str(tmp_path / "command.py"), "15", "ending"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    hook = sys.unraisablehook
    for main in (lambda: 0, lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)):
        with pytest.raises(SystemExit):
            run(main)
        assert {n: signal.getsignal(n) for n in before} == before and sys.unraisablehook is hook
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_causes_in_a_circle_end():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert [*_causes(first)] == [first, second]
    second.__context__ = third = MemoryError()
    assert {*_causes(first)} == {first, second, third}
