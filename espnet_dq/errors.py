"""Errors that a user sees: one clear line and an exit code, never a traceback.

`InputError` is a mistake in what was given (a file, a line, a key, an option): exit code 2.
`WorkError` is a failure or a mismatch in the work itself: exit code 1.
"""

import contextlib
import errno
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import TracebackType, UnionType
from typing import TextIO

# No room: on the disk, within the quota, in the largest file that may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Names that cannot be opened as what they are taken for.
WRONG_NAME = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
# What Python, torch, CTranslate2, ONNX Runtime and the loader say when there is none left.
NO_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "bad allocation",
             "failed to map segment", "can't start new thread")  # fmt: skip
# Of a terminal, of lines, of writing direction and of nothing to see; half of a character.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}

LONGEST = 2000  # letters of an error

PATH = str | os.PathLike  # for `check_kind`


class DQError(Exception):
    """Base of the errors that commands print as one line."""

    exit_code = 1


class InputError(DQError):
    """Bad input: names the file, the line or the key that is wrong."""

    exit_code = 2


class WorkError(DQError):
    """The work failed or found a mismatch: says what and where."""

    exit_code = 1


def one_line(text: object) -> str:
    """A text with names of others in it, for the screen: one line that no terminal obeys."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in HIDDEN else c for c in str(text))


def shown(value: object) -> str:
    """What a file says where it should say something else, short enough for a line.

    Of a list or a table only the kind: it may hold itself, or a billion others.
    """
    if isinstance(value, str):
        return repr(value[:40] + "..." * (len(value) > 40))
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if type(value) is int:  # Python prints no huge ones
        return repr(value) if value.bit_length() < 128 else "a huge number"
    return f"a {type(value).__name__}"


def check_kind(key: str, value: object, kinds: type | UnionType, what: str) -> None:
    """Raise an `InputError` that names `key` unless `value` is of these kinds: `what`, in words."""
    if not isinstance(value, kinds):
        raise InputError(f"{key}: {shown(value)} is not {what}")
    if isinstance(value, str) and not value and isinstance(PurePath(), kinds):
        # Path("") would be the current folder.
        raise InputError(f"{key}: is empty")


def first_line(error: BaseException) -> str:
    """What an error of a package says, or else its name, in one line of at most 500 letters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


@contextlib.contextmanager
def named(where: object) -> Iterator[None]:
    """Put before what an `InputError` says where that is: a file, a line, an option."""
    try:
        yield
    except InputError as e:
        raise InputError(f"{where}: {e}") from e


def say(text: object, file: TextIO | None = None) -> None:
    """Print what may hold names of others, as one line."""
    print(one_line(text), file=file)


class _Output:
    """A standard stream that names itself in an error, or that nobody needs (`needed`)."""

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self._stream, self._needed = stream, needed
        self._failed: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with self._careful():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._failed:  # argparse passes over what fails
            raise self._failed
        with self._careful():
            self._stream.flush()

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            # What is left in it goes nowhere, or Python would stumble on it in the end.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if self._needed:
                e.filename, self._failed = "standard output", e
                raise

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


AGAIN = 0.1  # seconds until a signal is asked for again that a package has swallowed


class _Ending:
    """How a signal ends this process: as an error that is raised until `run` has it.

    Python swallows what a handler raises in a destructor or a callback of a package, and a package
    may in a bare `except`. Not repeated while what is half-written is removed.
    """

    def __init__(self) -> None:
        self.first, self.error, self.repeated = os.getpid(), None, False
        self.unraisable = sys.unraisablehook
        usual = (signal.SIG_DFL, signal.default_int_handler)  # nohup ignores SIGHUP
        signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        self.before = {n: how for n in signals if (how := signal.getsignal(n)) in usual}
        for number in self.before:
            signal.signal(number, self.handle)

    def handle(self, number: int, _: object = None) -> None:
        """The first signal is told, and raised. A second one of its kind ends all at once."""
        alike = (number,) if number == signal.SIGINT else (signal.SIGTERM, signal.SIGHUP)
        for each in alike:
            if signal.getsignal(each) == self.handle:
                signal.signal(each, self.before[each])
        if self.error is not None:  # of the other kind
            return
        self.error = SystemExit(128 + number)
        if number == signal.SIGINT:
            self.error = KeyboardInterrupt()  # `run` tells of it
        if os.getpid() == self.first:
            if number != signal.SIGINT:
                name = signal.Signals(number).name
                with contextlib.suppress(OSError):  # not by print: another may be at it
                    os.write(2, f"{one_line(program())}: ended by {name}\n".encode())
            sys.unraisablehook, self.repeated = self._silent, True
            signal.signal(signal.SIGALRM, self._again)
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise self.error

    def _again(self, *_: object) -> None:
        if self.repeated and not any(e is self.error for e in _causes(sys.exception())):
            raise self.error

    def _silent(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_value is not self.error:
            self.unraisable(unraisable)

    def over(self) -> None:
        """Nothing is raised any more, and signals do what they did before."""
        if self.repeated:
            # Its handler stays, and does nothing: one more may be on its way.
            self.repeated = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.unraisablehook = self.unraisable
        for number, how in self.before.items():
            if signal.getsignal(number) == self.handle:
                signal.signal(number, how)


def run(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its code; the only place that prints errors.

    What the machine or the user does wrong is one line: no room, no memory, files that cannot be
    opened, an interrupt. A broken pipe ends quietly, as other Unix tools do. A traceback is a fault
    of ours.

    SIGTERM and SIGHUP end it as an error does, so what is half-written is removed; the exit code is
    128 and the signal's number. Processes that this one has forked do so, too, without a word.
    """
    ending = _Ending()
    # Closed: what is printed is an error, as of other tools; what is said to stderr is not.
    out = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    err = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    with (
        contextlib.redirect_stdout(_Output(out, needed=True)),
        contextlib.redirect_stderr(_Output(err, needed=False)),
    ):
        try:
            try:
                code = main() or 0
            except SystemExit as e:  # argparse's, which has said all, or a signal's
                code = e.code
            sys.stdout.flush()
            if ending.error is not None:  # swallowed, and all was done before it came again
                raise ending.error
        except BaseException as e:
            error = ending.error or e  # a package may have made another one of it
            code = error.code if isinstance(error, SystemExit) else _told(error)
            if code is None:
                raise
        finally:
            ending.over()
    sys.exit(code)


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.excepthook`: what `run` does, for errors while a command is imported."""
    code = _told(error)
    if code is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.exit(code)


def _told(error: BaseException) -> int | None:
    """Say what went wrong; the exit code, or None of an error that nobody thought of."""
    known = _known(error)
    if known is None:
        return None
    code, line = known
    prog = program()
    if line and sys.stderr:
        with contextlib.suppress(OSError):
            say(shortened(f"{prog}: {line}"), sys.stderr)
    return code


def shortened(line: str) -> str:
    """A line without its middle where that is long: names of others may have any length."""
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[:half]} [...] {line[-half:]}"


def program() -> str:
    """What this command is called in messages."""
    path, prog = os.path.split(sys.argv[0].removesuffix(".py"))
    return os.path.basename(path) if prog == "__main__" else prog


def _known(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the line of an error."""
    if any(map(no_memory, _causes(error))):
        return 1, "not enough memory"
    if isinstance(error, DQError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, RecursionError):
        return 1, "what is read is nested too deep"
    if isinstance(error, UnicodeEncodeError):
        return 2, f"{error.object!a}: cannot be written as {error.encoding}"
    if isinstance(error, OSError):
        return _of_system(error)
    return None


def _of_system(error: OSError) -> tuple[int, str]:
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    if isinstance(error, BrokenPipeError) and name == "standard output":
        return 1, ""
    code = 2 if error.errno in WRONG_NAME and isinstance(name, str) and _given(error) else 1
    # Errors of packages may hold a traceback of another process, whose last line says it.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    why = error.strerror or lines[-1 if "Traceback" in str(error) else 0]
    return code, why if name is None else f"{name}: {why}"


def _given(error: OSError) -> bool:
    """Whether a name stands in the command line, however written, or is below a file there."""
    words = (w.partition("=")[2] if w.startswith("--") else w for w in sys.argv[1:])
    try:
        path = PurePath(os.path.abspath(os.fsdecode(error.filename)))
        places = {path, *(path.parents if error.errno == errno.ENOTDIR else ())}
        return any(PurePath(os.path.abspath(word)) in places for word in words if word)
    except OSError:  # the current folder is gone
        return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """It, and all that it was raised from or while that was handled."""
    left, seen = [error], set()
    while left:
        if (one := left.pop()) is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__context__, one.__cause__]


def no_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, in the words of whoever asked for it."""
    if isinstance(error, MemoryError):
        return True
    told = isinstance(error, Exception) and not isinstance(error, DQError)
    return told and any(words in str(error) for words in NO_MEMORY)
