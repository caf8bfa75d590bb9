"""A toy Whisper in both runtimes' formats, and a toy data folder that it can be run on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.data.kaldi import write_scp
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.whisper.weights import Weights
from tests import toys


@pytest.fixture(scope="session")
def toy_models(make_toy, tmp_path_factory) -> dict[str, Path]:
    """Runtime -> path of one and the same small model, which says a few words of no sense."""
    model = toys.ending(make_toy(0, 64, 1))
    folder = tmp_path_factory.mktemp("toy_models")
    weights = Weights(model.dims, model.state_dict())
    save_pt(folder / "toy.pt", weights, torch.float32)
    ctranslate2_writer.save(folder / "ct2", weights, {}, float_dtype="float32")
    return {"torch": folder / "toy.pt", "faster-whisper": folder / "ct2"}


@pytest.fixture
def toy_data(tmp_path) -> Path:
    """Kaldi folder of six noisy clips, 0.5 to 3 s, three in English and three in Russian."""
    data = tmp_path / "data"
    wav, languages = {}, {}
    for i in range(6):
        rng = np.random.default_rng(i)
        length = int((0.5 + 0.5 * i) * SAMPLE_RATE)
        tone = np.sin(np.arange(length) * (0.02 + 0.05 * i) + rng.normal(size=length))
        utt = f"utt{i}"
        wav[utt] = str(data / "wav" / f"{utt}.wav")
        languages[utt] = ("en", "ru")[i % 2]
        save_wav(wav[utt], (0.3 * tone).astype(np.float32))
    write_scp(data / "wav.scp", wav)
    write_scp(data / "utt2lang", languages)
    return data
