"""bin.benchmark: systems side by side, each in processes of its own."""

import json

import numpy as np
import pytest
import soundfile

from espnet_dq.bin.benchmark import main
from espnet_dq.data.kaldi import read_scp, write_scp
from espnet_dq.decode import benchmark as module
from espnet_dq.decode.benchmark import read_systems
from espnet_dq.errors import InputError, WorkError


def write_run(path, *systems):
    path.write_text(json.dumps({"systems": list(systems)}))
    return str(path)


@pytest.mark.slow
def test_two_systems(toy_models, toy_data, tmp_path, capsys):
    systems = [{"name": n, "runtime": n, "path": str(p)} for n, p in toy_models.items()]
    run = write_run(tmp_path / "run.json", *systems)
    out = tmp_path / "benchmark.json"
    args = ["--systems", run, "--data", str(toy_data), "--out", str(out), "--threads", "1"]
    assert main([*args, "--clips", "3", "--rounds", "1"]) == 0
    report = json.loads(out.read_text())
    assert report["clips"] == 3 and report["threads"] == 1 and report["rounds"] == 1
    assert report["audio_seconds"] == 1.0 + 2.0 + 3.0  # every second clip
    assert list(report["systems"]) == list(toy_models)
    for name, system in report["systems"].items():
        assert system["runtime"] == name and system["compute_type"] == "float32"
        assert 0 < system["rtf"]["min"] <= system["rtf"]["median"] <= system["rtf"]["max"]
        assert system["load_seconds"] > 0
        # Three clips, each in a call of its own.
        assert 0 < system["first_word_seconds"] < system["rtf"]["max"] * report["audio_seconds"]
    # PyTorch takes more memory than faster-whisper with this model, which runs without it.
    memory = {name: system["peak_rss_bytes"] for name, system in report["systems"].items()}
    assert memory["faster-whisper"] < memory["torch"]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_clip_that_is_longer_than_its_header_says(tmp_path):
    """Two recordings of 20 s in one FLAC, which has no clip of a window then."""
    soundfile.write(tmp_path / "x.flac", np.zeros(20 * 16000), 16000)
    path = tmp_path / "y.flac"
    path.write_bytes((tmp_path / "x.flac").read_bytes() * 2)
    write_scp(tmp_path / "wav.scp", {"y": str(path)})
    write_scp(tmp_path / "utt2lang", {"y": "en"})
    run = write_run(tmp_path / "run.json", {"name": "a", "runtime": "torch", "path": "none.pt"})
    with pytest.raises(InputError, match=r"wav\.scp: no clip of 30 s or less"):
        main(["--systems", run, "--data", str(tmp_path), "--out", str(tmp_path / "out.json")])


def test_clips_that_are_gone_are_no_long_ones(tmp_path):
    write_scp(tmp_path / "wav.scp", {"y": str(tmp_path / "gone.wav")})
    write_scp(tmp_path / "utt2lang", {"y": "en"})
    with pytest.raises(InputError, match=r"no clip of 30 s or less: .*gone\.wav"):
        module._choose(tmp_path, tmp_path / "subset", 3)


@pytest.mark.parametrize(("clips", "chosen"), [(1, "5"), (3, "258"), (20, "0245678")])
def test_clips_are_taken_at_even_distances_and_only_these_are_read(
    clips, chosen, tmp_path, monkeypatch, capsys
):
    """1 is too long, 3 is missing, 9 is no audio: a neighbour stands in their place."""
    wav = {str(n): tmp_path / f"{n}.wav" for n in range(10)}
    for n, path in wav.items():
        if n == "9":
            path.write_bytes(b"no audio")
        elif n != "3":
            soundfile.write(path, np.zeros(31 * 16000 if n == "1" else 160), 16000)
    write_scp(tmp_path / "wav.scp", {n: str(path) for n, path in wav.items()})
    write_scp(tmp_path / "utt2lang", dict.fromkeys(wav, "en"))
    read, asked = module.read_audio, []
    monkeypatch.setattr(module, "read_audio", lambda path: asked.append(path) or read(path))
    assert module._choose(tmp_path, tmp_path / "subset", clips) == len(chosen)
    assert "".join(read_scp(tmp_path / "subset/wav.scp")) == chosen
    assert len(asked) == len({*asked}) <= min(10, len(chosen) + 3)
    said = capsys.readouterr().err
    assert ("clips cannot be read: " in said) is (clips == 20)


@pytest.mark.slow
def test_broken_system_is_named_and_nothing_is_written(toy_data, tmp_path):
    system = {"name": "student", "runtime": "faster-whisper", "path": str(tmp_path / "none")}
    run = write_run(tmp_path / "run.json", system)
    out = tmp_path / "benchmark.json"
    with pytest.raises(WorkError, match=r"benchmark of student: .*none: .*model\.bin is missing"):
        main(["--systems", run, "--data", str(toy_data), "--out", str(out)])
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "key 'systems'"),
        ('{"systems": []}', "key 'systems'"),
        ('{"systems": [{"name": "a", "runtime": "torch"}]}', r"systems\[0\]: 'path'"),
        ('{"systems": [{"name": "a", "runtime": "x", "path": "p"}]}', "unknown runtime 'x'"),
    ],
)
def test_bad_run_json_is_one_line(content, message, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_systems(path)
    with pytest.raises(InputError, match="no such file"):
        read_systems(tmp_path / "none.json")
