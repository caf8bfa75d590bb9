"""Errors that a user sees: one clear line and an exit code, never a traceback.

`InputError` is a mistake in what was given (a file, a line, a key, an option): exit code 2.
`WorkError` is a failure or a mismatch in the work itself: exit code 1.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

# No room: on the disk, within the quota, in the largest file that may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    return re.sub(r"[\0-\x1f\x7f-\x9f]", lambda m: ascii(m[0])[1:-1], str(text))


def end_cleanly(prog: str) -> None:
    """Let SIGTERM and SIGHUP end this process as an error does: what is half-written is removed.

    The exit code is 128 and the signal's number. A second signal ends it at once. Processes that
    this one has forked do so, too, without a word.
    """
    first = os.getpid()

    def end(number: int, _: object) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() == first:  # not by print: another may be at it
            name = signal.Signals(number).name
            with suppress(OSError):
                os.write(2, f"{prog}: ended by {name}\n".encode())
        raise SystemExit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(each, end)


def run(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its code; the only place that prints errors.

    A broken pipe ends quietly, as other Unix tools do; a full disk is named.
    """
    path, prog = os.path.split(sys.argv[0].removesuffix(".py"))
    prog = os.path.basename(path) if prog == "__main__" else prog
    end_cleanly(prog)
    try:
        code = main() or 0
        sys.stdout.flush()
    except DQError as e:
        print(f"{prog}: {one_line(e)}", file=sys.stderr)
        code = e.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as e:
        if e.errno not in (*FULL, errno.EROFS, errno.EACCES):
            raise
        where = f"{e.filename}: " if e.filename else ""
        print(f"{prog}: {where}{e.strerror}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
