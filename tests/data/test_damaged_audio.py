"""A damaged spot: a fault where a model learns, else told of and passed over."""

import numpy as np
import pytest
import soundfile

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import load_audio, read_audio
from espnet_dq.data.cut import cut, jobs
from espnet_dq.data.faults import DAMAGED, AudioFault
from espnet_dq.data.kaldi import KaldiDir
from tests.data.av_files import encode, noise

# Suffix, codec, rate; how far times behind the spot may be off; whether it gives the same samples.
KINDS = [
    ("mp3", "libmp3lame", 44100, 0.06, False),
    ("mp3", "libmp3lame", 16000, 0.08, False),
    ("m4a", "aac", 16000, 0.001, True),
    ("mka", "flac", 16000, 0.002, False),
    ("flac", "flac", 16000, 0.0, True),
    ("flac", "flac", 44100, 0.001, False),
    ("opus", "libopus", 48000, 0.001, True),
    ("ac3", "ac3", 48000, 0.04, False),
]
SIZES = [250, 6000]


def damaged(tmp_path, suffix, codec, rate, size, bad=None):
    """12 s of which some bytes in the middle are bad; its good samples, and the file."""
    path = tmp_path / f"x.{suffix}"
    encode(path, codec, noise(12, rate), rate, format="ogg" if suffix == "opus" else None)
    good, content = load_audio(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + size] = bad or np.random.default_rng(1).bytes(size)
    path.write_bytes(content)
    return good, path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("suffix", "codec", "rate", "off", "same"), KINDS)
def test_what_is_around_it_is_decoded(suffix, codec, rate, off, same, size, tmp_path):
    good, path = damaged(tmp_path, suffix, codec, rate, size)
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    (line,) = lines
    at = float(line.split(" damaged at ")[1].split(" s:")[0])
    assert line.startswith(f"{path}: damaged at ") and 4 < at < 8
    assert abs(len(samples) - len(good)) <= off * 16000 + 1
    before, behind = round((at - 0.1) * 16000), 5 * 16000 // 2
    assert np.allclose(samples[:before], good[:before], atol=1e-4)
    if same:  # and in the same place
        assert np.allclose(samples[-behind:], good[len(samples) - behind :][:behind], atol=0.02)
    # By another process, too.
    more = []
    apart = np.concatenate(list(read_apart(path, damage=more.append)))
    assert np.array_equal(apart, samples) and more == lines


@pytest.mark.parametrize("bad", [None, bytes(250), b"\xff" * 250], ids=["random", "zeros", "ones"])
@pytest.mark.parametrize(("suffix", "codec", "rate", "off", "same"), KINDS)
def test_no_model_learns_from_it(suffix, codec, rate, off, same, bad, tmp_path):
    _, path = damaged(tmp_path, suffix, codec, rate, 250, bad)
    with pytest.raises(AudioFault, match=f"{path}: damaged") as error:
        load_audio(path)
    assert error.value.cause == DAMAGED
    data = KaldiDir({"a": str(path)}, {"a": "A."}, {"a": "a"}, {"a": "en"})
    ((piece,),) = (cut(tmp_path / "wav", recording) for recording in jobs(data)[0])
    assert piece.fault == DAMAGED and not list(tmp_path.glob("wav/*"))


def test_many_spots(tmp_path):
    path = encode(tmp_path / "x.m4a", "aac", noise(12, 16000), 16000)
    good, content = load_audio(path), bytearray(path.read_bytes())
    for at in range(len(content) // 6, len(content) // 2, len(content) // 12):
        content[at : at + 250] = bytes(250)
    path.write_bytes(content)
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    times = [float(line.split(" damaged at ")[1].split(" s:")[0]) for line in lines]
    assert len(times) >= 4 and times == sorted(times)
    assert abs(len(samples) - len(good)) < 10


def test_a_spot_in_the_second_recording(tmp_path):
    """Of Vorbis, whose pages are short."""
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.ogg", noise(8, 16000, seed=number), 16000)
    first, second = ((tmp_path / f"{number}.ogg").read_bytes() for number in range(2))
    middle = len(second) // 2
    second = second[:middle] + bytes(50) + second[middle + 50 :]
    (tmp_path / "x.ogg").write_bytes(first + second)
    lines = []
    samples = np.concatenate(list(read_audio(tmp_path / "x.ogg", damage=lines.append)))
    (line,) = lines
    assert 11 < float(line.split(" damaged at ")[1].split(" s:")[0]) < 13
    assert len(samples) / 16000 == pytest.approx(16, abs=0.1)
    with pytest.raises(AudioFault, match="damaged"):
        load_audio(tmp_path / "x.ogg")


def spoiled(content, kind):
    """Of a format that nobody knows, by its header."""
    content = bytearray(content)
    if kind == "wav":
        content[20:22] = b"\x77\x77"  # the codec
    else:
        content[18:22] = bytes(4)  # the rate
    return bytes(content)


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_recording_of_several_that_is_bad(bad, kind, tmp_path):
    good, contents = [], []
    for number in range(3):
        path = tmp_path / f"{number}.{kind}"
        soundfile.write(path, noise(1, 16000, seed=number), 16000)
        content = path.read_bytes()
        contents.append(spoiled(content, kind) if number == bad else content)
        good += [] if number == bad else [load_audio(path)]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"".join(contents))
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    assert np.array_equal(samples, np.concatenate(good))
    (line,) = lines
    where = f"{path}: damaged at {bad:.2f} s: recording {bad + 1} of 3: "
    assert line.startswith(where)
    with pytest.raises(AudioFault):
        load_audio(path)
    path.write_bytes(b"".join(spoiled(content, kind) for content in contents))
    with pytest.raises(AudioFault, match=f"^{path}: "):
        list(read_audio(path, damage=lines.append))


def test_bytes_between_two_pages_leave_no_hole(tmp_path):
    soundfile.write(tmp_path / "good.ogg", noise(8, 16000), 16000)
    good, content = load_audio(tmp_path / "good.ogg"), (tmp_path / "good.ogg").read_bytes()
    at = content.index(b"OggS", len(content) // 2)
    path = tmp_path / "x.ogg"
    path.write_bytes(content[:at] + bytes(300) + content[at:])
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    assert np.array_equal(samples, good)
    (line,) = lines
    assert line.startswith(f"{path}: damaged between 0.00 and 8.00 s: ")


def test_samples_that_are_no_numbers(tmp_path):
    path = tmp_path / "x.wav"
    good = noise(30, 16000)[:, 0].astype(np.float32)
    bad = good.copy()
    bad[12 * 16000 : 12 * 16000 + 5] = np.nan
    soundfile.write(path, bad, 16000, subtype="FLOAT")
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    assert lines == [f"{path}: corrupt audio: samples that are not numbers, at 12.00 s"]
    assert np.array_equal(samples, np.where(np.isnan(bad), 0, good))


@pytest.mark.parametrize("kind", ["flac", "opus", "mp3", "m4a"])
def test_nothing_but_damage_is_a_fault(kind, tmp_path):
    codec = {"flac": "flac", "opus": "libopus", "mp3": "libmp3lame", "m4a": "aac"}[kind]
    path = tmp_path / f"x.{kind}"
    encode(path, codec, noise(3, 48000), 48000, format="ogg" if kind == "opus" else None)
    content = path.read_bytes()
    path.write_bytes(content[:150] + bytes(len(content) - 150))
    with pytest.raises(AudioFault):
        list(read_audio(path, damage=print))


def test_flac_that_was_cut_off(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(12, 16000), 16000)
    good, content = load_audio(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    lines = []
    samples = np.concatenate(list(read_audio(path, damage=lines.append)))
    assert 5 * 16000 < len(samples) < 7 * 16000
    assert np.array_equal(samples, good[: len(samples)])
    with pytest.raises(AudioFault):
        load_audio(path)
