"""What a student hears: pitch and formants by scipy's spectra, rooms by their decay, codecs."""

import numpy as np
import pytest
from scipy.signal import welch

from espnet_dq.config import AugmentConfig
from espnet_dq.data import augment
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.augment import Augment, coded, filtered, resampled, stretched
from espnet_dq.data.noise import loudness
from espnet_dq.errors import InputError

KINDS = ("speed", "voice", "room", "noise", "line")
LONGEST = 30 * SAMPLE_RATE


def tone(hertz, seconds=4.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def pitch(samples):
    """The strongest frequency, but for the ends."""
    hertz, power = welch(samples[SAMPLE_RATE // 2 : -SAMPLE_RATE // 2], SAMPLE_RATE, nperseg=16384)
    return hertz[power.argmax()]


@pytest.fixture
def speech(clips):
    return load_audio(clips[0][0])


@pytest.mark.parametrize("factor", [0.8, 0.95, 1.1, 1.25])
def test_a_rate_moves_pitch_and_length_a_stretch_only_length(factor):
    fast = resampled(tone(1000), SAMPLE_RATE * factor)
    assert len(fast) == pytest.approx(4 * SAMPLE_RATE / factor, rel=1e-3)
    assert pitch(fast) == pytest.approx(1000 * factor, abs=2)  # Hz between two lines: 1
    long = stretched(tone(1000), factor)
    assert len(long) == pytest.approx(4 * SAMPLE_RATE / factor, rel=0.02)
    assert pitch(long) == pytest.approx(1000, abs=2)


def test_another_voice_is_higher_or_lower_and_every_word_at_its_time(speech):
    found = []
    for seed in range(40):
        clip = augment.other_voice(np.float32(tone(1000)), np.random.default_rng(seed))
        found.append(pitch(clip) / 1000)
        assert clip.shape == (4 * SAMPLE_RATE,)
    low, high = augment.VOICE
    assert low - 0.01 < min(found) < 0.9 and 1.1 < max(found) < high + 0.01
    silence = np.zeros(SAMPLE_RATE, np.float32)
    clip = np.concatenate([speech, silence, speech, silence])
    voice = augment.other_voice(clip, np.random.default_rng(0))
    for start in (len(speech), 2 * len(speech) + SAMPLE_RATE):
        quiet = voice[start + SAMPLE_RATE // 5 : start + SAMPLE_RATE * 4 // 5]
        assert np.square(quiet).mean() < 1e-4 * loudness(speech)


def test_a_room_decays_as_long_as_it_was_drawn(monkeypatch):
    monkeypatch.setattr(augment, "REVERBERATION", (0.5, 0.5))
    monkeypatch.setattr(augment, "DIRECT", (0.0, 0.0))
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[0] = 1.0
    wet = augment.in_room(click, np.random.default_rng(0))
    # Direct and reverberant sound are equally strong at 0 dB.
    assert np.square(wet[1:]).sum() / wet[0] ** 2 == pytest.approx(1, rel=0.1)
    left = np.cumsum(np.square(wet[::-1], dtype=np.float64))[::-1]  # Schroeder's backward integral
    db = 10 * np.log10(left[1:4000] / left[1])
    slope = np.polyfit(np.arange(len(db)) / SAMPLE_RATE, db, 1)[0]
    assert -60 / slope == pytest.approx(0.5, rel=0.1)
    assert np.square(wet).sum() == pytest.approx(1, rel=1e-5)  # as loud as before


@pytest.mark.parametrize("line", augment.LINES, ids=lambda line: f"{line[0]}-{line[2]}")
def test_speech_is_understood_through_every_codec(speech, line):
    """Envelopes of 20 ms before and after agree; samples need not, since some codecs keep few."""
    codec, rate, bits = line
    heard = coded(speech, codec, rate, bits)
    assert heard.dtype == np.float32 and abs(len(heard) - len(speech)) < SAMPLE_RATE // 10
    assert not np.allclose(heard[: len(speech)], speech[: len(heard)], atol=1e-4)  # it did code

    def envelope(samples):
        frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
        return np.sqrt(np.square(frames).mean(axis=1))

    before, after = envelope(filtered(speech, "lowpass=f=3400")), envelope(heard)
    n = min(len(before), len(after)) - 4
    best = max(np.corrcoef(before[:n], after[d : d + n])[0, 1] for d in range(4))
    assert best > 0.9
    if rate == 8000:
        hertz, power = welch(heard, SAMPLE_RATE)
        assert power[hertz > 4200].sum() < 1e-3 * power.sum()


def test_each_kind_changes_its_share_of_the_clips_and_nothing_else(speech):
    for kind in KINDS:
        change = Augment(AugmentConfig(**{kind: 0.5}), LONGEST)
        random = np.random.default_rng(0)
        clips = [change(speech, random) for _ in range(60)]
        same = sum(np.array_equal(c, speech) for c in clips)
        assert 15 < same < 45  # within 3.9 standard deviations of 30
        assert all(c.dtype == np.float32 and np.isfinite(c).all() for c in clips)
        assert kind == "speed" or {len(c) for c in clips} == {len(speech)}
        changed = [c for c in clips if not np.array_equal(c, speech)]
        assert not np.array_equal(changed[0], changed[1])
    nothing = Augment(AugmentConfig(), LONGEST)
    assert nothing(speech, random) is speech and not AugmentConfig()


def test_the_same_seed_gives_the_same(speech):
    change = Augment(AugmentConfig(**dict.fromkeys(KINDS, 1.0)), LONGEST)
    for seed in range(4):
        first, again = (change(speech, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, again)


def test_what_fills_its_window_is_not_slowed_down():
    change = Augment(AugmentConfig(speed=1.0), SAMPLE_RATE * 2)
    for seed in range(20):
        for seconds in (1.7, 1.9, 2.0):
            clip = np.float32(tone(500, seconds))
            length = len(change(clip, np.random.default_rng(seed)))
            assert len(clip) / 1.101 <= length <= min(len(clip) / 0.899, SAMPLE_RATE * 2)


def test_a_codec_that_ffmpeg_lacks_is_said_before_training(monkeypatch):
    monkeypatch.setattr(augment, "LINES", (*augment.LINES, ("libnothing", 8000, None)))
    with pytest.raises(InputError, match="line: this FFmpeg has no codec libnothing"):
        Augment(AugmentConfig(line=0.1), LONGEST)
    Augment(AugmentConfig(voice=0.1), LONGEST)


@pytest.mark.parametrize("offset", [0.05, 0.5])
def test_an_offset_is_no_speech(speech, offset):
    """Neither does it make the noise louder, nor what is left of it after a telephone's band."""
    for seed in range(6):
        for change in (augment.in_noise, augment.over_line):
            plain, moved = (
                change(speech + np.float32(x), np.random.default_rng(seed)) for x in (0.0, offset)
            )
            plain, moved = (x[800:-800] - x[800:-800].mean() for x in (plain, moved))
            ratio = np.square(moved).mean() / np.square(plain).mean()
            assert ratio == pytest.approx(1, abs=0.25), (change, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_crumbs_pass(kind):
    change = Augment(AugmentConfig(**{kind: 1.0}), LONGEST)
    for clip in (np.zeros(SAMPLE_RATE, np.float32), np.ones(1, np.float32),
                 np.float32(tone(300, 0.01)), 3 * np.float32(tone(300, 0.5))):  # fmt: skip
        for seed in range(12):  # every codec
            heard = change(clip, np.random.default_rng(seed))
            assert np.isfinite(heard).all() and heard.dtype == np.float32
            assert kind == "speed" or len(heard) == len(clip)
