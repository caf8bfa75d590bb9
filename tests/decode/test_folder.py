"""Decoding a folder: what is written, bad clips, and going on after a kill."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import espnet_dq as dq
from espnet_dq.bin.decode import main as decode_main
from espnet_dq.config import CHECKPOINT
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.kaldi import read_scp, write_scp
from espnet_dq.data.pieces import pieces
from espnet_dq.data.validation import validate
from espnet_dq.decode import folder
from espnet_dq.decode.folder import PARTIAL, _timed, decode_folder
from espnet_dq.decode.parts import join_parts
from espnet_dq.decode.utterances import Decoded, Job, decode
from espnet_dq.errors import InputError, WorkError
from espnet_dq.jobs import Part
from espnet_dq.runtimes.interface import Hypothesis
from tests.decode.fake import FakeRuntime, spoken

RUNTIMES = ("faster-whisper", "torch")


def texts(folder):
    return read_scp(folder / "text", empty=True)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_folder_holds_text_and_record(runtime, toy_models, toy_data, tmp_path):
    report = decode_folder(toy_models[runtime], runtime, toy_data, tmp_path / "out", threads=1)
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["decode.json", "text"]
    assert json.loads((out / "decode.json").read_text()) == report
    assert list(texts(out)) == [f"utt{i}" for i in range(6)]
    assert all(texts(out).values())
    assert report["audio_seconds"] == 0.5 + 1 + 1.5 + 2 + 2.5 + 3
    rounded = 0.0005 / 10.5 + 0.000005  # milliseconds, and five decimals
    assert report["rtf"] == pytest.approx(report["wall_seconds"] / 10.5, rel=1e-6, abs=rounded)
    assert report["utterances"] == 6 and report["failed"] == {}
    assert report["options"]["compute_type"] == "float32"
    assert 50 * 2**20 < report["peak_rss_bytes"] < 8 * 2**30
    one_by_one = runtime == "faster-whisper"  # torch takes a batch
    assert (report["first_word_seconds"] is not None) == one_by_one


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_long_utterances_are_cut_and_joined(runtime, toy_models, toy_data, tmp_path):
    """As if their pieces were utterances; in the midst of short ones, and of a bad one."""
    wav, languages = read_scp(toy_data / "wav.scp"), read_scp(toy_data / "utt2lang")
    long = np.random.default_rng(0).normal(0, 0.1, 70 * SAMPLE_RATE).astype(np.float32)
    save_wav(wav["utt2"], long)
    alone = {}
    for i, (_, piece) in enumerate(pieces([load_audio(wav["utt2"])], 30)):
        alone[f"piece{i}"] = str(tmp_path / f"{i}.wav")
        save_wav(alone[f"piece{i}"], piece)
    with open(wav["utt4"], "r+b") as f:
        f.truncate(900)
    write_scp(toy_data / "wav.scp", wav | alone)
    write_scp(toy_data / "utt2lang", languages | dict.fromkeys(alone, languages["utt2"]))
    model, out = toy_models[runtime], tmp_path / "out"
    report = decode_folder(model, runtime, toy_data, out, threads=1, nj=2)
    assert report["cut"] == {"utterances": 1, "pieces": 3, "longest_seconds": 30.0}
    assert sorted(report["failed"]) == ["utt4"]
    found = texts(out)
    assert found["utt2"] == " ".join(found[name] for name in alone)
    assert all(text for utt, text in found.items() if utt != "utt4")
    assert report["audio_seconds"] == 140 + 0.5 + 1 + 2 + 3


@pytest.mark.parametrize(("language", "space"), [("en", " "), ("ja", "")])
def test_pieces_come_in_batches_and_are_joined_as_the_language_is_written(
    language, space, tmp_path
):
    calls = []

    class Engine:
        window, batch = 2.0, 2

        def decode(self, clips, language):
            assert all(len(clip) <= 2 * SAMPLE_RATE for clip in clips)
            calls.append(len(clips))
            return [Hypothesis(f" あ{len(calls)}\n{i} ") for i in range(len(clips))]

    for name, seconds in (("long", 5), ("short", 1)):
        save_wav(tmp_path / f"{name}.wav", np.full(seconds * SAMPLE_RATE, 0.1, np.float32))
    wav = {name: str(tmp_path / f"{name}.wav") for name in ("long", "short", "none")}
    long, short, none = decode(Engine(), Job(language, wav))
    assert calls == [2, 2, 1]
    assert long.text == space.join(["あ1 0", "あ1 1", "あ2 0", "あ2 1"]) and long.pieces == 4
    assert (long.seconds, short.seconds, short.text, short.pieces) == (5, 1, "あ3 0", 1)
    assert str(tmp_path / "none.wav") in none.failed


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_bad_clip_is_counted_and_the_rest_goes_on(runtime, toy_models, toy_data, tmp_path):
    whole = tmp_path / "whole"
    decode_folder(toy_models[runtime], runtime, toy_data, whole, threads=1)
    wav = read_scp(toy_data / "wav.scp")
    with open(wav["utt2"], "r+b") as f:
        f.truncate(900)
    write_scp(toy_data / "wav.scp", wav | {"utt5": "nowhere.wav"})
    report = decode_folder(toy_models[runtime], runtime, toy_data, tmp_path / "out", threads=1)
    assert sorted(report["failed"]) == ["utt2", "utt5"]
    assert wav["utt2"] in report["failed"]["utt2"] and "nowhere.wav" in report["failed"]["utt5"]
    assert report["audio_seconds"] == 0.5 + 1 + 2 + 2.5
    assert texts(tmp_path / "out") == texts(whole) | {"utt2": "", "utt5": ""}


@pytest.mark.slow
def test_nothing_decoded_is_an_error_and_keeps_the_older_result(toy_models, toy_data, tmp_path):
    model = toy_models["faster-whisper"]
    decode_folder(model, "faster-whisper", toy_data, tmp_path / "out", threads=1)
    before = (tmp_path / "out/text").read_bytes(), (tmp_path / "out/decode.json").read_bytes()
    shutil.rmtree(toy_data / "wav")
    with pytest.raises(WorkError, match=r"no utterance could be decoded; utt0: .*utt0\.wav"):
        decode_folder(model, "faster-whisper", toy_data, tmp_path / "out", threads=1)
    after = (tmp_path / "out/text").read_bytes(), (tmp_path / "out/decode.json").read_bytes()
    assert after == before


@pytest.mark.slow
def test_killed_run_goes_on_where_it_was(toy_models, toy_data, tmp_path):
    model, out = toy_models["faster-whisper"], tmp_path / "out"
    wav = read_scp(toy_data / "wav.scp")
    many = {f"{utt}_{i}": path for utt, path in wav.items() for i in range(8)}
    write_scp(toy_data / "wav.scp", many)
    write_scp(toy_data / "utt2lang", dict.fromkeys(many, "it"))
    decode_folder(model, "faster-whisper", toy_data, tmp_path / "whole", threads=1)
    command = [sys.executable, "-m", "espnet_dq.bin.decode", "--model", str(model)]
    command += ["--runtime", "faster-whisper", "--data", str(toy_data), "--out", str(out)]
    killed = subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.DEVNULL)
    partial = out / PARTIAL
    deadline = time.monotonic() + 60
    while not partial.exists() or partial.read_text().count("\n") < 5:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (out / "text").exists()

    lines = partial.read_text().splitlines(keepends=True)
    first = json.loads(lines[1])
    lines[1] = json.dumps(first | {"text": "kept"}) + "\n"
    cut = lines[-1][: len(lines[-1]) // 2]  # a kill may cut the last line short
    partial.write_text("".join(lines[:-1]) + cut)
    report = decode_folder(model, "faster-whisper", toy_data, out, threads=1)
    assert texts(out) == texts(tmp_path / "whole") | {first["utt"]: "kept"}
    assert report["rtf"] is None and report["utterances"] == len(many)
    assert not partial.exists()


def replaced(path, content):
    """Write a file of the same size, name and time anew, as packages and images bring it."""
    before = path.stat()
    assert len(content) == before.st_size and content != path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["nothing", "touch", "beam", "audio list", "audio", "language", "model"]
)
def test_partial_results_of_other_work_are_not_used(
    change, toy_models, toy_data, tmp_path, monkeypatch
):
    out, model = tmp_path / "out", tmp_path / "ct2"
    shutil.copytree(toy_models["faster-whisper"], model)
    wav = read_scp(toy_data / "wav.scp")
    clip = Path(shutil.copy(wav["utt0"], tmp_path / "clip.wav"))
    write_scp(toy_data / "wav.scp", wav | {"utt0": str(clip)})

    def full(*args):
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no room"):
        patched.setattr(folder, "write_decoded", full)  # so that the run fails at its end
        decode_folder(model, "faster-whisper", toy_data, out, threads=1)
    lines = (out / PARTIAL).read_text().splitlines()
    assert json.loads(lines[1])["utt"] == "utt0"
    lines[1] = json.dumps(json.loads(lines[1]) | {"text": "kept"})
    (out / PARTIAL).write_text("\n".join(lines) + "\n")

    wav, languages = read_scp(toy_data / "wav.scp"), read_scp(toy_data / "utt2lang")
    if change == "language":
        write_scp(toy_data / "utt2lang", languages | {"utt0": "fr"})
    elif change == "model":
        config = (model / "config.json").read_bytes()
        replaced(model / "config.json", config.replace(b"\n", b" ", 1))
    elif change == "audio":
        replaced(clip, clip.read_bytes()[:-2000] + bytes(2000))
    elif change == "touch":
        (model / "model.bin").touch()
        clip.touch()
    elif change == "audio list":
        write_scp(toy_data / "wav.scp", wav | {"utt0": wav["utt1"]})
    beam_size = 2 if change == "beam" else 1
    decode_folder(model, "faster-whisper", toy_data, out, threads=1, beam_size=beam_size)
    assert (texts(out)["utt0"] == "kept") == (change in ("nothing", "touch"))


@pytest.mark.parametrize(
    ("runtime", "model", "file"),
    [("onnx", "js", "onnx/decoder_model_merged_q4.onnx"), ("torch", "exp", f"qat/{CHECKPOINT}"),
     ("torch", "exp", "qat/config.yaml"), ("torch", f"exp/qat/{CHECKPOINT}", "../config.yaml")],
)  # fmt: skip
def test_partial_results_of_another_model_below_its_folder_are_not_used(
    runtime, model, file, tmp_path, toy_data, monkeypatch
):
    """Graphs for transformers.js, and a training: their weights lie a folder deeper."""
    text = "before"

    class Engine(Told):
        languages = frozenset(["en", "ru"])

        def decode(self, clips, language):
            return [Hypothesis(text)] * len(clips)

    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Engine())
    for name in ("js/config.json", "js/onnx/decoder_model_merged_q4.onnx", f"exp/qat/{CHECKPOINT}",
                 "exp/qat/config.yaml"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x: 1")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="no room"):
        patched.setattr(
            folder, "write_decoded", lambda *_: (_ for _ in ()).throw(OSError("no room"))
        )
        decode_folder(tmp_path / model, runtime, toy_data, tmp_path / "out")
    (tmp_path / "exp/qat/1epoch.pth").touch()  # of a training that goes on
    text = "after"
    (toy_data / "kept").mkdir()
    shutil.copy(tmp_path / "out" / PARTIAL, toy_data / "kept")
    decode_folder(tmp_path / model, runtime, toy_data, toy_data / "kept")
    assert set(texts(toy_data / "kept").values()) == {"before"}
    changed = tmp_path / model / file
    Path(os.path.normpath(changed)).write_text("x: 2")
    decode_folder(tmp_path / model, runtime, toy_data, tmp_path / "out")
    assert set(texts(tmp_path / "out").values()) == {"after"}


@pytest.mark.slow
def test_shared_by_all_that_decode_the_same(toy_models, toy_data, tmp_path):
    """Equal weights in another place, the same clips: decoded once; with another beam, again."""

    def decode(name, model, *options, shared=True):
        options += ("--shared", str(tmp_path / "shared")) if shared else ()
        decode_main(
            ["--model", str(model), "--runtime", "faster-whisper", "--data", str(toy_data),
             "--out", str(tmp_path / name), *options]
        )  # fmt: skip
        return (tmp_path / name).resolve()

    model, copy = toy_models["faster-whisper"], tmp_path / "copy"
    shutil.copytree(model, copy)
    place = decode("one", model)
    assert place.parent == tmp_path / "shared" and all(texts(place).values())
    write_scp(place / "text", texts(place) | {"utt0": "kept"})
    assert decode("two", copy) == place and texts(tmp_path / "two")["utt0"] == "kept"
    # A link into what is shared is not written through, also by who does not say it again.
    assert decode("two", copy, shared=False) == place
    assert decode("two", copy, "--beam_size", "2", shared=False) != place
    assert texts(place)["utt0"] == "kept" and (tmp_path / "two").is_symlink()
    wav = read_scp(toy_data / "wav.scp")
    shutil.copy(wav["utt1"], wav["utt0"])
    assert decode("one", model) != place and texts(tmp_path / "one")["utt0"] != "kept"


@pytest.mark.parametrize("model", ["exp", f"exp/qat/{CHECKPOINT}"])
def test_what_of_a_training_decides_is_shared(model, tmp_path, toy_data, monkeypatch):
    """Its checkpoint, configuration and ranges, wherever they lie; not what else is there."""

    class Engine(Told):
        languages = frozenset(["en", "ru"])

        def decode(self, clips, language):
            return [Hypothesis("said")] * len(clips)

    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Engine())
    (tmp_path / "exp/qat").mkdir(parents=True)
    files = {"config.yaml": f"model_conf: {{activation_ranges: {tmp_path}/exp/qat/ranges}}",
             CHECKPOINT: "weights", "ranges": "1"}  # fmt: skip
    for name, content in files.items():
        (tmp_path / "exp/qat" / name).write_text(content)

    def place(exp=tmp_path):
        decode_main(
            ["--model", str(exp / model), "--runtime", "torch", "--data", str(toy_data),
             "--out", str(tmp_path / "out"), "--shared", str(tmp_path / "shared")]
        )  # fmt: skip
        return (tmp_path / "out").resolve()

    first = place()
    (tmp_path / "exp/qat/1epoch.pth").write_text("of a training that goes on")
    (tmp_path / "exp/run.json").write_text("{}")
    shutil.copytree(tmp_path / "exp", tmp_path / "other/exp")
    assert place() == place(tmp_path / "other") == first
    places = {first}
    for name, content in files.items():
        (tmp_path / "exp/qat" / name).write_text(f"{content} ")
        places.add(place())
    assert len(places) == 4


def test_unknown_language_names_the_utterance(toy_models, toy_data, tmp_path):
    languages = read_scp(toy_data / "utt2lang")
    write_scp(toy_data / "utt2lang", languages | {"utt4": "tlh"})
    for runtime, model in toy_models.items():
        with pytest.raises(InputError, match=r"utt2lang: 'utt4': 'tlh': not a language of"):
            decode_folder(model, runtime, toy_data, tmp_path / "out")
    del languages["utt4"]
    write_scp(toy_data / "utt2lang", languages)
    with pytest.raises(InputError, match="utt2lang: no line for 'utt4'"):
        decode_folder(toy_models["torch"], "torch", toy_data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Told(FakeRuntime):
    """Hears what is in the samples, for all of a folder; 13 s of audio make it fail."""

    workers, batch, threads, compute_type, options = 2, 1, 2, "float32", {"beam_size": 1}

    def transcribe(self, audio, language, timestamps, temperatures):
        assert timestamps
        if len(audio) == 13 * SAMPLE_RATE:
            raise RuntimeError("no luck")
        return super().transcribe(audio, language, timestamps, temperatures)


def test_timestamps_are_segments_of_a_kaldi_folder(tmp_path, monkeypatch):
    """Each word at its time in the recording, in one job as in several; what fails is named."""
    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Told())
    data, starts = tmp_path / "data", {}
    for name, seconds in (("long", 100), ("short", 5), ("still", 2)):
        audio, starts[name] = spoken(seconds)
        if name == "still":
            audio, starts[name] = 0 * audio, []
        save_wav(data / f"{name}.wav", audio)
    save_wav(data / "bad.wav", np.tile(np.float32([0.1, -0.1]), 13 * SAMPLE_RATE // 2))
    write_scp(data / "wav.scp", {n: str(data / f"{n}.wav") for n in (*starts, "bad")})
    write_scp(data / "utt2lang", dict.fromkeys((*starts, "bad"), "it"))
    given = ["--model", "fake", "--runtime", "torch", "--data", str(data), "--timestamps"]

    def decoded(out, *more):
        decode_main([*given, "--out", str(out), *more])
        timed = validate(out / "timed")
        return timed.segments, timed.text, texts(out)

    segments, words, whole = decoded(tmp_path / "whole")
    assert Counter(s.recording for s in segments.values()) == {
        n: len(of) for n, of in starts.items() if len(of)
    }
    for name, of in starts.items():
        found = [utt for utt in segments if segments[utt].recording == name]
        assert [words[utt] for utt in found] == [f"w{k}" for k in range(len(of))]
        assert np.allclose([segments[u].start * SAMPLE_RATE for u in found], of, atol=0.1)
        assert whole[name] == " ".join(words[utt] for utt in found)
    report = json.loads((tmp_path / "whole/decode.json").read_text())
    assert report["failed"] == {"bad": "RuntimeError: no luck"} and whole["bad"] == ""
    assert report["cut"]["utterances"] == 1 and report["first_word_seconds"] is None
    assert report["options"]["timestamps"] is True
    for part in ("1/3", "2/3", "3/3"):
        decode_main([*given, "--out", str(tmp_path / "parts"), "--part", part])
    assert decoded(tmp_path / "parts", "--join", "3") == (segments, words, whole)
    # Without them, no older ones stay.
    monkeypatch.setattr(
        Told, "decode", lambda _, clips, language: [Hypothesis("x")] * len(clips), raising=False
    )
    decode_main([*given[:-1], "--out", str(tmp_path / "whole")])
    assert not (tmp_path / "whole/timed").exists() and texts(tmp_path / "whole")["short"] == "x"


def test_segments_without_length_get_some(tmp_path):
    """As whisper.cpp may leave them; Kaldi knows no such thing."""
    save_wav(tmp_path / "x.wav", np.zeros(SAMPLE_RATE, np.float32))
    found = [(0.0, 0.0, "a"), (0.3, 0.3, "b"), (0.3, 1.0, "c")]
    done = {"u": Decoded("u", segments=found)}
    _timed({"u": str(tmp_path / "x.wav")}, {"u": "en"}, done).save(tmp_path / "timed")
    data = validate(tmp_path / "timed")
    assert list(data.text.values()) == ["a", "b", "c"]
    times = [(s.start, s.end) for s in data.segments.values()]
    assert times == [(0.0, 0.01), (0.29, 0.3), (0.3, 1.0)]


def test_timestamps_that_a_model_cannot_give_are_no_fault_of_the_clips(
    tmp_path, toy_data, monkeypatch
):
    class Short(Told):
        def transcribe(self, audio, language, timestamps, temperatures):
            raise InputError("timestamps need a window of 30 s")

    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Short())
    monkeypatch.setattr(Told, "languages", frozenset(["en", "ru"]))
    with pytest.raises(InputError, match="need a window"):
        decode_folder("fake", "torch", toy_data, tmp_path / "out", timestamps=True)
    assert not (tmp_path / "out/text").exists()


def test_a_runtime_without_timestamps_is_asked_for_none(tmp_path, toy_data, monkeypatch):
    """It is said before any clip, by `dq.transcribe` before it is iterated."""
    monkeypatch.setattr(Told, "languages", frozenset(["en", "ru"]))
    monkeypatch.setattr(Told, "timed", False, raising=False)
    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Told())
    with pytest.raises(InputError, match="this runtime has none of this model"):
        decode_folder("fake", "torch", toy_data, tmp_path / "out", timestamps=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="this runtime has none of this model"):
        dq.transcribe(tmp_path / "x.wav", Told(), "en", timestamps=True)


def test_a_lack_of_memory_is_no_text(toy_data):
    """It is the machine's, not the model's, and ends the work."""

    class Full:
        window, batch, languages = 30.0, 2, frozenset({"en"})

        def decode(self, clips, language):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    with pytest.raises(RuntimeError, match="can't allocate"):
        decode(Full(), Job("en", read_scp(toy_data / "wav.scp")), False)


def test_a_language_of_the_models_own_is_decoded_and_scored(toy_data, tmp_path, monkeypatch):
    """A token that was added to it; of other texts nobody says that a model has it."""
    languages = read_scp(toy_data / "utt2lang")
    write_scp(toy_data / "utt2lang", languages | {"utt4": "gsw"})
    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Told())
    monkeypatch.setattr(Told, "languages", frozenset([*languages.values(), "gsw"]))
    monkeypatch.setattr(
        Told, "decode", lambda _, clips, language: [Hypothesis("x")] * len(clips), raising=False
    )
    write_scp(tmp_path / "text", dict.fromkeys(languages, "x"))
    shutil.copy(toy_data / "utt2lang", tmp_path / "utt2lang")
    for number in (1, 2):
        decode_folder("fake", "torch", toy_data, tmp_path / "out", part=Part(number, 2))
    join_parts(toy_data, tmp_path / "out", 2)
    assert dq.score(tmp_path, tmp_path / "out")["wer"]["gsw"] == 0
    (tmp_path / "out/decode.json").write_text("[]")
    with pytest.raises(InputError, match="'utt4': 'gsw': not a language of Whisper"):
        dq.score(tmp_path, tmp_path / "out")
