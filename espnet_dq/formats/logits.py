"""What a runtime computes from a model file: logits of texts that are given, for `verify`.

The audio is a window of noise, once as it is and once louder by a millionth, which tells how far a
runtime's own rounding carries. Two texts of random tokens reach all positions of the decoder: the
first begins with the prompt, the second has another text before it. Behind each prompt stand as
many tokens as every runtime decodes at most, half of the context.

A runtime with native code of its own is a process of its own (`python -Pm
espnet_dq.formats.logits`), since it may end with the process on a file that it does not like.
"""

import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

import numpy as np

LOUDER = 1e-6
NOT_INSTALLED = 3  # exit code of the process where the runtime is not there
_SAMPLES = 320  # of audio, a position of the encoder

# What is asked for the logits of each format.
RUNTIMES = {
    "openai": "openai-whisper",
    "ct2": "CTranslate2",
    "ggml": "whisper.cpp",
    "hf": "transformers",
    "onnx": "ONNX Runtime",
}
_IN_TORCH = ("openai", "hf")  # Python that calls torch: what it does not like it raises


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


def run(form: str, path: Path, probe: Probe) -> np.ndarray | str:
    """Logits that the format's runtime computes.

    Returns:
        (2, texts, count, n_vocab) float32; or, if there are none, why, in one line that begins
        with `not run` if only the runtime is not installed.
    """
    if form in _IN_TORCH:
        try:
            return of_file(form, path, probe)
        except ImportError as e:
            return f"not run: {_missing(form, e)}"
        except Exception as e:  # of no common base
            return f"{RUNTIMES[form]} does not run it: {_first_line(e)[:160]}"
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch) / "probe", Path(scratch) / "logits"
        probe.mels.astype("<f4").tofile(asked)
        shape = 2, len(probe.texts), probe.count, probe.n_vocab
        facts = [probe.mels.shape, *(getattr(probe, field) for field in _FACTS)]
        module = ["-P", "-m", "espnet_dq.formats.logits"]
        done = subprocess.run(
            [sys.executable, *module, form, str(path), str(asked), str(answer), json.dumps(facts)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
        if done.returncode == NOT_INSTALLED:
            return f"not run: {said[0]}"
        if done.returncode or not answer.is_file():
            return (
                f"{RUNTIMES[form]} does not run it (exit code {done.returncode}): {said[0][:160]}"
            )
        found = np.fromfile(answer, "<f4")
        if found.size != math.prod(shape):
            return f"{RUNTIMES[form]} gives {found.size} logits, not {math.prod(shape)}"
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


def of_file(form: str, path: Path, probe: Probe) -> np.ndarray:
    """As `run`, in this process; raises whatever the runtime does, or takes the process with it."""
    return _BY_FORMAT[form](path, probe)


def _threads() -> int:
    """As torch takes them."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def _openai(path: Path, probe: Probe) -> np.ndarray:
    import whisper

    # Absolute: of a file that is called `tiny` it would fetch OpenAI's.
    model = whisper.load_model(str(path.absolute()), device="cpu")
    return of_model(model, probe, probe.mels)


def _ctranslate2(path: Path, probe: Probe) -> np.ndarray:
    """In float32: in 8 bits, activations are rounded so that the last bit of a sum moves logits."""
    import ctranslate2

    ctranslate2.set_log_level(40)
    model = ctranslate2.models.Whisper(
        str(path), device="cpu", compute_type="float32", intra_threads=_threads()
    )
    found = []
    for mel in probe.mels:
        audio = model.encode(ctranslate2.StorageView.from_array(mel[None]))
        rows = []
        for text in probe.texts:
            # The tokens behind the prompt are forced, and their logits returned.
            (result,) = model.generate(
                audio, [text], beam_size=1, return_logits_vocab=True, suppress_blank=False,
                suppress_tokens=[], max_length=probe.n_text_ctx,
            )  # fmt: skip
            rows.append(np.stack([np.array(each) for each in result.logits[0]]))
        found.append(rows)
    return np.array(found)


def _transformers(path: Path, probe: Probe) -> np.ndarray:
    import torch
    from transformers import WhisperForConditionalGeneration
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = WhisperForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise ValueError(f"{kind}: {sorted(map(str, info[kind]))[0]}")
    model.eval()
    found = []
    with torch.inference_mode():
        for mel in probe.mels:
            audio = model.get_encoder()(torch.from_numpy(mel)[None])
            logits = [
                model(encoder_outputs=audio, decoder_input_ids=torch.tensor([text])).logits[0]
                for text in probe.texts
            ]
            found.append([rows[-probe.count - 1 : -1].numpy() for rows in logits])
    return np.array(found)


def _onnx(path: Path, probe: Probe) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    encoder, decoder = (
        onnxruntime.InferenceSession(
            path / f"{side}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for side in ("encoder", "decoder")
    )
    layers, width = probe.shape
    names = [value.name for value in decoder.get_inputs()]
    found = []
    for mel in probe.mels:
        cross = encoder.run(None, {"mel": mel[None]})
        rows = []
        for text in probe.texts:
            tokens = np.array([text])
            caches = [np.zeros((layers, 1, probe.n_text_ctx, width), np.float32)] * 2
            start = len(text) - probe.count
            # The prompt, then the rest, as sherpa-onnx gives them: into a cache of full length.
            inputs = [tokens[:, :start], *caches, *cross, np.array([0])]
            first, *caches = decoder.run(None, dict(zip(names, inputs, strict=True)))
            inputs = [tokens[:, start:-1], *caches, *cross, np.array([start])]
            rest = decoder.run(None, dict(zip(names, inputs, strict=True)))[0]
            rows.append(np.concatenate([first[0, -1:], rest[0]]))
        found.append(rows)
    return np.array(found)


class _ContextParams(ctypes.Structure):
    """whisper.h's `whisper_context_params`."""

    _fields_ = (
        ("use_gpu", ctypes.c_bool),
        ("flash_attn", ctypes.c_bool),
        ("gpu_device", ctypes.c_int),
        ("dtw_token_timestamps", ctypes.c_bool),
        ("dtw_aheads_preset", ctypes.c_int),
        ("dtw_n_top", ctypes.c_int),
        ("n_heads", ctypes.c_size_t),
        ("heads", ctypes.c_void_p),
        ("dtw_mem_size", ctypes.c_size_t),
    )


def whisper_cpp() -> ctypes.CDLL:
    """The C library that pywhispercpp brings; its Python functions give one logit of a row."""
    import _pywhispercpp  # noqa: F401  loads what the library needs

    (path,) = (
        f.locate() for f in files("pywhispercpp")
        if f.parent.name == "pywhispercpp.libs" and f.name.startswith("libwhisper")
    )  # fmt: skip
    lib = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lib.whisper_context_default_params.restype = _ContextParams
    lib.whisper_init_from_file_with_params.restype = pointer
    lib.whisper_init_from_file_with_params.argtypes = [ctypes.c_char_p, _ContextParams]
    lib.whisper_set_mel.argtypes = [pointer, pointer, number, number]
    lib.whisper_encode.argtypes = [pointer, number, number]
    lib.whisper_decode.argtypes = [pointer, pointer, number, number, number]
    lib.whisper_get_logits.argtypes = [pointer]
    lib.whisper_get_logits.restype = ctypes.POINTER(ctypes.c_float)
    lib.whisper_free.argtypes = [pointer]
    return lib


def _whisper_cpp(path: Path, probe: Probe) -> np.ndarray:
    """Without flash attention, which attends to positions behind the audio (known there)."""
    lib, threads = whisper_cpp(), _threads()
    params = lib.whisper_context_default_params()
    if params.gpu_device != 0 or params.dtw_n_top != -1:
        raise RuntimeError("whisper.cpp's parameters have another layout")
    params.use_gpu, params.flash_attn = False, False
    context = lib.whisper_init_from_file_with_params(os.fsencode(path), params)
    if not context:
        raise ValueError("it does not load")
    found = []
    for mel in probe.mels:
        mel = np.ascontiguousarray(mel, np.float32)
        codes = [lib.whisper_set_mel(context, mel.ctypes.data, mel.shape[1], mel.shape[0])]
        codes.append(lib.whisper_encode(context, 0, threads))
        texts = []
        for text in probe.texts:
            ids, rows, past = np.array(text, np.int32), [], 0
            start = len(text) - probe.count
            for size in (start, *[1] * (probe.count - 1)):
                part = ids[past : past + size].copy()
                data = part.ctypes.data
                codes.append(lib.whisper_decode(context, data, size, past, threads))
                logits = lib.whisper_get_logits(context)  # of all `size`, only the last is filled
                row = np.ctypeslib.as_array(logits, (size, probe.n_vocab))[-1]
                rows.append(row.copy())
                past += size
            texts.append(rows)
        found.append(texts)
    lib.whisper_free(context)
    if any(codes):
        raise ValueError("it does not run")
    return np.array(found)


_BY_FORMAT = {
    "openai": _openai,
    "ct2": _ctranslate2,
    "ggml": _whisper_cpp,
    "hf": _transformers,
    "onnx": _onnx,
}


def _missing(form: str, error: ImportError) -> str:
    return f"{RUNTIMES[form]} is not installed ({error.name})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _main(form: str, path: str, asked: str, answer: str, facts: str) -> int:
    shape, *rest = json.loads(facts)
    probe = Probe(np.fromfile(asked, "<f4").reshape(shape), **dict(zip(_FACTS, rest, strict=True)))
    try:
        logits = of_file(form, Path(path), probe)
    except ImportError as e:
        print(_missing(form, e), file=sys.stderr)
        return NOT_INSTALLED
    except Exception as e:  # each runtime raises its own, of no common base
        print(_first_line(e), file=sys.stderr)
        return 1
    logits.astype("<f4").tofile(answer)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
