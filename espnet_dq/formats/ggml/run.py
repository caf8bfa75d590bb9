"""Logits that whisper.cpp computes."""

import ctypes
import os
from importlib.metadata import files
from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe
from espnet_dq.jobs import threads


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

    found = [
        f.locate() for f in files("pywhispercpp") or ()
        if f.parent.name == "pywhispercpp.libs" and f.name.startswith("libwhisper")
    ]  # fmt: skip
    if len(found) != 1:  # built otherwise than the wheels that are published
        raise ImportError("no libwhisper of its own", name="pywhispercpp.libs")
    lib = ctypes.CDLL(str(found[0]))
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


def logits(path: Path, probe: Probe) -> np.ndarray:
    """Without flash attention, which attends to positions behind the audio (known there)."""
    lib, count = whisper_cpp(), threads()
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
        codes.append(lib.whisper_encode(context, 0, count))
        texts = []
        for text in probe.texts:
            ids, rows, past = np.array(text, np.int32), [], 0
            start = len(text) - probe.count
            for size in (start, *[1] * (probe.count - 1)):
                part = ids[past : past + size].copy()
                data = part.ctypes.data
                codes.append(lib.whisper_decode(context, data, size, past, count))
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
