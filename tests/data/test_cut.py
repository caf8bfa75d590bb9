"""Segments and commands of Kaldi folders, from stage 1 to one file an utterance."""

import json

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data, validate_data
from espnet_dq.data.audio import load_audio
from espnet_dq.data.command import load_command
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment
from espnet_dq.data.validation import faults, validate
from espnet_dq.errors import InputError
from local import kaldi_dir

SPLITS = ("train", "dev", "test")


def folder(path, wav, segments, text="言葉", **more):
    """Kaldi's files, without utt2lang, as recipes for CSJ and the like leave them."""
    path.mkdir(parents=True)
    files = {"wav.scp": wav}
    if segments:
        files["segments"] = segments
    utts = [line.split()[0] for line in segments or wav]
    files |= {"text": [f"{u} {text} {u}" for u in utts], "utt2spk": [f"{u} {u}" for u in utts]}
    files |= {"spk2utt": files["utt2spk"], "reco2file_and_channel": ["x x A"]} | more
    for name, lines in files.items():
        (path / name).write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")


@pytest.fixture
def stereo(clips, tmp_path):
    """A recording of 16 kHz with one clip to the left and another, later, to the right."""
    left, right = (soundfile.read(clip[0], dtype="int16")[0] for clip in clips[:2])
    both = np.zeros((len(left) + len(right), 2), np.int16)
    both[: len(left), 0], both[len(left) :, 1] = left, right
    path = tmp_path / "my recordings/call 1.wav"
    path.parent.mkdir()
    soundfile.write(path, both, 16000)
    return path, left, right


@pytest.fixture
def csj(stereo, tmp_path):
    """Three folders as a recipe for CSJ leaves them: commands, segments, other files."""
    path, left, right = stereo
    middle, end = len(left) / 16000, (len(left) + len(right)) / 16000
    segments = [
        f"call_a call 0 {middle} A",
        f"call_b call {middle} {end + 0.3:.3f} 1",  # rounded up, behind the recording's end
        "call_x call 100 101",
    ]
    folder(tmp_path / "csj/train", [f"call cat '{path}' |"], segments)
    for name in ("dev", "test"):
        own = tmp_path / f"{name}.wav"
        soundfile.write(own, left[: 16000 + len(name)], 16000)
        folder(tmp_path / f"csj/{name}", [f"{name} cat {own} |"], None)
    return tmp_path / "csj"


def test_recordings_are_cut(csj, stereo, tmp_path, monkeypatch):
    _, left, right = stereo
    out, dump = tmp_path / "out", tmp_path / "dump"
    options = ["--data_root", str(csj), "--language", "ja", "--out", str(out)]
    kaldi_dir.main([*options, "--allow_pipes"])
    report = json.loads((out / "report.json").read_text())
    assert report == {"ja": {"train": 3, "dev": 1, "test": 1, "left_out": {}}}  # no lengths known
    assert sorted(p.name for p in (out / "train").iterdir()) == [
        "segments", "spk2utt", "text", "utt2dur", "utt2lang", "utt2spk", "wav.scp",
    ]  # fmt: skip
    arguments = ["--data", str(out), "--out", str(dump), "--max_left_out", "20"]
    with pytest.raises(InputError, match=r"train/wav\.scp:1: .*--allow_pipes"):
        format_data.main(arguments)
    assert not dump.exists()
    format_data.main([*arguments, "--allow_pipes"])
    data = KaldiDir.load(dump / "train", extra=["utt2num_samples"])
    assert faults(dump / "train") == []
    assert data.utt2lang == {"call_a": "ja", "call_b": "ja"}
    for utt, samples in (("call_a", left), ("call_b", right)):
        cut, rate = soundfile.read(data.wav[utt], dtype="int16")
        assert rate == 16000 and np.array_equal(cut, samples)
        assert data.extra["utt2num_samples"][utt] == str(len(samples))
    report = json.loads((dump / "format.json").read_text())
    assert report["train"]["left_out"] == {"segment outside its recording": 1}
    # Nothing is decoded twice, but a segment that is moved is cut anew.
    before = {p: p.stat().st_ino for p in (dump / "wav").rglob("*.wav")}
    (out / "train/segments").write_text("call_a call 0 1.5 A\ncall_b call 3 4 1\ncall_x call 2 3\n")
    format_data.main([*arguments, "--allow_pipes"])
    assert {p: p.stat().st_ino for p in before} == before
    data = KaldiDir.load(dump / "train", extra=["utt2num_samples"])
    assert data.extra["utt2num_samples"]["call_a"] == "24000"


def test_commands_are_refused_unless_asked_for(csj, tmp_path):
    mark = tmp_path / "ran"
    scp = csj / "dev/wav.scp"
    scp.write_text(f"dev touch {mark} |\n")
    options = ["--data_root", str(csj), "--language", "ja", "--out", str(tmp_path / "out")]
    for command in (
        lambda: kaldi_dir.main(options),
        lambda: validate_data.main([str(csj / "dev")]),
    ):
        with pytest.raises(InputError) as error:
            command()
        assert "\n" not in str(error.value)
    (csj / "dev/utt2lang").write_text("dev ja\n")
    with pytest.raises(InputError, match=rf"{scp}:1: 'dev' is a command, .*--allow_pipes"):
        validate_data.main([str(csj / "dev")])
    assert validate_data.main([str(csj / "dev"), "--allow_pipes"]) == 0
    kaldi_dir.main([*options, "--allow_pipes"])
    assert not mark.exists() and KaldiDir.load(tmp_path / "out/dev").text  # stage 2 runs them
    with pytest.raises(InputError, match="dev: no utterance is left"):
        arguments = ["--data", str(tmp_path / "out"), "--out", str(tmp_path / "dump")]
        format_data.main([*arguments, "--allow_pipes"])
    assert mark.exists()


def test_load_command(stereo):
    path, left, right = stereo
    assert np.array_equal(load_command(f"cat '{path}'", 0)[: len(left)] * 32768, left)
    assert np.array_equal(load_command(f"cat '{path}'", 1)[len(left) :] * 32768, right)
    assert np.array_equal(load_command(f"cat '{path}'"), load_audio(path))
    for command, said in (
        (f"cat '{path}'x", "exit code 1: .*No such file"),
        ("true", "wrote no audio"),
        ("echo text", "corrupt audio"),
    ):
        with pytest.raises(InputError, match=said) as error:
            load_command(command)
        assert command in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"call 1\.wav: no channel 2"):
        load_audio(path, 2)


def test_the_mean_of_two_channels_is_no_louder(tmp_path):
    """FFmpeg's own mix of two equal channels is 3 dB louder than each."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    soundfile.write(tmp_path / "x.wav", np.stack([wave, wave], axis=1), 48000)
    assert np.abs(load_audio(tmp_path / "x.wav")).max() == pytest.approx(0.5, abs=0.01)
    soundfile.write(tmp_path / "y.wav", np.stack([wave, 0 * wave], axis=1), 48000)
    assert np.abs(load_audio(tmp_path / "y.wav", 1)).max() < 1e-6


def test_one_recording_in_two_splits(tmp_path):
    """Fine as long as no sound is in both."""
    path = tmp_path / "call 1.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (64000, 2)), 16000)
    times = {"train": "0 1", "dev": "1 2 0", "test": "1.5 3 1"}
    for name, part in times.items():
        folder(tmp_path / f"data/{name}", [f"call {path}"], [f"{name} call {part}"])
    out = tmp_path / "out"
    options = ["--data_root", str(tmp_path / "data"), "--language", "ja", "--out", str(out)]
    kaldi_dir.main(options)
    assert json.loads((out / "report.json").read_text())["ja"]["minutes"] == round(3.5 / 60, 2)
    arguments = ["--data", str(out), "--out", str(tmp_path / "dump")]
    format_data.main(arguments)
    test = KaldiDir.load(tmp_path / "dump/test")
    assert np.array_equal(load_audio(test.wav["test"]), load_audio(path, 1)[24000:48000])
    (out / "test/segments").write_text("test call 1.4 -1\n")
    with pytest.raises(InputError, match=r"call 1\.wav is in both dev and test"):
        format_data.main(arguments)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        (["a rec 0"], "segments:1: 'a': not of the form"),
        (["a rec 0 1 2 3"], "segments:1: 'a': not of the form"),
        (["a rec zero 1"], "segments:1: 'a': no time in seconds: zero"),
        (["a rec 0 1_0"], "segments:1: 'a': no time in seconds: 1_0"),
        (["a rec 0 \u0661"], "segments:1: 'a': no time in seconds: \u0661"),
        (["a rec 0 1e999"], "segments:1: 'a': no time in seconds: 1e999"),
        (["a rec 0 1 \u0661"], "segments:1: 'a': no channel: \u0661"),
        (["a rec 0 nan"], "segments:1: 'a': no time"),
        (["a rec -1 1"], "segments:1: 'a': no time"),
        (["a rec 2 1"], "segments:1: 'a': ends at 1"),
        (["a rec 0 1 C"], "segments:1: 'a': no channel: C"),
        (["a rec 0 1", "b other 0 1"], "segments: 'b': 'other' is not in wav.scp"),
        (["a rec 0 1", "a rec 1 2"], "segments:2: key 'a' stands twice"),
        ([], "segments: no utterances"),
    ],
)
def test_broken_segments(stereo, tmp_path, segments, said):
    folder(tmp_path / "data", [f"rec {stereo[0]}"], segments or ["a rec 0 1"])
    (tmp_path / "data/segments").write_text("".join(f"{line}\n" for line in segments))
    with pytest.raises(InputError) as error:
        validate(tmp_path / "data", lang="ja")
    assert str(error.value).startswith(f"{tmp_path}/data/{said}")


def test_segments_are_kept_and_never_overlooked(stereo, tmp_path):
    folder(tmp_path / "data", [f"rec {stereo[0]}"], ["a rec 0.125 1.5 B", "b rec 2 -1"])
    data = validate(tmp_path / "data", lang="ja")
    assert data.segments == {"a": Segment("rec", 0.125, 1.5, 1), "b": Segment("rec", 2.0)}
    data.save(tmp_path / "copy")
    assert validate(tmp_path / "copy") == data
    assert data.select(["b"]).segments == {"b": Segment("rec", 2.0)}
    with pytest.raises(InputError, match=r"copy/segments: cut it first"):
        KaldiDir.load(tmp_path / "copy")
    data.wav["b"] = "elsewhere.wav"
    with pytest.raises(InputError, match="recording 'rec' is both"):
        data.save(tmp_path / "copy")
    with pytest.raises(InputError, match="not a language code of Whisper: xx"):
        validate(tmp_path / "data", lang="xx")
