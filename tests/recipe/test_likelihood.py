"""benchmarks/likelihood.py on toys."""

import json

import numpy as np
import pytest
import whisper

import espnet_dq as dq
import likelihood
from espnet_dq.data.kaldi import SET, KaldiDir
from espnet_dq.errors import InputError
from tests import toys
from tests.scoring.test_likelihood import cost


@pytest.fixture
def sets(tmp_path):
    """Of the training, and of somebody else, who speaks Ukrainian for Russian."""
    corpus = toys.save_corpus(tmp_path / "corpus")
    other = KaldiDir.load(corpus / "dev")
    for utt, lang in other.utt2lang.items():
        other.utt2spk[utt] = f"new-{lang}"
        other.utt2lang[utt] = "uk" if lang == "ru" else lang
    other.save(tmp_path / "other")
    return corpus / "test", tmp_path / "other"


@pytest.mark.slow
def test_values_on_the_grid_are_heard(sets, tmp_path):
    model = dq.load(toys.save_model(tmp_path / "toy.pt", toys.make_model(state=32, layers=1)))
    data = KaldiDir.load(sets[0])
    data.extra[SET] = dict.fromkeys(data.wav, "noise")
    rounded = dq.quantize(model, "uniform4")
    on_grid = dq.load(dq.save(rounded, tmp_path / "rounded.safetensors"))
    net = whisper.load_model(str(dq.save(on_grid, tmp_path / "again.pt", to="openai")))
    for utt, of in likelihood.listen(rounded, data, "toy").items():
        assert of.errors == pytest.approx(cost(net, data, utt)[0], rel=1e-5)
        assert of.lang == f"noise {data.utt2lang[utt]}"


@pytest.mark.slow
def test_differences_of_the_same_windows(sets, tmp_path, capsys):
    seen, other = sets
    models = [
        toys.save_model(tmp_path / f"{seed}.pt", toys.make_model(state=32, layers=1, seed=seed))
        for seed in (0, 1)
    ]
    out = tmp_path / "out.jsonl"
    command = ["--models", *(f"m{p.stem}={p}" for p in models), f"again={models[0]}", "--seen"]
    command += [f"noise={seen}", "--unseen", f"more={other}", "--snr", "10", "--threads", "1"]
    assert likelihood.main([*command, "--work", str(tmp_path / "w"), "--out", str(out)]) == 0
    first, second, again = (json.loads(line)["kinds"] for line in out.read_text().splitlines())
    assert list(first) == ["seen voices", "other voices", "other languages",
                           "other voices, babble at 10 dB",
                           "other voices, stationary noise at 10 dB"]  # fmt: skip
    for kind, columns in second.items():
        mean, *others = columns.values()
        assert np.mean([of["more"] for of in others]) == pytest.approx(mean["more"])
        for column, of in columns.items():
            assert of["low"] <= of["more"] <= of["high"] and of["more"] != 0
            assert of["nats"] - first[kind][column]["nats"] == pytest.approx(of["more"])
            assert not of["enough"]  # of two windows nothing can be said
            same = again[kind][column]
            assert same["more"] == same["low"] == same["high"] == 0
    assert "more than the first" in capsys.readouterr().out
    trimmed = toys.save_model(
        tmp_path / "less.pt", toys.make_model(layers=1, mels=128, n_vocab=51866)
    )
    with pytest.raises(InputError, match="of several vocabularies"):
        likelihood.main([*command[:2], f"less={trimmed}", *command[2:], "--work",
                         str(tmp_path / "v"), "--out", str(out)])  # fmt: skip
