"""The runtimes that decode, behind one small interface.

Every runtime sees each clip padded to Whisper's 30 s window and decodes greedily by default:
temperature 0, no text from before, no timestamp tokens, no voice activity detection. Longer audio
is cut into clips before, at pauses (`espnet_dq.data.pieces`). `transcribe`, which is for people and
not for scores, tries at random again what went wrong.

How the work is spread was measured (two cores, base, 60 clips): the encoder takes 5/6 of the time
and gains nothing from a batch in CTranslate2, so faster-whisper decodes one clip in each of
`nj` workers; PyTorch takes `nj` clips of one language as a batch.
"""

import os
from pathlib import Path

from espnet_dq.decode.runtimes.interface import WINDOW, Runtime, Segment
from espnet_dq.errors import InputError

__all__ = ["RUNTIMES", "WINDOW", "Runtime", "Segment", "cores", "guess_runtime", "load_runtime"]

RUNTIMES = ("torch", "faster-whisper", "whisper.cpp", "transformers", "onnx")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def guess_runtime(path: Path | str) -> str:
    """By what a folder holds, `whisper.cpp` for a .bin file, else `torch`."""
    path = Path(path)
    if path.suffix == ".bin" and path.is_file():
        return "whisper.cpp"
    if any((path / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        return "transformers"
    if (path / "encoder.onnx").is_file():
        return "onnx"
    return "faster-whisper" if (path / "model.bin").is_file() else "torch"


def load_runtime(
    name: str, path: Path | str, threads: int = 0, nj: int = 0, beam_size: int = 1
) -> Runtime:
    """Load a model into a runtime.

    Args:
        name: one of `RUNTIMES`.
        path: `torch`: a `.pt`, ggml or packed file, or an experiment folder or a checkpoint
            (`.pth`) in one, whose model is decoded as it was trained, with its fake quantization
            and its padding. `faster-whisper`: a CTranslate2 folder.
            `whisper.cpp`: a ggml file. `transformers`: a Hugging Face folder.
            `onnx`: an ONNX folder of ours.
        threads: CPU threads in all; 0 takes every core.
        nj: clips at a time; 0 takes one for each thread (faster-whisper) or 8 (torch,
            transformers, onnx). whisper.cpp decodes one.
        beam_size: 1 is greedy.

    Raises:
        InputError: the path does not hold a model that this runtime reads.
    """
    threads = threads or cores()
    if name == "torch":
        from espnet_dq.decode.runtimes.torch import Torch

        return Torch(Path(path), threads, nj or 8, beam_size)
    if name == "faster-whisper":
        from espnet_dq.decode.runtimes.ctranslate2 import FasterWhisper

        return FasterWhisper(Path(path), threads, nj or threads, beam_size)
    if name == "whisper.cpp":
        from espnet_dq.decode.runtimes.ggml import WhisperCpp

        return WhisperCpp(Path(path), threads, beam_size)
    if name == "transformers":
        from espnet_dq.decode.runtimes.transformers import Transformers

        return Transformers(Path(path), threads, nj or 8, beam_size)
    if name == "onnx":
        from espnet_dq.decode.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(Path(path), threads, nj or 8, beam_size)
    raise InputError(f"unknown runtime '{name}': known are {', '.join(RUNTIMES)}")
