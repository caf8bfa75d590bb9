"""First thing in each Python that a test with the fixture `warm` starts: `server.py` becomes it.

`python [-B] [-P] (-m MODULE | -c CODE | FILE.py) ...` is a fork of the server, with this process's
arguments, environment, folder and open files, be they standard or inherited as multiprocessing's
are. This one hands it its signals and waits for its exit code. With other options Python goes on
here.
"""

import os
import sys


def _asked() -> bool:
    given = sys.orig_argv[1:]
    while given[:1] in (["-B"], ["-P"]):
        del given[0]
    if not given or (given[0] == "-c" and "multiprocessing.resource_tracker" in given[1]):
        return False  # which imports next to nothing
    return given[0] in ("-m", "-c") or given[0].endswith(".py")


def _inherited() -> list[int]:
    """Open files beside the standard ones: Python has opened none of its own yet."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # and the one of this list
    return [n for n in numbers if n > 2 and os.path.exists(f"/proc/self/fd/{n}")]


def _become(path: str) -> int:
    import json
    import signal
    import socket

    files = [0, 1, 2, *_inherited()]
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [b"."], files)
        job = {"argv": sys.orig_argv[1:], "safe": sys.flags.safe_path, "cwd": os.getcwd(),
               "files": files, "environ": {**os.environ}}  # fmt: skip
        server.sendall(json.dumps(job).encode() + b"\n")
        for number in files[3:]:
            os.close(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        answer = server.recv(1)
        return answer[0] if answer else 1  # the server has ended


if "ESPNET_DQ_WARM" in os.environ and _asked():
    os._exit(_become(os.environ["ESPNET_DQ_WARM"]))
