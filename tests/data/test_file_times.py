"""Samples stand where the file's own times put them, and are what a plain decoding gives."""

import re

import av
import numpy as np
import pytest
import soundfile

from espnet_dq.data.audio import load_audio, read_audio, seconds
from espnet_dq.data.faults import AudioFault
from tests.data.av_files import encode, heard, noise

# Container, codec, and how early the codec's own delay may be heard, in seconds.
KINDS = [
    ("mp4", "aac", 0.07),
    ("mov", "pcm_s16le", 0.01),
    ("mkv", "flac", 0.01),
    ("webm", "libopus", 0.01),
    ("ts", "aac", 0.07),
]


def hole(at, by):
    return lambda _, time: by if time >= at else 0.0


@pytest.mark.parametrize("video", [0.0, 7.0])
@pytest.mark.parametrize(("suffix", "codec", "early"), KINDS)
def test_a_late_start(suffix, codec, early, video, tmp_path):
    if suffix == "ts":  # whose clock may begin anywhere
        video = video or 1.0
    path = tmp_path / f"x.{'mkv' if video and suffix == 'webm' else suffix}"
    encode(path, codec, noise(1, 48000), 48000, moved=lambda *_: 4.94, video=video)
    samples = load_audio(path)
    ((first, last),) = heard(samples)
    assert -early < first - 4.94 < 0.02 and abs(last - 5.94) < 0.05
    assert seconds(path) == pytest.approx(max(video, len(samples) / 16000), abs=0.15)


@pytest.mark.parametrize("by", [0.5, 2.5, 40.0])
@pytest.mark.parametrize(
    ("suffix", "codec", "early"),
    # FFmpeg writes none into PCM of mov.
    [*(x for x in KINDS if x[0] != "mov"), ("ogg", "libopus", 0.01)],
)
def test_a_hole(suffix, codec, early, by, tmp_path):
    path = encode(tmp_path / f"x.{suffix}", codec, noise(2, 48000), 48000, moved=hole(1.0, by))
    samples = load_audio(path)
    (_, before), (after, last) = heard(samples)
    assert abs(before - 1) < 0.1 and abs(after - before - by) < 0.1
    assert abs(last - 2 - by) < early + 0.05 and seconds(path) == pytest.approx(last, abs=0.1)


def test_many_small_holes_add_up(tmp_path):
    """As of a phone that sends nothing while nobody speaks."""
    path = tmp_path / "x.webm"
    encode(path, "libopus", noise(2, 48000), 48000, moved=lambda n, _: 0.06 * (n // 2))
    assert len(load_audio(path)) / 16000 == pytest.approx(2 + 0.06 * 50, abs=0.1)


def test_the_channel_that_is_asked_for(tmp_path):
    """And the silence is in both."""
    stereo = noise(1, 16000, 2) * [1, 0]
    path = encode(tmp_path / "x.mka", "pcm_s16le", stereo, 16000, moved=lambda *_: 1.0)
    for channel, sound in ((0, [(1.0, 2.0)]), (1, [])):
        assert heard(np.concatenate(list(read_audio(path, channel)))) == sound
    with pytest.raises(AudioFault, match="no channel 2"):
        list(read_audio(path, 2))


def test_an_edit_that_leaves_out_the_beginning(tmp_path):
    """As phones cut a film: the first second is in the file, and not heard."""
    path = encode(tmp_path / "x.m4a", "aac", noise(3, 16000), 16000)
    good, content = load_audio(path), bytearray(path.read_bytes())
    at = content.index(b"elst") + 12  # duration in ms, first sample; behind it the encoder's delay
    assert int.from_bytes(content[at : at + 4]) == 3000 and content[at + 4 : at + 8] == b"\0\0\4\0"
    content[at : at + 8] = (2000).to_bytes(4) + (1024 + 16000).to_bytes(4)
    path.write_bytes(content)
    samples = load_audio(path)
    assert len(samples) == pytest.approx(len(good) - 16000, abs=1024)
    assert np.allclose(samples[2048:30000], good[16000 + 2048 : 16000 + 30000], atol=1e-3)


BLOCK = re.compile(rb"\xa3[\x40-\x7f].\x81(..)\x80", re.DOTALL)  # of Matroska, with its time


@pytest.mark.parametrize(
    ("moved", "length"),
    [
        (lambda n: 0 if n < 20 else -1250, 3.0),  # from the beginning again
        (lambda n: 20_000 * (n == 20), 3.0),  # one that is wrong
        (lambda n: -1200 * (n == 30), 3.0),
        (lambda n: 40 * (n % 2), 3.0),
        (lambda n: 0 if n < 20 else -1250 if n < 30 else 750, 5.0),  # again, with a hole
    ],
    ids=["again", "one ahead", "one behind", "jitter", "again and a hole"],
)
def test_times_that_cannot_be(moved, length, tmp_path):
    path = encode(tmp_path / "x.mka", "pcm_s16le", noise(3, 16000), 16000)
    content = bytearray(path.read_bytes())
    blocks = list(BLOCK.finditer(content))
    assert len(blocks) == 48
    for number, block in enumerate(blocks):
        time = int.from_bytes(block[1], signed=True) + moved(number)
        content[slice(*block.span(1))] = time.to_bytes(2, signed=True)
    path.write_bytes(content)
    samples = load_audio(path)
    assert len(samples) / 16000 == pytest.approx(length, abs=0.1)
    assert np.count_nonzero(samples) > 0.99 * 3 * 16000  # no sample is lost


def test_more_than_a_day_is_no_hole(tmp_path):
    path = encode(tmp_path / "x.mka", "flac", noise(2, 16000), 16000, moved=hole(1.0, 90_000.0))
    assert len(load_audio(path)) == 2 * 16000


def test_a_clock_that_begins_again(tmp_path):
    """Two recordings of a broadcast, the second with a hole."""
    for name, by in (("a", 0.0), ("b", 2.0)):
        path = tmp_path / f"{name}.ts"
        encode(path, "mp2", noise(4, 48000), 48000, moved=hole(2.0, by))
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    (first, second) = heard(load_audio(both))
    assert first == pytest.approx((0, 6), abs=0.1) and second == pytest.approx((8, 10), abs=0.1)


def plain(path):
    """Every sample, whatever its time."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", rate=16000)
        frames = [x for frame in container.decode(audio=0) for x in resampler.resample(frame)]
        frames += resampler.resample(None)
        parts = [x.to_ndarray().reshape(-1, x.layout.nb_channels) for x in frames]
    return np.concatenate(parts).T.mean(axis=0, dtype=np.float32)


NORMAL = [
    ("mp3", "libmp3lame", (8000, 16000, 44100)),
    ("m4a", "aac", (8000, 16000, 44100)),
    ("3gp", "aac", (16000,)),
    ("aac", "aac", (16000, 48000)),
    ("opus", "libopus", (48000,)),
    ("webm", "libopus", (48000,)),
    ("mka", "libmp3lame", (44100,)),
    ("mka", "aac", (22050,)),
    ("ts", "mp2", (44100,)),
    ("ts", "aac", (44100,)),
    ("mpg", "mp2", (44100,)),
    ("avi", "libmp3lame", (44100,)),
    ("flv", "aac", (44100,)),
    ("amr", "libopencore_amrnb", (8000,)),
    ("flac", "flac", (22050, 44100)),
    ("wav", "pcm_s16le", (8000, 16000, 44100)),
    ("wav", "adpcm_ms", (22050,)),
    ("mov", "pcm_s24le", (48000,)),
]
CASES = [(*x[:2], rate, n) for x in NORMAL for rate in x[2] for n in (1, 2)]
CASES.remove(("amr", "libopencore_amrnb", 8000, 2))


@pytest.mark.parametrize(("suffix", "codec", "rate", "channels"), CASES)
def test_files_as_most_are_are_decoded_bit_for_bit(suffix, codec, rate, channels, tmp_path):
    """No delay of an encoder is taken for a time, no rounding of times for a hole."""
    samples = noise(2, rate, channels)
    path = encode(
        tmp_path / f"x.{suffix}",
        codec,
        samples,
        rate,
        **(
            {"format": "ogg"} if suffix == "opus" else {"format": "adts"} if suffix == "aac" else {}
        ),
    )
    assert np.array_equal(load_audio(path), plain(path))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wav_at_16k_is_libsndfiles(subtype, channels, tmp_path):
    """And FFmpeg, which reads on where there is damage, gives the same."""
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(0.5, 16000, channels), 16000, subtype=subtype)
    read = soundfile.read(path, dtype="float32", always_2d=True)[0]
    expected = read.T.mean(axis=0, dtype=np.float32)
    for damage in (None, print):
        assert np.array_equal(np.concatenate(list(read_audio(path, damage=damage))), expected)
