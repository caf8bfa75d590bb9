"""Python reads this at its start: count renames, and kill everything at a chosen one.

FAULTS_RENAMES names a file that gets a byte for each; with FAULTS_AT, before the rename that
would make it that long or, if it is negative, after it, all of the process group is killed.
"""

import os
import signal

_counter, _at = os.environ["FAULTS_RENAMES"], int(os.environ.get("FAULTS_AT", "0"))


def _watched(rename):
    def run(*args, **kwargs):
        with open(_counter, "ab") as file:
            file.write(b".")
            count = file.tell()
        if count == _at:
            os.killpg(0, signal.SIGKILL)
        result = rename(*args, **kwargs)
        if count == -_at:
            os.killpg(0, signal.SIGKILL)
        return result

    return run


os.rename, os.replace = _watched(os.rename), _watched(os.replace)
