"""Files that end the process which reads them: named and counted, and the rest goes on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data, transcribe
from espnet_dq.data import apart
from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import load_audio
from espnet_dq.data.faults import CRASH, AudioFault
from espnet_dq.data.kaldi import KaldiDir
from tests.decode.fake import FakeRuntime

# Read by Python when it starts: FFmpeg "crashes" on files of a certain name.
CRASHES = """
import os, signal, av
opened = av.open
def crash(name, *more, **options):
    if "crash" in str(name):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in str(name):
        os._exit(0)
    return opened(name, *more, **options)
av.open = crash
"""


def sound(path, seed=0, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 2 * rate), rate)
    return path


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """From now on, processes that are started crash at files with "crash" in their names."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start/sitecustomize.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))
    apart._end_all()
    yield
    apart._end_all()


def folders(tmp_path, entries):
    """Three splits; train has `entries`, name -> entry of wav.scp."""
    for split in ("train", "dev", "test"):
        wav = entries if split == "train" else {split: str(sound(tmp_path / f"{split}.wav"))}
        same = {utt: utt for utt in wav}
        text = {utt: f"Text {utt}." for utt in wav}
        KaldiDir(wav, text, same, dict.fromkeys(wav, "en")).save(tmp_path / "data" / split)


@pytest.mark.slow
@pytest.mark.parametrize("nj", [1, 2])
@pytest.mark.parametrize("signal", ["SEGV", "KILL"])
def test_stage_2(signal, nj, tmp_path, capsys):
    """The command ends its parent, which is the worker."""
    names = [f"u{n:02d}" for n in range(12)]
    entries = {name: str(sound(tmp_path / f"audio/{name}.wav", n)) for n, name in enumerate(names)}
    for name in ("u03", "u07"):
        entries[name] = f"kill -{signal} $PPID; sleep 5 |"
    folders(tmp_path, entries)
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "dump"), "--allow_pipes"]
    format_data.main([*options, "--nj", str(nj), "--max_left_out", "50"])
    good = KaldiDir.load(tmp_path / "dump/train").wav
    assert sorted(good) == [name for name in names if name not in ("u03", "u07")]
    left_out = (tmp_path / "dump/left_out.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:3] for line in left_out] == [
        ["u03", "en", CRASH],
        ["u07", "en", CRASH],
    ]
    assert all(f"kill -{signal}" in line for line in left_out)
    with pytest.raises(Exception, match=f"2 {CRASH}"):
        format_data.main([*options, "--nj", str(nj), "--max_left_out", "1"])


@pytest.mark.slow
def test_stage_1_and_2_as_commands(crashing, tmp_path):
    names = ["a", "crash", "exit", "z"]
    entries = {x: str(sound(tmp_path / f"audio/{x}.ogg", n)) for n, x in enumerate(names)}
    folders(tmp_path, entries)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{root}"}
    script = [str(root / "local/kaldi_dir.py"), "--data_root", str(tmp_path / "data")]
    stage_2 = ["-m", "espnet_dq.bin.format_data", "--data", str(tmp_path / "data")]
    stages = [
        [*script, "--out", str(tmp_path / "listed"), "--nj", "2"],
        [*stage_2, "--out", str(tmp_path / "dump"), "--max_left_out", "90"],
    ]
    for command, out in zip(stages, ("listed", "dump"), strict=True):
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert sorted(KaldiDir.load(tmp_path / out / "train").wav) == ["a", "z"]
        lines = (tmp_path / out / "left_out.tsv").read_text().splitlines()[1:]
        assert [line.split("\t")[2] for line in lines] == [CRASH, CRASH]
        assert "crash.ogg" in lines[0] and "exit.ogg" in lines[1]


@pytest.mark.slow
def test_transcribe(crashing, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("espnet_dq.decode.printing.load_runtime", lambda *_, **__: FakeRuntime())
    files = [str(sound(tmp_path / name)) for name in ("a.ogg", "crash.ogg", "exit.ogg", "z.ogg")]
    given = [*files, "--model", "fake", "--runtime", "torch", "--language", "en"]
    assert transcribe.main(given) == 2
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [files[0], files[3]]
    first, second = err.splitlines()
    assert first.endswith(f"{files[1]}: the process that read it was ended by SIGSEGV")
    assert second.endswith(f"{files[2]}: the process that read it ended with exit code 0")


def test_relative_paths_are_those_of_the_current_folder(tmp_path, monkeypatch):
    """Also when the process that reads was started in another one."""
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        sound(tmp_path / name / "x.ogg", seed)
        monkeypatch.chdir(tmp_path / name)
        found = np.concatenate(list(read_apart("x.ogg")))
        assert np.array_equal(found, load_audio(tmp_path / name / "x.ogg"))


def test_read_apart_is_read_audio(tmp_path):
    path = sound(tmp_path / "x.ogg", rate=44100)
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(read_apart(path))), load_audio(path))
    (tmp_path / "y.ogg").write_text("no audio")
    for broken in ("y.ogg", "z.ogg"):
        with pytest.raises(AudioFault) as here:
            load_audio(tmp_path / broken)
        with pytest.raises(AudioFault) as there:
            list(read_apart(tmp_path / broken))
        assert str(here.value) == str(there.value) and here.value.cause == there.value.cause
    with open(path, "rb") as file:  # as `transcribe /dev/stdin < x.ogg`
        own = list(read_apart(f"/dev/fd/{file.fileno()}"))
    assert np.array_equal(np.concatenate(own), load_audio(path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioFault, match="pipe: a pipe or device: write it to a file first"):
        list(read_apart(tmp_path / "pipe"))
    next(stopped := read_apart(path))
    stopped.close()
    assert np.array_equal(np.concatenate(list(read_apart(path))), load_audio(path))
