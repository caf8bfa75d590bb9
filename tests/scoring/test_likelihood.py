"""Cross-entropy of references, against openai-whisper's own logits."""

import pytest
import torch
import whisper
from whisper.audio import N_FRAMES, log_mel_spectrogram, pad_or_trim

from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.scoring.likelihood import Likelihood, listen, nats
from tests import toys


def cost(
    net: whisper.Whisper, data: KaldiDir, utt: str, silence: bool = False
) -> tuple[float, int]:
    """Nats of an utterance's text in openai-whisper, and its tokens."""
    tokenizer = whisper.tokenizer.get_tokenizer(True, language=data.utt2lang[utt])
    text = tokenizer.encode(" " + data.text[utt])
    tokens = [*tokenizer.sot_sequence_including_notimestamps, *text, tokenizer.eot]
    audio = load_audio(data.wav[utt])
    # Silence behind it for the last frame's context; the window's rest is zeros.
    mel = log_mel_spectrogram(audio, padding=400)[:, : len(audio) // 160]
    if silence:  # as whisper.cpp
        mel = log_mel_spectrogram(pad_or_trim(audio))
    with torch.no_grad():
        logits = net(pad_or_trim(mel, N_FRAMES)[None], torch.tensor([tokens[:-1]]))[0]
    said = logits.log_softmax(-1)[torch.arange(len(tokens) - 1), tokens[1:]]
    return -float(said[-len(text) - 1 :].sum()), len(text) + 1


def test_costs_are_those_of_whispers_own_logits(tmp_path):
    path = toys.save_model(tmp_path / "toy.pt", toys.make_model(state=32, layers=1))
    data = KaldiDir.load(toys.save_corpus(tmp_path / "corpus") / "test")
    net = whisper.load_model(str(path), device="cpu")
    found = listen(net, net.dims, data, data.utt2lang, "toy")
    assert found.keys() == data.wav.keys()
    for utt, of in found.items():
        # Sums of 32 float32 products in another order.
        errors, tokens = cost(net, data, utt)
        assert of.errors == pytest.approx(errors, rel=1e-5)
        assert (of.tokens, of.reference, of.lang) == (tokens, data.text[utt], data.utt2lang[utt])
    short = whisper.load_model(
        str(toys.save_model(tmp_path / "short.pt", toys.make_model(audio_ctx=20, layers=1)))
    )
    with pytest.raises(InputError, match=r"^spk\S+: 1\.0 s; the model hears 0\.4 s$"):
        listen(short, short.dims, data, data.utt2lang, "short")


def test_nats_are_those_of_a_token():
    heard = {"a": ("ru", 2, 3.0), "b": ("en", 1, 4.0), "c": ("ru", 4, 6.0)}
    found = nats({u: Likelihood(lang, "", n, cost) for u, (lang, n, cost) in heard.items()})
    assert list(found.items()) == [("en", 4.0), ("ru", 1.5)]
