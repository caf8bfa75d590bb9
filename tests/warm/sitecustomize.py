"""First thing in each Python that a test with the fixture `warm` starts: `server.py` becomes it.

`python [-P] (-m MODULE | -c CODE | FILE.py) ...` is a fork of the server, with this process's
arguments, environment, folder and open standard files. This one hands it its signals and waits for
its exit code. With other options, and in processes of multiprocessing, Python goes on here.
"""

import os
import sys


def _asked() -> bool:
    given = sys.orig_argv[2 if sys.orig_argv[1:2] == ["-P"] else 1 :]
    # Those of multiprocessing have inherited open files beside the standard ones.
    if not given or (given[0] == "-c" and given[1].startswith("from multiprocessing")):
        return False
    return given[0] in ("-m", "-c") or given[0].endswith(".py")


def _become(path: str) -> int:
    import json
    import signal
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [b"."], [0, 1, 2])
        job = {"argv": sys.orig_argv[1:], "safe": sys.flags.safe_path, "cwd": os.getcwd(),
               "environ": {**os.environ}}  # fmt: skip
        server.sendall(json.dumps(job).encode() + b"\n")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        answer = server.recv(1)
        return answer[0] if answer else 1  # the server has ended


if "ESPNET_DQ_WARM" in os.environ and _asked():
    os._exit(_become(os.environ["ESPNET_DQ_WARM"]))
