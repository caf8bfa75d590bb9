"""What a header, a name or a tag says wrong of a file's sound."""

import json

import av
import numpy as np
import pytest
import soundfile

from espnet_dq.data.audio import at_16k, load_audio, read_audio, seconds
from espnet_dq.data.command import load_command
from espnet_dq.data.cut import cut, jobs
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.listing import Listing, write_listing
from tests.data.av_files import encode, noise

# RIFF's size and that of `data`, as programs leave them that do not know.
UNKNOWN = {
    "sox": (0x7FFFF024, 0x7FFFF000),
    "ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF),
    "killed": (0, 0),
    "gstreamer": (36, 0),
    "gstreamer to a pipe": (0x7FFF0024, 0x7FFF0000),
    "arecord": (0x80000024, 0x80000000),
    "31 bits": (0x7FFFFFFF, 0x7FFFFFFF - 36),
    "headers taken off": (0xFFFFFFFF - 8, 0xFFFFFFFF - 44),
    "data knows": (0x7FFFF024, None),
    "data knows, 0": (0, None),
}


def wav(path, riff=None, data=None, rate=16000, behind=b"", samples=None):
    """One second of 16 bits with these sizes in its header."""
    soundfile.write(path, noise(1, rate) if samples is None else samples, rate, subtype="PCM_16")
    content = bytearray(path.read_bytes()) + behind
    for at, size in ((4, riff), (40, data)):
        if size is not None:
            content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rate", [16000, 8000])
@pytest.mark.parametrize("name", UNKNOWN)
def test_a_length_that_nobody_knew(name, rate, tmp_path):
    good = load_audio(wav(tmp_path / "good.wav", rate=rate))
    path = wav(tmp_path / "x.wav", *UNKNOWN[name], rate=rate)
    assert np.array_equal(load_audio(path), good) and seconds(path) == 1
    assert np.array_equal(load_command(f"cat '{path}'"), good)
    assert at_16k(path) == (rate == 16000 and "knows" in name)  # else training would misread it
    data = KaldiDir({"a": str(path)}, {"a": "A."}, {"a": "a"}, {"a": "en"})
    ((piece,),) = (cut(tmp_path, recording) for recording in jobs(data)[0])
    assert piece.fault is None and piece.samples == 16000


def test_what_stands_behind_the_sound(tmp_path):
    good = load_audio(wav(tmp_path / "good.wav"))
    chunk = b"LIST" + (5).to_bytes(4, "little") + b"INFO\0\0"
    for number, behind in enumerate((chunk, chunk[:-1], b"\0" * 1000, b"TAG" + b"x" * 125)):
        path = wav(tmp_path / f"{number}.wav", 0xFFFFFFFF, behind=behind)
        assert np.array_equal(load_audio(path), good)
    empty = wav(tmp_path / "empty.wav", samples=np.zeros(0), behind=chunk)
    with pytest.raises(AudioFault) as error:
        load_audio(empty)
    assert error.value.cause == "empty audio"


def test_odd_sizes(tmp_path):
    """Of 8 bits, with and without the byte that makes the chunk even, and of half a sample."""
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1, 16001), 16001, subtype="PCM_U8")
    content = path.read_bytes()
    path.write_bytes(content[: 44 + 16001])
    assert len(load_audio(path)) == pytest.approx(16000, abs=1)
    wav(tmp_path / "y.wav", 0, 0, behind=b"\1")
    assert len(load_audio(tmp_path / "y.wav")) == 16000


@pytest.mark.parametrize("size", [0, 32000])
def test_wav_of_64_bits(size, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1, 16000), 16000, format="RF64", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.find(b"ds64") + 16
    content[at : at + 8] = size.to_bytes(8, "little")
    path.write_bytes(content)
    assert len(load_audio(path)) == 16000 and seconds(path) == 1
    path.write_bytes(content[:20000])
    if size == 32000:
        with pytest.raises(AudioFault) as error:
            load_audio(path)
        assert error.value.cause == "truncated audio"


@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF, 0x7FFFF024])
def test_what_lacks_bytes_is_truncated(riff, tmp_path):
    path = wav(tmp_path / "x.wav", riff)
    path.write_bytes(path.read_bytes()[:20000])
    for read in (load_audio, seconds, at_16k):
        with pytest.raises(AudioFault) as error:
            read(path)
        assert error.value.cause == "truncated audio"
    lines = []
    held = np.concatenate(list(read_audio(path, damage=lines.append)))
    assert len(held) == (20000 - 44) / 2 and "truncated: 20000 bytes" in lines[0]


CUT = {  # by soundfile, or by FFmpeg's codec
    "aiff": "AIFF", "au": "AU", "sph": "NIST", "caf": "CAF", "mp3": "MP3", "ogg": "OGG",
    "mov": "pcm_s16le", "mka": "flac", "webm": "libopus", "oga": "flac",
}  # fmt: skip


@pytest.mark.parametrize("suffix", CUT)
def test_what_is_shorter_than_its_header_says(suffix, tmp_path):
    path, rate = tmp_path / f"x.{suffix}", 48000 if suffix == "webm" else 16000
    if CUT[suffix].isupper():
        soundfile.write(path, noise(4, rate), rate, format=CUT[suffix])
    else:
        options = {"movflags": "+faststart"} if suffix == "mov" else {}
        encode(path, CUT[suffix], noise(4, rate), rate, **options)
    good, content = load_audio(path), path.read_bytes()
    assert len(good) == 4 * 16000
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(AudioFault) as error:
        load_audio(path)
    assert error.value.cause == ("damaged audio" if suffix[0] == "o" else "truncated audio")
    lines = []
    held = np.concatenate(list(read_audio(path, damage=lines.append)))
    (line,) = lines
    assert line.startswith(f"{path}: ") and 1.5 * 16000 < len(held) < 2.5 * 16000
    assert np.allclose(held[:16000], good[:16000], atol=1e-4)


@pytest.mark.parametrize(("kind", "at"), [("AIFF", 22), ("AU", 8)])
def test_a_size_that_was_written_into_a_pipe(kind, at, tmp_path):
    """As sox writes it: bytes in AU, samples in AIFF."""
    path = tmp_path / "x"
    soundfile.write(path, noise(1, 16000), 16000, format=kind, subtype="PCM_16")
    good, content = load_audio(path), bytearray(path.read_bytes())
    content[at : at + 4] = (0x7F000000 // (2 if kind == "AIFF" else 1)).to_bytes(4)
    path.write_bytes(content)
    assert np.array_equal(load_audio(path), good)


@pytest.mark.parametrize(("suffix", "subtype"), [("ul", "ULAW"), ("AL", "ALAW")])
def test_telephone_speech_without_a_header(suffix, subtype, tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1, 8000), 8000, subtype=subtype)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes((tmp_path / "x.wav").read_bytes()[-8000:])
    assert np.array_equal(load_audio(path), load_audio(tmp_path / "x.wav")) and seconds(path) == 1


@pytest.mark.parametrize("rate", [16000, 8000])
def test_integers_that_are_written_as_floats(rate, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1, rate) * 20, rate, subtype="FLOAT")  # loud, no more
    assert 4 < np.abs(load_audio(path)).max() < 32
    soundfile.write(path, noise(1, rate) * 32768, rate, subtype="FLOAT")
    with pytest.raises(
        AudioFault, match=f"^{path}: samples far beyond full scale: [0-9]+"
    ) as error:
        load_audio(path)
    assert error.value.cause == "samples far beyond full scale"


def test_a_length_of_0(tmp_path):
    path = encode(tmp_path / "x.rm", "real_144", noise(1, 8000), 8000)
    assert seconds(path) == len(load_audio(path)) / 16000 > 0.9


def test_flac_of_unknown_length(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(1, 16000), 16000)
    good, content = load_audio(path), bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert np.array_equal(load_audio(path), good) and seconds(path) == 1 and not at_16k(path)


def recordings(tmp_path, kind):
    """Three files, mono and stereo, of different rates."""
    for number, (rate, channels) in enumerate(((16000, 1), (22050, 2), (16000, 2))):
        path, samples = tmp_path / f"{number}.{kind}", noise(1, rate, channels, number)
        if kind == "opus":
            soundfile.write(path, noise(1, 48000, channels), 48000, format="OGG", subtype="OPUS")
        elif kind in ("aac", "m4a"):
            encode(path, "aac", samples, rate, format={"aac": "adts", "m4a": "mp4"}[kind])
        else:
            soundfile.write(path, samples, rate)
        if kind == "mp3":
            tag = b"ID3\3\0\0" + bytes([0, 0, 7, 104]) + bytes(1000)
            path.write_bytes(tag + path.read_bytes())
        yield path


@pytest.mark.parametrize("kind", ["wav", "aiff", "m4a", "flac", "ogg", "opus", "mp3"])
def test_several_recordings_in_one_file(kind, tmp_path):
    parts = list(recordings(tmp_path, kind))
    for some in (parts, parts[::-1], [parts[0], parts[0]]):
        path = tmp_path / f"x.{kind}"
        path.write_bytes(b"".join(part.read_bytes() for part in some))
        assert np.array_equal(load_audio(path), np.concatenate([load_audio(x) for x in some]))
        assert not at_16k(path)
        if kind in ("wav", "aiff"):  # of others a look at the header does not tell
            assert seconds(path) == pytest.approx(len(some), abs=0.001)


def test_aac_that_changes(tmp_path):
    parts = list(recordings(tmp_path, "aac"))
    (tmp_path / "x.aac").write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = sum(len(load_audio(part)) for part in parts)
    assert len(load_audio(tmp_path / "x.aac")) == pytest.approx(expected, abs=3000)


def test_several_streams_in_one_ogg(tmp_path):
    """Their first pages stand together and begin no other recording."""
    path = tmp_path / "x.ogg"
    with av.open(str(path), "w") as out:
        for _ in range(2):
            out.add_stream("libopus", rate=48000, layout="mono")
        for stream in out.streams:
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 48000), 8000, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate = 48000
            out.mux([*stream.encode(frame), *stream.encode(None)])
    assert len(load_audio(path)) == pytest.approx(16000, abs=400)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("aac", "wav"),
        ("aac", "flac"),
        ("m4a", "wav"),
        ("wav", "mp3"),
        ("wav", "raw"),
        ("wav", "ogg"),
        ("flac", "ogg"),
        ("flac", "wav"),
        ("mp3", "flac"),
        ("opus", "wav"),
        ("ogg", "mp3"),
        ("w64", "wav"),
        ("sds", "wav"),  # which FFmpeg does not know
        ("wav", ""),
    ],
)
def test_the_name_decides_nothing(right, wrong, tmp_path):
    path = tmp_path / f"x.{right}"
    samples = noise(1, 16000)
    if right in ("aac", "m4a"):
        encode(path, "aac", samples, 16000, format={"aac": "adts", "m4a": "mp4"}[right])
    elif right == "opus":
        soundfile.write(path, samples, 16000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, 16000)
    good = load_audio(path)
    other = path.rename(tmp_path / f"y.{wrong}")
    assert np.array_equal(load_audio(other), good) and abs(seconds(other) - 1) < 0.1
    if at_16k(other):  # stage 2 leaves it where it is, and ESPnet opens it by soundfile
        assert len(soundfile.read(other)[0]) == 16000


@pytest.mark.parametrize("kind", ["PAF", "SVX", "SDS"])
def test_what_only_libsndfile_knows(kind, tmp_path):
    """As a file, and as what a command writes."""
    path = tmp_path / "x"
    soundfile.write(path, noise(1, 16000), 16000, format=kind, subtype="PCM_16")
    expected = soundfile.read(path, dtype="float32")[0]
    assert np.array_equal(load_audio(path), expected)
    assert np.array_equal(load_command(f"cat '{path}'"), expected)


def test_two_bytes_make_no_audio(tmp_path):
    """Those of a sampler's files, which libsndfile knows."""
    path = tmp_path / "x.wav"
    path.write_bytes(b"\1\4" + np.random.default_rng(0).bytes(50_000))
    for read in (load_audio, seconds, lambda path: load_command(f"cat '{path}'")):
        with pytest.raises(AudioFault, match="corrupt"):
            read(path)


def test_webm_of_a_browser(tmp_path):
    """Without a duration, as it is recorded; stage 1 takes it."""
    path = encode(tmp_path / "x.webm", "libopus", noise(2, 48000), 48000)
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88")  # Duration, 8 bytes
    path.write_bytes(content[:at] + b"\xec\x89" + bytes(9) + content[at + 11 :])
    with av.open(str(path)) as container:
        assert container.duration is None
    assert seconds(path) == len(load_audio(path)) / 16000
    listing = Listing()
    for split in listing.splits:
        listing.add(split, f"{split}-1", "en", None, f"Good {split}.", path, "row")
    write_listing(listing, tmp_path / "out")
    assert json.loads((tmp_path / "out/report.json").read_text())["en"]["left_out"] == {}
    assert (tmp_path / "out/train/utt2dur").read_text() == "train-1 2.000\n"


def test_a_codec_that_is_not_there(tmp_path):
    path = encode(tmp_path / "x.mka", "pcm_s16le", noise(1, 16000), 16000)
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XXX/INT/LIT"))
    with pytest.raises(AudioFault, match="no decoder"):
        load_audio(path)


def test_a_tag_that_is_not_utf8(tmp_path):
    path = tmp_path / "x.mp3"
    soundfile.write(path, noise(1, 16000), 16000)
    good = load_audio(path)
    tag = b"TAG" + b"Caf\xe9".ljust(30, b"\0") + b"\xff" * 95
    path.write_bytes(path.read_bytes() + tag)
    assert np.array_equal(load_audio(path), good) and seconds(path) == pytest.approx(1, abs=0.15)
