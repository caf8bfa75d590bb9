"""A damaged spot: a fault where a model learns, else told of and passed over."""

import numpy as np
import pytest
import soundfile

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import load_audio, read_audio
from espnet_dq.data.cut import cut, jobs
from espnet_dq.data.faults import DAMAGED, NOT_NUMBERS, TRUNCATED, AudioFault
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment
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


PARTS = {"before": (0.5, 2.5), "at": (5.0, 7.0), "behind": (11.0, 11.9)}


def pieces(tmp_path, path, parts):
    """What becomes of segments of a recording."""
    data = KaldiDir()
    for utt, (start, end) in parts.items():
        data.add(utt, str(path), utt, utt, "en", Segment("x", start, end))
    return {p.utt: p for recording in jobs(data)[0] for p in cut(tmp_path / "wav", recording)}


@pytest.mark.parametrize(("suffix", "codec", "rate", "off", "same"), KINDS)
def test_segments_clear_of_it_are_kept(suffix, codec, rate, off, same, tmp_path):
    """Behind it only where the file gives times; a bad page of Ogg's may lie anywhere."""
    good, path = damaged(tmp_path, suffix, codec, rate, 6000)
    found = pieces(tmp_path, path, PARTS)
    kept = {"before": suffix != "opus", "at": False, "behind": suffix in ("flac", "m4a", "mka")}
    assert {utt: piece.fault for utt, piece in found.items()} == {
        utt: None if stays else DAMAGED for utt, stays in kept.items()
    }
    for utt in (utt for utt, stays in kept.items() if stays):
        first, last = (round(at * 16000) for at in PARTS[utt])
        sound, wanted = load_audio(found[utt].path), good[first:last]
        if same or utt == "before":
            assert np.allclose(sound, wanted, atol=2**-15 + 1e-4)
        else:  # by a part of a sample, or a few, elsewhere: other noise gives 0.03
            near = (good[first + by : last + by] for by in range(-32, 33))
            assert max(np.corrcoef(sound, each)[0, 1] for each in near) > 0.6
    assert len([*tmp_path.glob("wav/*")]) == sum(kept.values())
    again = pieces(tmp_path, path, PARTS)
    assert again == found


@pytest.mark.parametrize("missing", [0, 100, 100_000])
def test_segments_of_a_wav_that_was_cut_off(missing, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(12, 16000), 16000)
    good, content = load_audio(path), path.read_bytes()
    path.write_bytes(content[: len(content) - missing])
    parts = PARTS | {"end": (10.0, None)}
    found = pieces(tmp_path, path, parts)
    lost = ["behind", "end"] if missing else []
    assert sorted(utt for utt, piece in found.items() if piece.fault == TRUNCATED) == lost
    assert all(found[utt].fault is None for utt in parts.keys() - set(lost))
    assert np.array_equal(load_audio(found["at"].path), good[5 * 16000 : 7 * 16000])


def test_segments_around_samples_that_are_no_numbers(tmp_path):
    """Up to the end of the block of 10 s that is read at once."""
    path, good = tmp_path / "x.wav", noise(40, 16000)[:, 0].astype(np.float32)
    bad = good.copy()
    bad[12 * 16000] = np.nan
    soundfile.write(path, bad, 16000, subtype="FLOAT")
    found = pieces(tmp_path, path, {"a": (8, 10.5), "b": (11, 13), "c": (14, 16), "d": (22, 24)})
    assert [found[utt].fault for utt in "abcd"] == [None, NOT_NUMBERS, NOT_NUMBERS, None]
    assert np.allclose(load_audio(found["d"].path), good[22 * 16000 : 24 * 16000], atol=2**-15)


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
