"""A runtime in a process of its own, for `fuzz_verify.py`: it may end with it, or hang."""

import multiprocessing
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe
from espnet_dq.formats.registry import FORMATS

LIMIT = 20  # seconds for one file, or five times what the original takes
PRELOADED = {
    "ct2": ["faster_whisper"],
    "hf": ["transformers.models.whisper.modeling_whisper", "transformers.processing_utils"],
    "onnx": ["onnxruntime"],
    "transformers_js": ["onnxruntime"],
}


@dataclass(frozen=True, eq=False)
class Output:
    """What a runtime makes of a file."""

    logits: np.ndarray  # (2, texts, count, n_vocab) float32
    texts: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Output)
            and self.texts == other.texts
            and self.logits.shape == other.logits.shape
            and self.logits.tobytes() == other.logits.tobytes()
        )


class Worker:
    """Gives the output of files, or why there is none."""

    def __init__(self, form: str, path: Path, probe: Probe) -> None:
        self.form, self.probe = form, probe
        self.process, self.limit = None, None
        began = time.monotonic()
        self.original = self.output(path)
        self.limit = max(LIMIT, 5 * (time.monotonic() - began))
        if isinstance(self.original, str) or self.output(path) != self.original:
            raise RuntimeError(f"the original gives no steady output: {self.original!s:.200}")

    def output(self, path: Path) -> Output | str:
        if self.process is None or not self.process.is_alive():
            # After a crash another process is there at once, with what takes seconds to import.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["torch", "whisper", *PRELOADED.get(self.form, [])])
            self.pipe, theirs = context.Pipe()
            args = (theirs, self.form, self.probe)
            self.process = context.Process(target=_serve, args=args, daemon=True)
            self.process.start()
            theirs.close()
            self.pipe.recv()  # it is ready: now seconds count; EOFError if it cannot be
        self.pipe.send(str(path))
        try:
            if self.pipe.poll(self.limit):
                return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return f"it ended with code {self.process.exitcode}"
        self.close()
        return "it hung"

    def close(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe, form: str, probe: Probe) -> None:
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # one order of sums
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    pipe.send("ready")
    while True:
        path = Path(pipe.recv())
        try:
            pipe.send(_output(form, path, probe))
        except Exception as e:  # runtimes raise their own
            pipe.send(f"{type(e).__name__}: {str(e)[:200]}")


def _output(form: str, path: Path, probe: Probe) -> Output:
    from espnet_dq.formats import logits
    from espnet_dq.runtimes import load_runtime

    if form == "packed":
        from whisper.model import Whisper

        from espnet_dq.formats import detect

        weights = detect.load(path)
        model = Whisper(weights.dims).eval()
        model.load_state_dict(weights.state)
        found = logits.of_model(model, probe, probe.mels)
    else:
        found = FORMATS[form].logits(path, probe)
    seconds = probe.mels.shape[-1] / 100
    noise = np.random.default_rng(1).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)
    engine = load_runtime(FORMATS[form].runtime, path, threads=1, nj=1)
    language = engine.detect(noise)[0] if len(engine.languages) > 1 else "en"
    segments = engine.transcribe(noise, language, timestamps=False)
    texts = [said.text for said in engine.decode([noise], "de")]
    return Output(found, (language, *(s.text for s in segments), *texts))
