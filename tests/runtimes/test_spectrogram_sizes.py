"""CTranslate2 folders as its converter writes them: nothing beside them says what they hear."""

import json

import numpy as np
import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.weights import Weights
from tests.toys import make_model

SOUND = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """large-v3's 128 bands; it says ten tokens."""
    model = make_model(mels=128, n_vocab=51866, layers=1)
    with torch.no_grad():
        rows, positions = model.decoder.token_embedding.weight, model.decoder.positional_embedding
        positions[:14], positions[14:] = 20 * rows[1000:1014], 20 * rows[50257]
    path = tmp_path_factory.mktemp("large") / "ct2"
    ctranslate2_writer.save(path, Weights(model.dims, model.state_dict()), {})
    return path


@pytest.mark.slow
def test_without_and_with_preprocessor_config(folder, tmp_path):
    said = load_runtime("faster-whisper", folder, threads=1).decode([SOUND], "yue")
    path = folder / "preprocessor_config.json"
    content = json.loads(path.read_text())
    path.unlink()
    try:
        model = load_runtime("faster-whisper", folder, threads=1)
        assert model.decode([SOUND], "yue") == said and said[0].text
        assert model.transcribe(SOUND, model.detect(SOUND)[0], True)
        path.write_text(json.dumps(content | {"feature_size": 80}))
        with pytest.raises(InputError, match="feature_size is 80, but the model hears 128 bands"):
            load_runtime("faster-whisper", folder, threads=1)
    finally:
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("value", [[51866], ["a"], "all", {}])
def test_suppressed_tokens_that_are_none(value, folder):
    path = folder / "config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"suppress_ids": value}))
    try:
        with pytest.raises(InputError, match=r"config\.json: suppress_ids is not a list of ids"):
            load_runtime("faster-whisper", folder, threads=1)
    finally:
        path.write_text(before)


@pytest.mark.slow
def test_the_model_s_own_list_is_suppressed(folder):
    path = folder / "config.json"
    before = path.read_text()
    content = json.loads(before)
    first = load_runtime("faster-whisper", folder, threads=1).decode([SOUND], "yue")[0]
    content["suppress_ids"] += [1000 + i for i in range(14)]
    path.write_text(json.dumps(content))
    try:
        assert load_runtime("faster-whisper", folder, threads=1).decode([SOUND], "yue")[0] != first
    finally:
        path.write_text(before)
