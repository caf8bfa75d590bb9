"""Noise at a given ratio to speech, and sounds that are no speech.

All is mono float32 at 16 kHz, drawn from a generator that the caller seeds.
"""

from collections.abc import Sequence

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100  # 10 ms
QUIET = 1e-4  # -40 dB: frames below it, against the loudest, are no speech
TALKERS = 6  # of babble
Samples = np.ndarray


def loudness(audio: Samples) -> float:
    """Mean power of the frames (10 ms) that are within 40 dB of the loudest; 0 of silence."""
    power = np.square(audio[: len(audio) // FRAME * FRAME], dtype=np.float64)
    frames = power.reshape(-1, FRAME).mean(axis=1)
    return float(frames[frames > QUIET * frames.max(initial=0.0)].mean()) if frames.any() else 0.0


def mixed(speech: Samples, noise: Samples, snr: float) -> Samples:
    """Speech with noise of the same length added, `snr` dB below it; scaled where it would clip.

    The ratio is that of the speech's `loudness`, so that pauses do not count, to the noise's mean
    power. Silence stays as it is: nothing is so many dB below it.

    Raises:
        ValueError: the lengths differ, or the noise is silence.
    """
    power = float(np.square(noise, dtype=np.float64).mean())
    if speech.shape != noise.shape or not power:
        raise ValueError("noise must be as long as the speech, and sound")
    gain = np.sqrt(loudness(speech) / power * 10 ** (-snr / 10))
    sum_ = speech + (gain * noise).astype(np.float32)
    return sum_ / max(1.0, float(np.abs(sum_).max()))


def coloured(samples: int, slope: float, random: np.random.Generator) -> Samples:
    """Stationary noise of mean power 1, whose power falls with frequency to the power `-slope`.

    0 is white, 1 pink, 2 brown. Below 50 Hz it is flat.
    """
    spectrum = np.fft.rfft(random.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * np.maximum(hertz, 50.0) ** (-slope / 2), samples)
    return (noise / np.sqrt(np.square(noise).mean())).astype(np.float32)


def babble(clips: Sequence[Samples], samples: int, random: np.random.Generator) -> Samples:
    """`TALKERS` voices at once, equally loud: each is clips in a random order, without a pause.

    Raises:
        ValueError: all clips are silence.
    """
    loud = [clip / np.sqrt(power) for clip in clips if (power := loudness(clip))]
    if not loud:
        raise ValueError("babble is made of speech")
    sum_ = np.zeros(samples, np.float32)
    for _ in range(TALKERS):
        parts, length = [], 0
        while length < samples + SAMPLE_RATE:
            parts.append(loud[random.integers(len(loud))])
            length += len(parts[-1])
        # Not all begin with the beginning of a sentence.
        start = random.integers(SAMPLE_RATE)
        sum_ += np.concatenate(parts)[start : start + samples].astype(np.float32)
    return sum_


def ringing(samples: int) -> Samples:
    """A telephone's ringing tone: 425 Hz, a second on and four off (ITU-T E.180), at -20 dBFS."""
    seconds = np.arange(samples) / SAMPLE_RATE
    return (0.1 * np.sin(2 * np.pi * 425 * seconds) * (seconds % 5 < 1)).astype(np.float32)


def hum(samples: int) -> Samples:
    """Of a mains supply: 50 Hz and its next nine harmonics, each half as loud, at -20 dBFS."""
    seconds = np.arange(samples) / SAMPLE_RATE
    tones = [0.5**k * np.sin(2 * np.pi * 50 * (k + 1) * seconds) for k in range(10)]
    return (0.05 * np.sum(tones, axis=0)).astype(np.float32)
