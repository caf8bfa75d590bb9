"""A long recording is in memory once, and what nobody bounds is bounded."""

import subprocess
import sys
import time

import av
import numpy as np
import pytest
import soundfile

from espnet_dq.data import audio, command
from espnet_dq.data.command import load_command
from espnet_dq.data.faults import AudioFault

MINUTES = 15
ONCE = MINUTES * 60 * 16000 * 4  # bytes of it as float32
SLACK = 24e6  # bytes: blocks, pages, what libraries take at their first use

CODE = """
import sys
from pathlib import Path
import numpy as np
from espnet_dq.data.audio import load_audio, save_wav, to_wav
from espnet_dq.data.cut import Recording, cut
from espnet_dq.data.segments import Segment

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])

what, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
parts = [("a", Segment("r", 0.0, 10.0)), ("b", Segment("r", 10.0, 800.0))]
sound = np.full(int(sys.argv[4]), 0.1, np.float32) if what == "save" else None
start = peak() - (0 if sound is None else sound.nbytes)
if what == "load":
    load_audio(source)
elif what == "save":
    save_wav(folder / "x.wav", sound)
elif what == "to_wav":
    to_wav(source, folder / "x.wav")
elif what == "whole":
    assert not cut(folder, Recording(str(source), None, [("a", Segment("r"))]))[0].fault
elif what == "parts":
    assert not any(piece.fault for piece in cut(folder, Recording(str(source), None, parts)))
elif what == "command":
    assert not cut(folder, Recording(f"cat '{source}' |", None, [("a", Segment("r"))]))[0].fault
print(peak() - start)
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The same at 16 kHz, in stereo, and at 8 kHz, which PyAV reads."""
    folder = tmp_path_factory.mktemp("long")
    rng, made = np.random.default_rng(0), {}
    for name, rate, channels in (("x.wav", 16000, 1), ("x2.wav", 16000, 2), ("x8.wav", 8000, 1)):
        made[name] = folder / name
        block = rng.normal(0, 0.1, (60 * rate, channels))
        with soundfile.SoundFile(made[name], "w", rate, channels) as file:
            for _ in range(MINUTES):
                file.write(block)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "name", "times"),
    [
        ("load", "x.wav", 1.125),
        ("load", "x2.wav", 1.125),
        ("load", "x8.wav", 1.125),
        ("save", "x.wav", 1.0),
        ("parts", "x2.wav", 1.125),
        ("parts", "x8.wav", 1.125),
        ("to_wav", "x8.wav", 0.0),
        ("whole", "x2.wav", 0.0),
        ("whole", "x8.wav", 0.0),
        # What it writes is kept, too, up to 64 MiB.
        ("command", "x8.wav", 1.125 + 0.25),
    ],
)
def test_long_recordings_are_held_once(what, name, times, long, tmp_path):
    arguments = [what, str(long[name]), str(tmp_path), str(ONCE // 4)]
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < times * ONCE + SLACK


@pytest.mark.parametrize("name", ["x.wav", "x.ogg", "x.flac", "x.mp4"])
def test_output_longer_than_what_is_kept_in_memory(name, tmp_path, monkeypatch):
    """MP4's index stands behind the sound."""
    path = tmp_path / name
    samples = np.random.default_rng(0).normal(0, 0.1, 44100)
    if name == "x.mp4":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=44100, layout="mono")
            for first in range(0, 40 * 1024, 1024):
                part = samples[None, first : first + 1024].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, first
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        content = path.read_bytes()
        assert content.find(b"mdat") < content.find(b"moov")
    else:
        soundfile.write(path, samples, 44100)
    expected = load_command(f"cat '{path}'")
    monkeypatch.setattr(command, "IN_MEMORY", 2000)
    assert np.array_equal(load_command(f"cat '{path}'"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["yes", "cat /dev/zero", "cat /dev/urandom"])
def test_a_command_without_an_end(line):
    started = time.monotonic()
    with pytest.raises(AudioFault, match="corrupt"):
        load_command(line)
    assert time.monotonic() - started < 30


@pytest.mark.slow
def test_audio_without_an_end(tmp_path, monkeypatch):
    path = tmp_path / "head.wav"
    soundfile.write(path, np.zeros(100), 16000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # as streams say that nobody knows their length
    path.write_bytes(content)
    monkeypatch.setattr(audio, "LONGEST", 600)
    with pytest.raises(AudioFault, match="longer than"):
        load_command(f"cat '{path}' /dev/zero")


def test_output_without_an_end_behind_the_audio(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    monkeypatch.setattr(command, "MOST", 1 << 24)
    with pytest.raises(AudioFault, match="writes more than"):
        load_command(f"cat '{path}' /dev/zero")


def test_messages_without_an_end(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    assert len(load_command(f"yes 2>&1 >&2 | head -c 50000000 >&2; cat '{path}'")) == 16000
    with pytest.raises(AudioFault, match=r"failed, exit code 3: the last$"):
        load_command(f"yes | head -c 50000000 >&2; cat '{path}'; echo the last >&2; exit 3")
