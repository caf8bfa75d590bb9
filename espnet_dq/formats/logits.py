"""What a runtime computes from a model file: logits of texts that are given, for `verify`.

The audio is a window of noise, once as it is and once louder by a millionth, which tells how far a
runtime's own rounding carries. Two texts of random tokens reach all positions of the decoder: the
first begins with the prompt, the second has another text before it. Behind each prompt stand as
many tokens as every runtime decodes at most, half of the context.

A runtime with native code of its own is a process of its own (`python -Pm
espnet_dq.formats.logits`), since it may end with the process on a file that it does not like.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from espnet_dq.errors import first_line, no_memory
from espnet_dq.formats.format import Format

LOUDER = 1e-6
# Exit codes of the process: the runtime is not there, or not enough memory.
NOT_INSTALLED, NO_MEMORY = 3, 4
_SAMPLES = 320  # of audio, a position of the encoder


@dataclass(frozen=True)
class Probe:
    """Audio and texts.

    Attributes:
        mels: (2, n_mels, frames) float32: a window, and the same louder by `LOUDER`.
        texts: token ids; the last `count` of each are behind the prompt.
        count: how many logits of each text are asked for: those after the prompt's last token and
            after the `count` - 1 following ones.
        n_vocab: size of the vocabulary.
        n_text_ctx: the decoder's positions.
        shape: (decoder layers, width), of the caches that ONNX graphs take.
    """

    mels: np.ndarray
    texts: list[list[int]]
    count: int
    n_vocab: int
    n_text_ctx: int
    shape: tuple[int, int]


_FACTS = ("texts", "count", "n_vocab", "n_text_ctx", "shape")  # of a probe, beside its audio


def make_probe(dims) -> Probe:
    """The audio and the texts for a model; always the same for the same `dims`."""
    import whisper
    from torch import from_numpy

    from espnet_dq.whisper.dims import any_tokenizer

    random, tokenizer = np.random.default_rng(0), any_tokenizer(dims)
    audio = random.normal(0, 0.1, _SAMPLES * dims.n_audio_ctx).astype(np.float32)
    mels = [
        whisper.log_mel_spectrogram(from_numpy(audio * np.float32(gain)), dims.n_mels).numpy()
        for gain in (1.0, 1.0 + LOUDER)
    ]
    prompt, count = [*tokenizer.sot_sequence_including_notimestamps], dims.n_text_ctx // 2

    def some(n: int) -> list[int]:
        return random.integers(tokenizer.eot, size=n).tolist()

    texts = [prompt + some(count)]
    before = dims.n_text_ctx - count - len(prompt) - 1
    if before > 0:
        texts.append([tokenizer.sot_prev, *some(before), *prompt, *some(count)])
    shape = dims.n_text_layer, dims.n_text_state
    return Probe(np.stack(mels), texts, count, dims.n_vocab, dims.n_text_ctx, shape)


def run(form: Format, path: Path, probe: Probe) -> np.ndarray | str:
    """Logits that the format's runtime computes.

    Returns:
        (2, texts, count, n_vocab) float32; or, if there are none, why, in one line that begins
        with `not run` if only the runtime is not installed.

    Raises:
        MemoryError: there is not enough of it, here or in the process that runs it.
    """
    if not form.isolated:
        try:
            return form.logits(path, probe)
        except Exception as e:  # of no common base
            if no_memory(e):
                raise
            if _is_absence(form, e):
                return f"not run: {form.engine} is not installed"
            return f"{form.engine} does not run it: {first_line(e)}"
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch) / "probe", Path(scratch) / "logits"
        probe.mels.astype("<f4").tofile(asked)
        shape = 2, len(probe.texts), probe.count, probe.n_vocab
        facts = [probe.mels.shape, *(getattr(probe, field) for field in _FACTS)]
        command = [sys.executable, "-P", "-m", "espnet_dq.formats.logits"]
        command += [type(form).__module__, type(form).__qualname__]
        done = subprocess.run(
            [*command, str(path), str(asked), str(answer)],
            input=json.dumps(facts).encode(),  # texts may be longer than an argument can be
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
        if done.returncode == NO_MEMORY:
            raise MemoryError(f"{form.engine}: {path}")
        if done.returncode == NOT_INSTALLED:
            return f"not run: {form.engine} is not installed"
        if done.returncode or not answer.is_file():
            return f"{form.engine} does not run it (exit code {done.returncode}): {said[0][:160]}"
        found = np.fromfile(answer, "<f4")
        if found.size != math.prod(shape):
            return f"{form.engine} gives {found.size} logits, not {math.prod(shape)}"
        return found.reshape(shape)


def of_model(model, probe: Probe, mels: np.ndarray) -> np.ndarray:
    """The same of openai-whisper's model in torch, (audio, texts, count, n_vocab) float32."""
    import torch

    found = []
    with torch.inference_mode():
        for mel in mels:
            features = model.encoder(torch.from_numpy(mel)[None])
            logits = [model.decoder(torch.tensor([text]), features)[0] for text in probe.texts]
            found.append([rows[-probe.count - 1 : -1].float().numpy() for rows in logits])
    return np.array(found)


def _is_absence(form: Format, error: Exception) -> bool:
    """Whether the runtime is not installed, and not only something that a file asks it for."""
    named = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0]
    return bool(named) and named == form.package and find_spec(named) is None


def _main(module: str, name: str, path: str, asked: str, answer: str) -> int:
    form: Format = getattr(import_module(module), name)()
    shape, *rest = json.load(sys.stdin)
    probe = Probe(np.fromfile(asked, "<f4").reshape(shape), **dict(zip(_FACTS, rest, strict=True)))
    try:
        logits = form.logits(Path(path), probe)
    except Exception as e:  # each runtime raises its own, of no common base
        if no_memory(e):
            return NO_MEMORY
        if _is_absence(form, e):
            return NOT_INSTALLED
        print(first_line(e), file=sys.stderr)
        return 1
    logits.astype("<f4").tofile(answer)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
