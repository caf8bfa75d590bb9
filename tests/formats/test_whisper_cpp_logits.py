"""whisper.cpp's own logits, text given, against the fake-quantized model in PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize
from whisper.tokenizer import get_tokenizer

from espnet_dq.config import QuantConfig
from espnet_dq.data.audio import load_audio
from espnet_dq.formats.ggml.run import whisper_cpp
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.write import write
from espnet_dq.student.checkpoint import Student
from espnet_dq.student.depth import shorten
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits


@pytest.fixture(scope="module")
def library():
    """The C library that pywhispercpp brings."""
    return whisper_cpp()


def logits(library, path: Path, flash: bool, mel: np.ndarray, tokens: list[int]) -> np.ndarray:
    """whisper.cpp's logits after each token, (tokens, vocabulary)."""
    params = library.whisper_context_default_params()
    assert params.flash_attn and params.gpu_device == 0 and params.dtw_n_top == -1  # the layout
    params.use_gpu, params.flash_attn = False, flash
    context = library.whisper_init_from_file_with_params(str(path).encode(), params)
    mel, ids = np.ascontiguousarray(mel, np.float32), np.array(tokens, np.int32)
    assert library.whisper_set_mel(context, mel.ctypes.data, mel.shape[1], mel.shape[0]) == 0
    assert library.whisper_encode(context, 0, 1) == 0
    rows = []
    for past in range(len(ids)):
        one = ids[past : past + 1].copy()
        assert library.whisper_decode(context, one.ctypes.data, 1, past, 1) == 0
        rows.append(np.ctypeslib.as_array(library.whisper_get_logits(context), (51865,)).copy())
    library.whisper_free(context)
    return np.stack(rows)


def zeros_behind(_, args, output: torch.Tensor) -> torch.Tensor:
    """Keys or values, and behind them zeros up to a multiple of 256."""
    return F.pad(output, (0, 0, 0, -output.shape[1] % 256))


@pytest.mark.slow
def test_fake_quantized_logits_are_those_without_flash_attention(
    library, weights_dir, clips, tmp_path
):
    """With it, whisper.cpp also attends to zeros behind the window (its pull request 3941).

    Rounded activations amplify the last bits of float sums, which differ between processors: of
    one clip nothing can be said, so squared differences are added over clips. Without flash
    attention more than half of what they are with it is gone, and zeros explain a part of these.
    """
    weights = shorten(openai.load(weights_dir / "tiny.pt"), 9)  # 450 positions: many zeros
    student = Student(
        dims=weights.dims,
        state={name: value.float() for name, value in weights.state.items()},
        quant=QuantConfig("ggml_q8_0", preset="full", activations="q8_0_blocks"),
        path=tmp_path,
    )
    path = tmp_path / "tiny.bin"
    write("ggml", path, weights, student.quantized(), "float16")
    ours = {"plain": student.prepared(), "zeros": student.prepared()}
    for block in ours["zeros"].encoder.blocks:
        block.attn.key.register_forward_hook(zeros_behind)
        block.attn.value.register_forward_hook(zeros_behind)
    for block in ours["zeros"].decoder.blocks:
        block.cross_attn.key.register_forward_hook(zeros_behind)
        block.cross_attn.value.register_forward_hook(zeros_behind)
    tokenizer = get_tokenizer(multilingual=True)
    found = {(name, flash): [] for name in ours for flash in (False, True)}
    for clip, language, text in clips[:3]:
        speech = torch.from_numpy(load_audio(clip))[None]
        mel = log_mel(speech, torch.tensor([speech.shape[1]]), 80, 144000, "silence")
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        prompt[1] = tokenizer.to_language_token(language)
        tokens = prompt + tokenizer.encode(" " + text)
        expected = {}
        for name, model in ours.items():
            with torch.inference_mode(), parametrize.cached():
                audio = encode(model.encoder, mel)
                hidden = decode_hidden(model.decoder, torch.tensor([tokens]), audio)
                expected[name] = output_logits(model.decoder, hidden)[0]
        for flash in (False, True):
            theirs = torch.from_numpy(logits(library, path, flash, mel[0].numpy(), tokens))
            for name, values in expected.items():
                found[name, flash].append(float((values - theirs)[3:].square().mean()))
    total = {key: sum(values) for key, values in found.items()}
    assert total["plain", False] < 0.5 * total["plain", True], found
    assert total["zeros", True] < total["plain", True], found
