"""Windows are filled as the runtimes fill them."""

import pytest
import torch
import whisper
from faster_whisper.feature_extractor import FeatureExtractor
from whisper.audio import N_SAMPLES

from espnet_dq.errors import InputError
from espnet_dq.runtimes.interface import window
from espnet_dq.task.encoder import DQWhisperEncoder
from espnet_dq.whisper.forward import log_mel


@pytest.fixture
def speech():
    """Two noises of different lengths, (2, L) and their lengths."""
    lengths = torch.tensor([16000, 40123])
    noise = torch.randn(2, 40123, generator=torch.Generator().manual_seed(0)) * 0.1
    noise[0, 16000:] = 0
    return noise, lengths


def test_silence_is_what_openai_whisper_hears_of_padded_samples(speech):
    """As whisper.cpp, which pads samples, too."""
    noise, lengths = speech
    mel = log_mel(noise, lengths, 80, N_SAMPLES, "silence")
    for row, audio, length in zip(mel, noise, lengths, strict=True):
        expected = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio[:length]))
        assert torch.allclose(row, expected, atol=1e-6)
        heard = window(audio[:length].numpy(), 80, padding="silence")
        assert torch.allclose(row, heard, atol=1e-6)


def test_zeros_are_what_faster_whisper_hears(speech):
    noise, lengths = speech
    mel = log_mel(noise, lengths, 80, N_SAMPLES)
    for row, audio, length in zip(mel, noise, lengths, strict=True):
        frames = int(length) // 160
        theirs = torch.from_numpy(FeatureExtractor()(audio[:length].numpy()))
        assert torch.allclose(row[:, :frames], theirs[:, :frames], atol=1e-3)
        assert not row[:, frames:].any()
        heard = window(audio[:length].numpy(), 80)
        assert torch.allclose(row, heard, atol=1e-6)
    assert not torch.allclose(mel, log_mel(noise, lengths, 80, N_SAMPLES, "silence"), atol=0.1)


def test_the_encoder_hears_its_padding(make_toy, speech):
    model = make_toy(0, 32, 1)
    noise, lengths = speech
    for padding in ("zeros", "silence"):
        encoder = DQWhisperEncoder(dims=vars(model.dims), padding=padding)
        encoder.net.load_state_dict(model.encoder.state_dict())
        with torch.no_grad():
            out, _, _ = encoder.eval()(noise, lengths)
            expected = model.encoder(log_mel(noise, lengths, 80, N_SAMPLES, padding))
        assert torch.allclose(out, expected, atol=1e-5)
    with pytest.raises(InputError, match="unknown padding 'noise'"):
        DQWhisperEncoder(dims="tiny", padding="noise")
