import subprocess
import sys
from contextlib import suppress

import av
import numpy as np
import pytest
import soundfile

import espnet_dq.data.audio as audio
from espnet_dq.data.audio import at_16k, load_audio, save_wav, seconds, to_wav
from espnet_dq.data.command import load_command
from espnet_dq.data.decoders import CONTAINERS
from espnet_dq.errors import InputError
from tests.data.av_files import peak_hz


def tone(rate=16000, length=1.0, hz=440.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * length)) / rate)).astype(np.float32)


def write_g722(path, samples):
    """Encode (samples,) float32 at 16 kHz with FFmpeg's G.722 encoder."""
    with av.open(str(path), "w", format="g722") as out:
        stream = out.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples[None] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)


def test_g722_comes_through_bit_for_bit(tmp_path):
    path, wav = tmp_path / "x.g722", tmp_path / "x.wav"
    write_g722(path, tone())
    with av.open(str(path)) as f:
        integers = np.concatenate([frame.to_ndarray()[0] for frame in f.decode(audio=0)])
    samples = load_audio(path)
    assert samples.dtype == np.float32 and abs(len(samples) - 16000) < 400
    assert abs(peak_hz(samples) - 440) < 2
    save_wav(wav, samples)
    read, rate = soundfile.read(wav, dtype="int16")
    assert rate == 16000 and np.array_equal(read, integers)
    assert np.array_equal(load_audio(wav), samples)


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("a.wav", 16000, 1),
        ("a.wav", 16000, 2),
        ("a.flac", 16000, 1),
        ("a.wav", 8000, 1),
        ("a.flac", 44100, 2),
        ("a.ogg", 22050, 1),
        ("a.ogg", 48000, 2),
        ("a.mp3", 44100, 2),
    ],
)
def test_formats_rates_and_channels(tmp_path, name, rate, channels):
    path = tmp_path / name
    soundfile.write(path, np.stack([tone(rate)] * channels, axis=1), rate)
    samples = load_audio(path)
    # lossy formats are padded to whole blocks, mp3 at both ends
    assert abs(len(samples) - 16000) < (2500 if name == "a.mp3" else 400)
    assert abs(peak_hz(samples) - 440) < 2
    assert 0.3 < np.abs(samples).max() < 0.75
    assert seconds(path) == pytest.approx(1.0, abs=0.15)
    assert at_16k(path) == (rate == 16000 and name != "a.ogg")
    assert at_16k(path, channels=1) == (at_16k(path) and channels == 1)


def test_stereo_is_averaged(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([tone(), -tone()], axis=1), 16000)
    assert np.abs(load_audio(path)).max() < 1e-3


def test_loud_samples_are_clipped_not_wrapped(tmp_path):
    save_wav(tmp_path / "x.wav", np.array([2.0, -2.0, 1.0], np.float32))
    read, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert read.tolist() == [32767, -32768, 32767]


def broken(tmp_path, kind):
    """A broken audio file of each kind."""
    path = tmp_path / kind.split()[0]
    good = tmp_path / f"good{path.suffix}"
    if kind.endswith("truncated"):
        soundfile.write(good, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
        path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    elif kind.endswith("short of its header"):
        soundfile.write(path, tone(), 16000)
        content = bytearray(path.read_bytes())
        content[22:26] = (32000).to_bytes(4, "big")  # STREAMINFO's count of samples
        path.write_bytes(content)
    elif kind.endswith("empty"):
        path.write_bytes(b"")
    elif kind.endswith("header only"):
        soundfile.write(path, np.zeros(0), 16000)
    elif kind.endswith("text"):
        path.write_text("this is no audio\n" * 100)
    elif kind.endswith("nan"):
        soundfile.write(path, np.full(100, np.nan), 16000, subtype="FLOAT")
    elif kind.endswith("folder"):
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "x.wav truncated",
        "x.flac truncated",
        "x.flac short of its header",
        "x.wav empty",
        "x.ogg empty",
        "x.g722 empty",
        "x.wav header only",
        "x.wav text",
        "x.flac text",
        "x.ogg text",
        "x.mp3 text",
        "x.wav nan",
        "x.wav folder",
        "x.wav missing",
    ],
)
def test_broken_audio_is_named(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(InputError) as error:
        load_audio(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["x.wav text", "x.ogg text", "x.wav missing", "x.wav empty"])
def test_broken_headers_are_named(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(InputError, match=r"x\."):
        seconds(path)


def test_a_stream_of_unknown_length_is_read(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(), 16000)
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    assert len(load_audio(path)) == 16000


def test_video_without_sound(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    with pytest.raises(InputError, match="no audio in this file"):
        load_audio(path)


def test_to_wav_works_once(tmp_path):
    source, wav = tmp_path / "x.ogg", tmp_path / "sub" / "x.wav"
    soundfile.write(source, tone(), 16000)
    assert to_wav(source, wav) == pytest.approx(16000, abs=400)
    first = wav.stat().st_ino
    to_wav(source, wav)
    assert wav.stat().st_ino == first


def test_a_broken_source_leaves_no_wav(tmp_path):
    source = broken(tmp_path, "x.ogg text")
    with pytest.raises(InputError):
        to_wav(source, tmp_path / "out.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["x.ogg"]


PLAYLISTS = {
    "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "x.mp3": "ffconcat version 1.0\nfile {}\n",
    "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("read", [load_audio, seconds, lambda path: load_command(f"cat {path}")])
def test_a_playlist_opens_nothing_else(tmp_path, name, read):
    """FFmpeg would read the first two's other file (and listen for the third's sender)."""
    other = tmp_path / "private.mp3"
    soundfile.write(other, tone(), 16000)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(other.name if name == "x.mp3" else other))
    with pytest.raises(InputError, match=rf"{name}.*(corrupt|not one of the containers)"):
        read(path)


def test_containers_are_ffmpegs():
    known = set()
    for name in av.formats_available:
        with suppress(ValueError):  # written only
            known |= set(av.format.ContainerFormat(name, "r").name.split(","))
    assert known > set(CONTAINERS.split(","))
    assert not known & {"hls", "concat", "sdp"} & set(CONTAINERS.split(","))


def test_a_name_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("x.mp3", tone(), 16000)
    (tmp_path / "x.mp3").rename("concat:x.mp3")
    assert len(load_audio("concat:x.mp3")) > 15000 and seconds("concat:x.mp3") > 0.9


def test_what_is_held_in_memory_is_bounded(tmp_path, monkeypatch):
    """A megabyte of FLAC may be days of silence."""
    path = tmp_path / "x.flac"
    soundfile.write(path, np.zeros(21 * 16000), 16000)
    monkeypatch.setattr(audio, "LONGEST", 21)
    assert len(load_audio(path)) == 21 * 16000
    monkeypatch.setattr(audio, "LONGEST", 20)
    for read in (load_audio, lambda path: load_command(f"cat {path}")):
        with pytest.raises(InputError, match=r"x\.flac.*: longer than"):
            read(path)


def test_a_full_disk_ends_with_a_line_and_no_crash(tmp_path):
    """Regression: a buffer that the error still held crashed Python at its end."""
    code = (
        "import resource, sys, numpy; from espnet_dq.data.audio import save_wav\n"
        "from espnet_dq.errors import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))\n"
        "run(lambda: save_wav(sys.argv[1], numpy.zeros(16000, numpy.float32)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.wav")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "x.wav: File too large" in done.stderr
