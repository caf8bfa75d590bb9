"""`python -m espnet_dq MODULE ARGS...`: register the plug-in, then run any ESPnet module.

A leading `-m` is accepted as well, so that `--python "python3 -m espnet_dq"` works in ESPnet's
own recipes.
"""

import runpy
import sys

from espnet_dq.errors import InputError, run


def main() -> None:
    """Run the module that the command line names, as `python -m` would."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["-m"]:
        arguments = arguments[1:]
    if not arguments:
        raise InputError(
            "usage: python -m espnet_dq MODULE ARGS..., "
            "for example: python -m espnet_dq espnet2.bin.asr_train --help"
        )
    from espnet_dq.plugin import register

    register()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(main)
