"""What a model is called: a path, `openai:tiny`, `tiny`. One rule for all that take a model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import espnet_dq as dq
from espnet_dq.bin.transcribe import main
from espnet_dq.data.audio import load_audio, save_wav
from espnet_dq.errors import InputError
from espnet_dq.fetch.names import source_path
from espnet_dq.files import sha256
from espnet_dq.runtimes import load_runtime
from tests import toys

POSITIONS = "decoder.positional_embedding"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache in which tiny is, and the current folder, in which nothing is."""
    folder = tmp_path / "cache/pt"
    folder.mkdir(parents=True)
    path = toys.save_model(folder / "tiny.pt", toys.ending(toys.make_model(0, 32, 1)))
    path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path)}))
    monkeypatch.setenv("ESPNET_DQ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_name_is_openais_where_nothing_else_has_it(cache):
    tiny = cache / "tiny.pt"
    assert source_path("tiny") == source_path("openai:tiny") == source_path(Path("tiny")) == tiny
    assert source_path("./tiny") == Path("tiny") and source_path("tiny.bin") == Path("tiny.bin")
    assert source_path("https://example.org/tiny") == Path("https://example.org/tiny")
    os.symlink("nowhere", "tiny")  # something of that name, whatever it is
    assert source_path("tiny") == Path("tiny") and source_path("openai:tiny") == tiny
    for name in ("openai:tini", "openai:", "openai:openai:tiny"):
        with pytest.raises(InputError, match=f"^{name}: known models are tiny, "):
            source_path(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "openai:tiny"])
def test_the_front_door_and_the_command_take_the_same_names(name, cache, capsys):
    said = torch.load(cache / "tiny.pt")["model_state_dict"]
    assert torch.equal(dq.load(name).weights.state[POSITIONS], said[POSITIONS])
    save_wav("x.wav", np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
    runtime = load_runtime("torch", cache / "tiny.pt", threads=1)
    (expected,) = runtime.transcribe(load_audio("x.wav"), "en", True)
    (segment,) = dq.transcribe("x.wav", name, language="en")
    assert main(["x.wav", "--model", name, "--language", "en"]) == 0
    assert segment.text == capsys.readouterr().out.strip() == expected.text
