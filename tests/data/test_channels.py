"""Audio with many channels; each file is read by another process, which it might crash."""

import av
import numpy as np
import pytest
import soundfile

from espnet_dq.data.audio import load_audio
from espnet_dq.data.command import load_command
from espnet_dq.data.parallel import parallel_map
from tests.data.av_files import peak_hz


def load(job):
    path, channels = job
    found = {"mean": load_audio(path), "command": load_command(f"cat '{path}'")}
    return found | {f"channel{c}": load_audio(path, c) for c in channels}


def read(path, *channels):
    """What `load_audio` and `load_command` give: the mean of all channels and some of them."""
    (found,) = parallel_map(load, [(path, channels)], 1, 1, "test", lambda _: None)
    assert found is not None, f"{path.name} ended its reader"
    return found


def tones(channels, rate, seconds=0.5):
    """(samples, channels): another tone in each."""
    times = np.arange(int(rate * seconds))[:, None] / rate
    hz = 200 + 40 * (np.arange(channels) % 64)
    return 0.5 * np.sin(2 * np.pi * hz * times), hz


# Sample formats u8, s16, s24 (s32), float, double, packed; those of codecs, planar.
WRITTEN = [
    ("x.wav", {"subtype": "PCM_16"}, 44100, (1, 2, 7, 8, 9, 16, 32, 64, 65, 128)),
    ("x.wav", {"subtype": "PCM_16"}, 16000, (8, 64, 128)),
    ("x.wav", {"format": "WAVEX", "subtype": "PCM_24"}, 48000, (6, 8, 12)),
    ("x.wav", {"subtype": "PCM_U8"}, 8000, (8, 10)),
    ("x.wav", {"subtype": "DOUBLE"}, 22050, (8, 24)),
    ("x.flac", {}, 48000, (8,)),
    ("x.flac", {}, 16000, (8,)),
    ("x.caf", {"subtype": "FLOAT"}, 16000, (8, 32)),
    ("x.w64", {"format": "W64", "subtype": "PCM_32"}, 32000, (16,)),
    ("x.aiff", {"subtype": "PCM_16"}, 44100, (8,)),
    ("x.ogg", {"subtype": "VORBIS"}, 44100, (8, 16, 70)),
    ("x.opus", {"format": "OGG", "subtype": "OPUS"}, 48000, (8, 10, 66)),
]
CASES = [(*case[:3], count) for case in WRITTEN for count in case[3]]


@pytest.mark.parametrize(
    ("name", "kind", "rate", "count"),
    CASES,
    ids=["-".join(map(str, (c[0], *c[1].values(), c[2], c[3]))) for c in CASES],
)
def test_any_number_of_channels(tmp_path, name, kind, rate, count):
    path = tmp_path / name
    samples, hz = tones(count, rate)
    soundfile.write(path, samples, rate, **kind)
    found = read(path, 0, count - 1)
    assert abs(len(found["mean"]) - 8000) < 400
    assert np.allclose(found["mean"], found["command"], atol=2e-4)
    if name not in ("x.opus", "x.ogg"):  # which change their channels' order
        for channel in (0, count - 1):
            assert abs(peak_hz(found[f"channel{channel}"]) - hz[channel]) < 5
    expected = samples.mean(axis=1)[:: rate // 8000][:3000]
    if rate % 8000 == 0 and name != "x.opus":
        assert np.abs(found["mean"][::2][: len(expected)] - expected).max() < 0.05


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("x.m4a", "aac", "7.1(wide)"),
        ("x.mkv", "pcm_s16le", "7.1"),
        ("x.wv", "wavpack", "7.1"),
        ("x.mka", "flac", "7.1"),
        ("x.mov", "pcm_f32le", "hexadecagonal"),
    ],
)
def test_eight_channels_and_more_of_ffmpegs(tmp_path, name, codec, layout):
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=48000, layout=layout)
        count = stream.layout.nb_channels
        samples = tones(count, 48000)[0].astype(np.float32)
        made = av.AudioResampler(format=stream.format, layout=layout, rate=48000)
        for first in range(0, len(samples), 1024):
            part = np.ascontiguousarray(samples[first : first + 1024].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts = 48000, first
            for ready in made.resample(frame):
                for packet in stream.encode(ready):
                    out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    found = read(path, count - 1)
    assert abs(len(found["mean"]) - 8000) < 700 and np.abs(found["mean"]).max() > 0.05


def test_a_stream_that_changes_its_layout(tmp_path):
    """Two recordings one after the other, as radio stations send them."""
    parts = []
    for number, count in enumerate((2, 1)):
        path = tmp_path / f"{number}.mp3"
        soundfile.write(path, tones(count, 44100)[0], 44100)
        parts.append(path.read_bytes())
    (tmp_path / "x.mp3").write_bytes(b"".join(parts))
    assert len(read(tmp_path / "x.mp3")["mean"]) > 15000


def test_titles_may_be_in_any_encoding(tmp_path):
    path = tmp_path / "x.mp3"
    soundfile.write(path, tones(1, 16000)[0], 16000)
    title = b"\x03Gr\xfc\xdfe"  # said to be UTF-8
    frame = b"TIT2" + len(title).to_bytes(4, "big") + b"\0\0" + title
    head = b"ID3\x03\0\0" + bytes([0, 0, 0, len(frame)])
    path.write_bytes(head + frame + path.read_bytes())
    assert len(read(path)["mean"]) > 7000
