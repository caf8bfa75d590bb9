"""Forks commands from a process that has imported what most of them import.

To import torch takes 2 s of a processor, ESPnet 10 s, and the tests of the recipe start some
seventy processes that do. `sitecustomize.py` beside this sends them here. What they do is their
own: arguments, environment, folder and files, signals, what is registered for their end, and an
exit code.

    python -P tests/warm/server.py SOCKET PROCESS

It ends with that process.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from importlib import import_module, reload
from pathlib import Path
from types import ModuleType

IMPORTED = (
    "torch", "whisper", "espnet2.tasks.asr", "scipy.signal", "jiwer", "matplotlib.pyplot",
    "huggingface_hub", "kaldiio", "espnet_dq.recipe.settle", "espnet_dq.api.training",
    "espnet_dq.api.verification", "espnet_dq.data.pack", "espnet_dq.decode.folder",
    "espnet_dq.report.collect", "espnet_dq.report.html", "espnet_dq.distill.teacher_pass",
    "faster_whisper", "onnxruntime", "transformers.models.whisper.modeling_whisper",
    "transformers.processing_utils", "espnet_dq.formats.logits", "espnet_dq.formats.ggml.run",
)  # fmt: skip

MOST_FILES = 253  # as Linux hands them on
APART = 512


def serve(path: str, process: int) -> dict:
    """Answer until a process ends; returns only in a process that is to become a command."""
    ended = os.pidfd_open(process)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.new")
        listening.listen(64)
        os.rename(f"{path}.new", path)  # who waits for it finds it listening
        while True:
            if ended in select.select([listening, ended], [], [])[0]:
                os._exit(0)
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                os.close(ended)
                return _command(client)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _command(client: socket.socket) -> dict:
    """Fork once more: the child returns, the parent ends with it and with who has asked."""
    _, files, _, _ = socket.recv_fds(client, 1, MOST_FILES)
    asked = client.makefile("rb", buffering=0).readline()
    child = os.fork()
    if child == 0:
        client.close()
        job = json.loads(asked)
        # To the numbers that they have there, by way of numbers that none of them has.
        apart = [fcntl.fcntl(file, fcntl.F_DUPFD, APART) for file in files]
        for file in files:
            os.close(file)
        for number, file in zip(job["files"], apart, strict=True):
            os.dup2(file, number)
            os.close(file)
        return job
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    while ended not in (ready := select.select([client, ended], [], [])[0]):
        said = client.recv(1) if ready else b""
        os.kill(child, said[0] if said else signal.SIGKILL)
        if not said:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):  # who has asked was killed
        client.send(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def become(job: dict) -> None:
    """Be `python ARGV`, to its end."""
    os.environ.clear()
    os.environ.update(job["environ"])
    os.chdir(job["cwd"])
    encoding = os.environ.get("PYTHONIOENCODING") or "utf-8"
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115
    how, *rest = sys.orig_argv[1:] = job["argv"]
    while how in ("-B", "-P"):
        how, *rest = rest
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in given if folder and folder not in sys.path]
    if not job["safe"]:
        sys.path.insert(0, os.getcwd() if how in ("-m", "-c") else str(Path(how).parent.resolve()))
    code = 0
    reload(sys.modules["espnet_dq"])  # which sees to the path of each command
    try:
        if how == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(rest[0], vars(main))
        else:
            sys.argv = [how, *rest]
            runpy.run_path(how, run_name="__main__")
    except SystemExit as e:
        code = e.code
    except BaseException as e:
        code = 1
        try:
            sys.excepthook(type(e), e, e.__traceback__)
        except SystemExit as said:  # by the hook of espnet_dq
            code = said.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    # As an interpreter ends, but for what takes a second: to free all that was imported.
    threading._shutdown()
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        file.flush()
    os._exit(code or 0)


gc.disable()  # nothing of what is imported goes away, and to look for it takes a second
for name in IMPORTED:
    import_module(name)
gc.freeze()
gc.enable()
become(serve(sys.argv[1], int(sys.argv[2])))
