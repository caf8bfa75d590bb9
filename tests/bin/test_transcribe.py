"""bin.transcribe: files of any kind and length, language given or not."""

import json
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import av
import jiwer
import numpy as np
import pytest
import soundfile
from faster_whisper import WhisperModel
from whisper.normalizers import BasicTextNormalizer

import espnet_dq as dq
from espnet_dq.bin.decode import main as decode
from espnet_dq.bin.transcribe import main
from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import read_scp, write_scp
from espnet_dq.data.noise import hum
from espnet_dq.data.texts import join
from espnet_dq.decode import printing as command
from espnet_dq.decode.transcribe import transcribe
from espnet_dq.errors import InputError
from espnet_dq.formats.write import write
from espnet_dq.runtimes import Segment, load_runtime
from espnet_dq.whisper.weights import Weights
from tests.data.av_files import encode
from tests.decode.fake import FakeRuntime, Marking, Unsure, quiet, spoken


def words(text):
    return BasicTextNormalizer()(text)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(command, "load_runtime", lambda *_, **__: FakeRuntime())
    return ["--model", "fake", "--runtime", "torch"]


@pytest.mark.slow
def test_with_vad_only_speech_is_heard(clips, fake, tmp_path, monkeypatch, capsys):
    """In noise that is 30 dB below the speech, of minutes, and in a mains supply's hum."""
    words = load_audio(clips[0][0])
    words /= np.abs(words).max()
    rng, seconds = np.random.default_rng(0), len(words) / SAMPLE_RATE
    audio = np.concatenate([np.zeros(40 * SAMPLE_RATE), words, np.zeros(100 * SAMPLE_RATE), words,
                            np.zeros(35 * SAMPLE_RATE)])  # fmt: skip
    audio += rng.normal(0, 0.003, len(audio)) + hum(len(audio)) / 10
    path = tmp_path / "x.wav"
    save_wav(path, audio.astype(np.float32))
    found = list(transcribe(Unsure(), path, "it", False, vad=True))
    for at in (40, 140 + seconds):
        inside = [s for s in found if at - 0.5 <= s.start < s.end <= at + seconds + 0.5]
        found = [s for s in found if s not in inside]
        # 0.4 s more at both ends, found in steps of 32 ms. It may lie in two pieces.
        assert inside[0].start <= at + 0.5 and at + seconds - 1 <= inside[-1].end
        assert sum(s.end - s.start for s in inside) > seconds - 1
    assert not found
    assert len(list(transcribe(Unsure(), path, "it", False))) > 5
    runtime = Unsure()
    assert {s.language for s in transcribe(runtime, path, None, False, vad=True)} == {"it"}
    assert len(runtime.asked) == 1  # about the speech
    save_wav(path, audio[: 30 * SAMPLE_RATE].astype(np.float32))
    monkeypatch.setattr(command, "load_runtime", lambda *_, **__: Unsure())
    for options, text in (([], "ciao\n"), (["--vad"], "\n")):
        assert main([str(path), *fake, "--language", "it", *options]) == 0
        assert capsys.readouterr().out == text


@pytest.mark.parametrize("timestamps", [[], ["--timestamps"], ["--format", "vtt"]])
def test_a_silent_file_has_no_text_and_no_language(timestamps, fake, tmp_path, capsys):
    save_wav(tmp_path / "x.wav", quiet("dither", 3))
    assert main([str(tmp_path / "x.wav"), *fake, *timestamps]) == 0
    out, err = capsys.readouterr()
    assert out.strip() in ("", "WEBVTT")
    assert err == f"transcribe: {tmp_path}/x.wav: no sound above -70 dB, so no language\n"
    save_wav(tmp_path / "x.wav", spoken(3)[0])
    assert main([str(tmp_path / "x.wav"), *fake, *timestamps]) == 0
    out, err = capsys.readouterr()
    assert "w0" in out and err == f"transcribe: {tmp_path}/x.wav: language it\n"


@pytest.mark.parametrize("name", ["it", "IT", "ita", "Italian", "it-CH", "it_IT.UTF-8"])
def test_language_by_any_name(name, fake, tmp_path, capsys):
    save_wav(tmp_path / "x.wav", spoken(3)[0])
    assert main([str(tmp_path / "x.wav"), *fake, "--language", name]) == 0
    out, err = capsys.readouterr()
    assert "w0" in out and err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "form,before",  # zeros reach no runtime: one of them says it for all
    [("ct2", "zeros"), *((form, "hiss") for form in ("openai", "ct2", "ggml", "hf", "onnx"))],
)
def test_italian_behind_what_is_no_speech(form, before, real_clip, tiny_in, tmp_path, capsys):
    path, _, text = real_clip("it", "demo-abouttotry")
    hiss = np.random.default_rng(0).normal(0, 1e-3, 35 * SAMPLE_RATE).astype(np.float32)
    hiss *= before == "hiss"
    save_wav(tmp_path / "x.wav", np.concatenate([hiss, load_audio(path)]))
    # Greedy: what noise says is tried again and again, and beams take minutes.
    assert main([str(tmp_path / "x.wav"), "--model", str(tiny_in(form)), "--beam_size", "1"]) == 0
    out, err = capsys.readouterr()
    assert err.endswith(": language it\n")
    assert jiwer.wer(words(text), words(out)) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_read_by_ffmpeg(kind, fake, tmp_path, capsys):
    audio, starts = spoken(90)
    save_wav(tmp_path / "x.wav", audio)
    assert main([str(tmp_path / "x.wav"), *fake, "--format", kind]) == 0
    path = tmp_path / f"x.{kind}"
    path.write_text(capsys.readouterr().out)
    with av.open(str(path)) as file:
        cues = [packet for packet in file.demux() if packet.size]
        assert [bytes(cue).decode() for cue in cues] == [f"w{k}" for k in range(len(starts))]
        times = [float(cue.pts * cue.time_base) for cue in cues]
    assert np.allclose(times, np.array(starts) / SAMPLE_RATE, atol=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
def test_each_of_several_files_has_its_own(kind, fake, tmp_path, capsys):
    """With --out: what is printed of it alone. One that breaks off leaves what stood there."""
    suffix = "txt" if kind == "text" else kind
    paths, out = [tmp_path / f"{name}.wav" for name in ("a", "bad", "c.d")], tmp_path / "made/out"
    gone = tmp_path / "no folder/gone.wav"
    for number, path in enumerate(paths):
        save_wav(path, spoken(10 + 20 * number)[0])
    printed = []
    for path in paths:
        assert main([str(path), *fake, "--format", kind]) == 0
        printed.append(capsys.readouterr().out)
    paths[1].write_bytes(b"no audio")
    out.mkdir(parents=True)
    for name in ("bad", "gone"):
        (out / f"{name}.{suffix}").write_text("older")
    given = [*map(str, paths), str(gone), *fake, "--format", kind, "--out", str(out)]
    with pytest.raises(InputError, match=f"bad.{suffix}: is there, and may be your own text"):
        main(given)
    assert len(os.listdir(out)) == 2
    assert main([*given, "--replace"]) == 2
    told, err = capsys.readouterr()
    names = [f"a.{suffix}", f"bad.{suffix}", f"c.d.{suffix}"]
    assert told.splitlines() == [str(out / name) for name in names if "bad" not in name]
    assert f"{paths[1]}: " in err and f"{gone}: no such audio file" in err
    assert sorted(os.listdir(out)) == sorted([*names, f"gone.{suffix}"])
    printed[1] = "older"
    assert [(out / name).read_text() for name in names] == printed


@pytest.mark.parametrize(
    ("audio", "options", "line"),
    [
        (["x.wav", "y.wav"], ["--format", "srt"], "--format srt: of several AUDIO only with --out"),
        (["x.wav", "sub/x.mp3"], ["--out", "o"], "x.txt would be of .*x.wav and of .*sub/x.mp3"),
        (["x.wav", "o/y.srt"], ["--format", "srt", "--out", "o"], "o/y.srt: is what is read"),
        (["x.wav"], ["--out", "x.wav"], "--out .*x.wav: is no folder"),
        (["z.wav"], ["--out", "o"], "o/z.txt: is a folder, and a file is to be written"),
        (["t.wav"], ["--out", "."], "t.txt: is there, and may be your own text: .* --replace"),
        (["x.wav", "sub/t.wav"], ["--out", "."], "t.txt: is there, and may be your own text"),
        (["x.wav"], ["--replace"], "--replace: only with --out"),
        (["x.wav"], ["--timestamps", "--format", "json"], "--format json has times without it"),
        (["z.wav"], ["--out", "o", "--replace"], "o/z.txt: is a folder, and a file is to be"),
        (["n" * 252 + ".m"], ["--out", "o", "--format", "json"], "n.m: n*.json: File name too lo"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_the_model_is_loaded(
    audio, options, line, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for name in ("o/z.txt", "sub"):
        (tmp_path / name).mkdir(parents=True)
    for name in {"x.wav", "t.txt", *audio}:
        (tmp_path / name).write_bytes(b"audio")
    with pytest.raises(InputError, match=line):
        main([*audio, "--model", "no-such-model", *options])
    assert all((tmp_path / name).read_bytes() == b"audio" for name in ("t.txt", *audio))


def test_a_runtime_that_sets_no_timestamps_is_asked_for_none(
    make_toy, fake, monkeypatch, tmp_path, capsys
):
    """As whisper.cpp of two decoder layers, which says so itself, once for each piece."""
    for layers in (1, 2):
        model = make_toy(0, 32, layers)
        weights = Weights(model.dims, model.state_dict())
        write("ggml", tmp_path / f"{layers}.bin", weights, {}, "float16")
        assert load_runtime("whisper.cpp", tmp_path / f"{layers}.bin", threads=1).timed == (
            layers == 1
        )
    monkeypatch.setattr(FakeRuntime, "timed", False, raising=False)
    asked, hears = [], FakeRuntime.transcribe
    monkeypatch.setattr(
        FakeRuntime, "transcribe", lambda *given: asked.append(given[3]) or hears(*given)
    )
    save_wav(tmp_path / "x.wav", spoken(5)[0])
    given = [str(tmp_path / "x.wav"), *fake, "--language", "it"]
    for options in ([], ["--format", "json"]):
        assert main([*given, *options]) == 0 and "w0" in capsys.readouterr().out
    assert asked == [False, False]
    for options in (["--timestamps"], ["--format", "srt"]):
        with pytest.raises(InputError, match="timestamps: this runtime has none of this model"):
            main([*given, *options])


def test_marks_of_direction_and_controls_are_no_text(monkeypatch, tmp_path, capsys):
    """Wherever it goes: a NUL could not be written in a Kaldi table."""
    path, model = tmp_path / "\u202bx.wav", ["--model", "fake", "--runtime", "torch"]
    save_wav(path, spoken(3)[0])
    for place in ("espnet_dq.decode.printing", "espnet_dq.decode.folder"):
        monkeypatch.setattr(f"{place}.load_runtime", lambda *_, **__: Marking())
    text = "שלום [2Jעולם می\u200cروم <क्\u200dष>"
    told = {}
    for kind in command.FORMATS:
        asked = [str(path), *model, "--language", "it", "--format", kind]
        assert main(asked) == main([*asked, "--out", str(tmp_path)]) == 0
        told[kind], said = capsys.readouterr().out.rsplit(f"{tmp_path}", 1)
        assert said.startswith("/\\u202bx.")  # names are shown as they are escaped
    assert told.pop("json") == (tmp_path / "\u202bx.json").read_text()
    assert "\u202b" not in (tmp_path / "\u202bx.json").read_text()
    (segment,) = json.loads((tmp_path / "\u202bx.json").read_text())["segments"]
    assert segment["text"] == text
    for kind, printed in told.items():
        assert printed == (tmp_path / f"\u202bx.{'txt' if kind == 'text' else kind}").read_text()
        assert printed.splitlines()[-2 if kind in ("srt", "vtt") else -1] == (
            escape(text) if kind == "vtt" else text
        )
    write_scp(tmp_path / "wav.scp", {"u": str(path)})
    write_scp(tmp_path / "utt2lang", {"u": "it"})
    decode(["--data", str(tmp_path), "--out", str(tmp_path / "hyp"), *model])
    assert read_scp(tmp_path / "hyp/text") == {"u": text}


@pytest.mark.slow
def test_what_was_heard_of_a_broken_file_is_printed(fake, monkeypatch, tmp_path, capsys):
    """Of one that ends its reader; a recording in a file that cannot be read costs only itself."""
    audio, starts = spoken(100)
    save_wav(tmp_path / "x.wav", audio)
    save_wav(tmp_path / "y.wav", spoken(5)[0])
    soundfile.write(tmp_path / "low.wav", np.zeros(3000), 3000)
    with open(tmp_path / "y.wav", "ab") as file:
        file.write((tmp_path / "low.wav").read_bytes())

    def read(path, channel, damage):
        yield from read_apart(path, channel, damage)
        if path.endswith("x.wav"):
            raise AudioFault(f"{path}: the process that read it was killed")

    monkeypatch.setattr("espnet_dq.decode.transcribe.read_apart", read)
    code = main([str(tmp_path / name) for name in ("x.wav", "y.wav")] + fake)
    out, err = capsys.readouterr()
    broken, good = out.splitlines()
    assert code == 2 and f"transcribe: {tmp_path}/x.wav: the process that read it" in err
    assert broken.startswith(f"{tmp_path}/x.wav\tw0 w1 ") and 10 < broken.count("w") < len(starts)
    assert good.startswith(f"{tmp_path}/y.wav\tw0")
    where = f"transcribe: warning: {tmp_path}/y.wav: damaged at 5.00 s: recording 2 of 2: "
    assert f"{where}sampled at 3000 Hz" in err


@pytest.mark.parametrize("options", [["--language", "it"], []])  # it may fail at either
@pytest.mark.parametrize("error", [IndexError("out of\nbounds"), AssertionError(), Exception()])
def test_a_file_on_which_the_runtime_fails_costs_only_itself(
    error, options, fake, monkeypatch, tmp_path, capsys
):
    def failing(*_):
        raise error

    for name, seconds in (("x", 5), ("y", 5)):
        save_wav(tmp_path / f"{name}.wav", spoken(seconds)[0])
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    hears = FakeRuntime.transcribe if options else FakeRuntime.detect
    turns = iter([failing, hears, hears])
    name = hears.__name__
    monkeypatch.setattr(FakeRuntime, name, lambda *given: next(turns)(*given))
    paths = [str(tmp_path / name) for name in ("x.wav", "y.wav")]
    assert main([*paths, *fake, *options]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{paths[1]}\tw0 ") and len(out.splitlines()) == 1
    why = "out of" if error.args else type(error).__name__
    assert err.splitlines()[0] == f"transcribe: {paths[0]}: {type(error).__name__}: {why}"
    assert main([str(tmp_path / "bad.wav"), paths[1], *fake, *options]) == 2


def test_a_lack_of_memory_ends_it(fake, monkeypatch, tmp_path):
    def full(*_):
        raise RuntimeError("std::bad_alloc")

    save_wav(tmp_path / "x.wav", spoken(5)[0])
    monkeypatch.setattr(FakeRuntime, "transcribe", full)
    with pytest.raises(RuntimeError, match="bad_alloc"):
        main([str(tmp_path / "x.wav"), *fake, "--language", "it"])


@pytest.mark.slow
@pytest.mark.parametrize(("language", "space"), [("zh", ""), ("ja", ""), ("th", ""), ("it", " ")])
def test_pieces_are_joined_as_words_are(language, space, fake, monkeypatch, tmp_path, capsys):
    """Of a file that is cut; so they are in what `bin.decode` writes (test_folder.py)."""
    monkeypatch.setattr(FakeRuntime, "languages", frozenset({language, "en"}))
    monkeypatch.setattr(FakeRuntime, "detect", lambda *_: (language, 0.9))
    monkeypatch.setattr(FakeRuntime, "transcribe", lambda *_: [Segment(0, 9, "你好")])
    save_wav(tmp_path / "x.wav", spoken(70)[0])
    for options in ([], ["--language", language]):
        assert main([str(tmp_path / "x.wav"), *fake, *options]) == 0
        out = capsys.readouterr().out
        assert out.count("你好") >= 3 and out == space.join(["你好"] * out.count("你好")) + "\n"


@pytest.mark.parametrize("pieces", [["一共20", "", "30分钟"], ["用iPhone", "cafe\u0301", "Google"]])
def test_what_is_printed_as_it_comes_is_the_joined_text(pieces):
    segments = [Segment(0, 9, piece, language="zh") for piece in pieces]
    printed = "".join(command._parts(segments, "text", False, "x.wav\t"))
    assert printed == f"x.wav\t{join(pieces, 'zh')}\n" and " " in printed


@pytest.mark.parametrize("kind", ["spot", "numbers", "end"])
def test_the_words_around_damage_are_heard(kind, fake, tmp_path, capsys):
    """Where they were said, and standard error tells where the damage is."""
    audio, starts = spoken(122)
    path = tmp_path / ("x.wav" if kind == "numbers" else "x.flac")
    if kind == "numbers":
        audio[73 * SAMPLE_RATE] = np.nan
        soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")
    else:
        soundfile.write(path, audio, SAMPLE_RATE)
        content = bytearray(path.read_bytes())
        at = round(len(content) * 0.6)
        content[at : at + 250 if kind == "spot" else None] = b"?" * (250 if kind == "spot" else 0)
        path.write_bytes(content)
    assert main([str(path), *fake, "--language", "it", "--timestamps"]) == 0
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith(f"transcribe: warning: {path}: ")
    spot = float(re.search(r"([0-9.]+) s\b", line)[1])
    assert 60 < spot < 90
    found = {x.split()[-1]: float(x[6:11]) + 60 * int(x[3:5]) for x in out.splitlines()}
    for k, start in enumerate(starts):
        if abs(start / SAMPLE_RATE - spot) > 1 and not (kind == "end" and k * 2 > len(starts)):
            assert found[f"w{k}"] == pytest.approx(start / SAMPLE_RATE, abs=0.011)


@pytest.mark.slow
def test_subtitles_of_a_film_whose_sound_begins_late(fake, tmp_path, capsys):
    audio, starts = spoken(40)
    path = tmp_path / "x.mkv"
    encode(path, "flac", audio[:, None], SAMPLE_RATE, moved=lambda *_: 4.94, video=50.0)
    assert main([str(path), *fake, "--format", "srt"]) == 0
    out = capsys.readouterr().out
    times = re.findall(r"00:00:(\d\d),(\d\d\d) -->", out)
    assert np.allclose(
        [int(s) + int(ms) / 1000 for s, ms in times],
        4.94 + np.array(starts) / SAMPLE_RATE,
        atol=0.002,
    )


# Run as a command, with a model that says what no ASCII can hold.
COMMAND = """
import sys
from espnet_dq.bin.transcribe import main
from espnet_dq.decode import printing
from espnet_dq.errors import run
from espnet_dq.runtimes import Segment
class Fake:
    window, languages = 30.0, ["it"]
    def transcribe(self, *_):
        return [Segment(0.0, 1.0, "Per\\u00f2")]
printing.load_runtime = lambda *_, **__: Fake()
run(lambda: main([*sys.argv[1:], "--model", "fake", "--runtime", "torch"]))
"""


@pytest.mark.slow
def test_names_and_output_that_are_not_utf8(tmp_path):
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # all is ASCII
    names = [b"Caf\xe9.wav", b"\xff\xfe.ogg", b"bad\xe9.mp3", "però.flac".encode(), b"z.wav"]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        if b"bad" in name:
            path.write_bytes(b"no audio")
        else:
            soundfile.write(tmp_path / f"x{path.suffix}", spoken(3)[0], SAMPLE_RATE)
            (tmp_path / f"x{path.suffix}").rename(path)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *(os.fsencode(tmp_path) + b"/" + name for name in names)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
        capture_output=True,
    )
    lines = done.stdout.decode("ascii").splitlines()
    assert [line.split("\t")[1] for line in lines] == ["Per\\xf2"] * 4
    assert lines[0].startswith(f"{tmp_path}/Caf\\udce9.wav\t")
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert b"bad\\udce9.mp3: corrupt audio" in done.stderr


@pytest.mark.slow
def test_long_audio_has_the_words_of_its_clips(real_clip, tiny_in, tmp_path, capsys):
    model = tiny_in("ct2")
    names = ("vm-options", "queue-periodic-announce", "vm-msginstruct", "demo-abouttotry")
    audio = [load_audio(real_clip("en", name)[0]) for name in names]
    runtime = load_runtime("faster-whisper", model, threads=1)
    alone = [words(said.text) for said in runtime.decode(audio, "en")]
    quiet = np.zeros(SAMPLE_RATE // 2, np.float32)
    save_wav(tmp_path / "x.wav", np.concatenate([x for clip in audio for x in (clip, quiet)]))
    assert main([str(tmp_path / "x.wav"), "--model", str(model), "--beam_size", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert jiwer.wer(" ".join(alone), words(line)) < 0.1


@pytest.mark.slow
def test_the_beam_is_faster_whispers_own_unless_told_otherwise(real_clip, tiny_in, capsys):
    """So is all else of a clip, which neither cuts; this one has another text without a beam."""
    audio, _, _ = real_clip("it", "agent-pass")
    folder = str(tiny_in("ct2"))
    model, texts = WhisperModel(folder, device="cpu", cpu_threads=1), []
    for theirs, ours in (({}, []), ({"beam_size": 1}, ["--beam_size", "1"])):
        segments, _ = model.transcribe(str(audio), language="it", **theirs)
        texts.append(" ".join(segment.text.strip() for segment in segments))
        options = ["--model", folder, "--language", "it", "--threads", "1", *ours]
        assert main([str(audio), *options]) == 0
        assert capsys.readouterr().out == f"{texts[-1]}\n"
    assert texts[0] != texts[1]


@pytest.mark.slow
def test_timestamps_are_of_the_whole_file(clips, source_files, tmp_path, capsys):
    """Two English clips, 35 s apart."""
    english = [(load_audio(path), text) for path, lang, text in clips if lang == "en"][:2]
    quiet = np.zeros(35 * SAMPLE_RATE, np.float32)
    path = tmp_path / "x.wav"
    save_wav(path, np.concatenate([english[0][0], quiet, english[1][0]]))
    assert main([str(path), "--model", str(source_files["base"]), "--timestamps"]) == 0
    lines = capsys.readouterr().out.splitlines()
    stamps = [re.fullmatch(r"\[0:00:(\d\d\.\d\d) -> 0:00:(\d\d\.\d\d)\] (.+)", x) for x in lines]
    assert all(stamps)
    assert jiwer.cer(words(english[0][1]), words(stamps[0][3])) < 0.4
    assert jiwer.cer(words(english[1][1]), words(stamps[-1][3])) < 0.4
    assert float(stamps[-1][1]) > 29  # in the second piece


@pytest.mark.slow
def test_several_files_one_of_them_bad(clips, source_files, tmp_path, capsys):
    path, _, text = next(clip for clip in clips if clip[1] == "es")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    model = str(source_files["base"])
    code = main([str(tmp_path / "bad.wav"), str(path), "--model", model])
    out, err = capsys.readouterr()
    assert code == 2 and f"{tmp_path}/bad.wav: " in err
    name, heard = out.rstrip("\n").split("\t")
    assert name == str(path)
    assert jiwer.wer(words(text), words(heard)) < 0.4  # only if the language is detected


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("language", "tlh", "--language tlh: the model knows no"),
        ("language", "", "--language '': the model knows no"),  # of a variable that is not set
        ("threads", "1025", "threads: 1025 is not a whole number from 0 to 1024"),
        ("beam_size", "101", "beam_size: 101 is not a whole number from 1 to 100"),
    ],
)
def test_what_no_model_or_machine_has_is_refused(option, value, line, save_toy):
    with pytest.raises(InputError, match=line):
        main(["a.wav", "--model", str(save_toy()), f"--{option}", value])
    given = {option: value if option == "language" else int(value)}
    with pytest.raises(InputError, match=line):
        dq.transcribe("a.wav", save_toy(), **given)


def test_beams_that_whisper_cpp_does_not_have_are_refused(make_toy, tmp_path):
    """Of more than 8 it says nothing at all, whatever it hears."""
    model = make_toy(0, 32, 1)
    weights = Weights(model.dims, model.state_dict())
    write("ggml", tmp_path / "x.bin", weights, {}, "float16")
    assert load_runtime("whisper.cpp", tmp_path / "x.bin", threads=1, beam_size=8)
    with pytest.raises(InputError, match=r"--beam_size 9: whisper\.cpp takes 8 at most"):
        main(["a.wav", "--model", str(tmp_path / "x.bin"), "--beam_size", "9"])
