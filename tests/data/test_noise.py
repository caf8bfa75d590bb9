"""Noise: its ratio to the speech, measured where the speech is; its colour, by scipy."""

import numpy as np
import pytest
from scipy.signal import welch

from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.noise import babble, coloured, hum, loudness, mixed, ringing


def power(samples):
    return np.square(samples, dtype=np.float64).mean()


@pytest.mark.parametrize("snr", [10, 0, -5])
def test_the_ratio_is_that_where_speech_is(snr):
    """A tone with pauses as long as itself: the pauses do not count."""
    random = np.random.default_rng(0)
    on = 0.1 * np.sin(np.arange(SAMPLE_RATE) / 5).astype(np.float32)
    speech = np.concatenate([on, np.zeros(SAMPLE_RATE, np.float32)])
    noise = coloured(len(speech), 1, random)
    added = mixed(speech, noise, snr) - speech
    found = 10 * np.log10(power(on) / power(added))
    assert found == pytest.approx(snr, abs=1e-3)  # 10 ms frames may cut a tone's period
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1, abs=1e-6)


def test_what_would_clip_is_scaled_and_silence_stays():
    loud = np.sin(np.arange(SAMPLE_RATE) / 5).astype(np.float32)
    noise = coloured(len(loud), 0, np.random.default_rng(0))
    assert np.abs(mixed(loud, noise, 0)).max() == pytest.approx(1)
    nothing = np.zeros(SAMPLE_RATE, np.float32)
    assert loudness(nothing) == 0 and not mixed(nothing, noise, 0).any()
    with pytest.raises(ValueError, match="as long as"):
        mixed(loud, noise[:-1], 0)


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_colours(slope):
    noise = coloured(60 * SAMPLE_RATE, slope, np.random.default_rng(slope))
    assert power(noise) == pytest.approx(1)
    hertz, density = welch(noise, SAMPLE_RATE, nperseg=4096)
    band = (hertz > 100) & (hertz < 7000)
    fitted = np.polyfit(np.log(hertz[band]), np.log(density[band]), 1)[0]
    # Some 450 averaged spectra of 1766 lines: the slope's own error is below 0.01.
    assert fitted == pytest.approx(-slope, abs=0.03)


def test_babble_is_all_voices_equally_loud(clips):
    voices = [load_audio(clip[0]) for clip in clips[:3]]
    random = np.random.default_rng(0)
    sound = babble([1000 * voices[0], *voices[1:]], 10 * SAMPLE_RATE, random)
    assert sound.shape == (10 * SAMPLE_RATE,) and sound.dtype == np.float32
    seconds = sound.reshape(10, -1).std(axis=1)
    assert seconds.min() > 0.2 * seconds.max()  # no gaps, and nobody drowns the others
    again = babble([1000 * voices[0], *voices[1:]], 10 * SAMPLE_RATE, np.random.default_rng(0))
    assert np.array_equal(sound, again)
    with pytest.raises(ValueError, match="made of speech"):
        babble([np.zeros(SAMPLE_RATE, np.float32)], SAMPLE_RATE, random)


def test_tones():
    for sound, hertz in ((ringing(SAMPLE_RATE), 425), (hum(SAMPLE_RATE), 50)):
        assert np.argmax(np.abs(np.fft.rfft(sound))) == hertz
    rings = ringing(10 * SAMPLE_RATE).reshape(10, -1).any(axis=1)
    assert rings.tolist() == [True, *4 * [False]] * 2
