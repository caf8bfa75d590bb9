"""`python -Pm espnet_dq MODULE ARGS...`: register the plug-in, then run any ESPnet module.

A leading `-m` is accepted as well, so that `--python "python3 -m espnet_dq"` works in ESPnet's
own recipes.
"""

import runpy
import sys
from importlib.util import find_spec

from espnet_dq.errors import InputError, WorkError, run, shown


def main() -> None:
    """Run the module that the command line names, as `python -m` would."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["-m"]:
        arguments = arguments[1:]
    if not arguments:
        raise InputError(
            "usage: python -Pm espnet_dq MODULE ARGS..., "
            "for example: python -Pm espnet_dq espnet2.bin.asr_train --help"
        )
    if not _is_module(arguments[0]):
        raise InputError(f"python -Pm espnet_dq: there is no module {shown(arguments[0])}")
    from torch.multiprocessing import ProcessExitedException

    from espnet_dq.task.plugin import register

    register()
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except ProcessExitedException as e:  # of the children that ESPnet spawns, one for each GPU
        raise WorkError(
            f"process {e.error_index} of the training has ended "
            f"({e.signal_name or f'exit code {e.exit_code}'}): what it said, if anything, stands "
            "above; the same command goes on from the last finished epoch"
        ) from e


def _is_module(name: str) -> bool:
    """Whether there is one to run, found without running it; packages that hold it are imported."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # no such package before it; an empty or a relative name
        return False


if __name__ == "__main__":
    run(main)
