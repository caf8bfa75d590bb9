"""DQ-Whisper for ESPnet: distil a small multilingual Whisper while it is quantized."""

import os
import sys

__version__ = "0.1.0"


def _leave_current_folder() -> None:
    """Take the current folder out of `sys.path`, and what PYTHONPATH names relative to it.

    `python -m` puts it first, and a model's folder may hold a `safetensors.py`. The same for all
    Python that is started from here. It stays where this package itself lies, as in a clone that
    is not installed.
    """
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) != home:
        del sys.path[0]
        os.environ["PYTHONSAFEPATH"] = "1"
    named = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [os.path.abspath(p) for p in named if os.path.isabs(p) or os.path.realpath(p) == home]
    foreign = {os.path.abspath(p) for p in named} - {*kept, home}
    sys.path[:] = [p for p in sys.path if p and p not in foreign]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def _open_streams() -> None:
    """Open closed standard streams to nothing: the next file opened would get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


# A command of ours, which `python -m` is looking for: before anything else is imported.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].split(".")[0].endswith("espnet_dq"):
    _leave_current_folder()
    _open_streams()
    from espnet_dq.errors import hook

    sys.excepthook = hook
