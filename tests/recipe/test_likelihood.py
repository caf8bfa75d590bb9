"""benchmarks/likelihood.py on toys, against openai-whisper's own forward pass."""

import json

import numpy as np
import pytest
import torch
import whisper
from whisper.audio import N_FRAMES, log_mel_spectrogram, pad_or_trim

import espnet_dq as dq
import likelihood
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import SET, KaldiDir
from espnet_dq.errors import InputError
from tests import toys


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
def test_costs_are_those_of_whispers_own_logits(sets, tmp_path):
    path = toys.save_model(tmp_path / "toy.pt", toys.make_model(state=32, layers=1))
    data = KaldiDir.load(sets[0])
    data.extra[SET] = dict.fromkeys(data.wav, "noise")
    found = likelihood.listen(dq.load(path), data, "toy")
    net = whisper.load_model(str(path), device="cpu")
    for utt, of in found.items():
        tokenizer = whisper.tokenizer.get_tokenizer(True, language=data.utt2lang[utt])
        text = tokenizer.encode(" " + data.text[utt])
        tokens = [*tokenizer.sot_sequence_including_notimestamps, *text, tokenizer.eot]
        audio = load_audio(data.wav[utt])
        # Silence behind it for the last frame's context; the window's rest is zeros.
        mel = log_mel_spectrogram(audio, padding=400)[:, : len(audio) // 160]
        mel = pad_or_trim(mel, N_FRAMES)
        with torch.no_grad():
            logits = net(mel[None], torch.tensor([tokens[:-1]]))[0]
        said = logits.log_softmax(-1)[torch.arange(len(tokens) - 1), tokens[1:]]
        # Sums of 32 float32 products in another order.
        assert of.errors == pytest.approx(-float(said[-len(text) - 1 :].sum()), rel=1e-5)
        assert of.tokens == len(text) + 1 and of.reference == data.text[utt]
    rounded = dq.quantize(dq.load(path), "uniform4")
    assert likelihood.listen(rounded, data, "toy") != found
    short = toys.save_model(tmp_path / "short.pt", toys.make_model(audio_ctx=20, layers=1))
    with pytest.raises(InputError, match=r"short: '.*' is longer than what it hears at a time"):
        likelihood.listen(dq.load(short), data, "short")


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
