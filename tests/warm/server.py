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


class Command:
    """A process that has become a command, and the connection to who has asked for it."""

    def __init__(self, client: socket.socket, process: int):
        self.client, self.process, self.ended = client, process, os.pidfd_open(process)

    def heard(self) -> bool:
        """Hand on a signal; False if who has asked has ended, and with it the command."""
        try:
            said = self.client.recv(1)
        except ConnectionError:
            said = b""
        os.kill(self.process, said[0] if said else signal.SIGKILL)
        return bool(said)

    def end(self) -> None:
        """Wait for its end, and say its exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        with contextlib.suppress(OSError):  # who has asked was killed
            self.client.send(bytes([code if code >= 0 else 128 - code]))
        self.close()

    def close(self) -> None:
        self.client.close()
        os.close(self.ended)


def serve(path: str, process: int) -> dict:
    """Answer until a process ends; returns only in a process that is to become a command."""
    ended, running = os.pidfd_open(process), []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.new")
        listening.listen(64)
        os.rename(f"{path}.new", path)  # who waits for it finds it listening
        while True:
            files = [file for each in running for file in (each.ended, each.client)]
            ready = select.select([listening, ended, *files], [], [])[0]
            if ended in ready:
                for each in running:
                    os.kill(each.process, signal.SIGKILL)
                os._exit(0)
            for each in running[:]:
                if each.ended in ready or (each.client in ready and not each.heard()):
                    each.end()
                    running.remove(each)
            if listening not in ready:
                continue
            client, _ = listening.accept()
            _, given, _, _ = socket.recv_fds(client, 1, MOST_FILES)
            asked = client.makefile("rb", buffering=0).readline()
            child = os.fork() if asked else -1  # or who asks was killed
            if child == 0:
                for each in running:
                    each.close()
                os.close(ended)
                listening.close()
                client.close()
                return _take(json.loads(asked), given)
            for file in given:
                os.close(file)
            if child > 0:
                running.append(Command(client, child))


def _take(job: dict, given: list[int]) -> dict:
    """The job, its files at the numbers that they have there, by way of some that none has."""
    apart = [fcntl.fcntl(file, fcntl.F_DUPFD, APART) for file in given]
    for file in given:
        os.close(file)
    for number, file in zip(job["files"], apart, strict=True):
        os.dup2(file, number)
        os.close(file)
    return job


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
