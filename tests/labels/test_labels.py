"""Labels from a real teacher, and what is kept of them."""

import json
import math

import pytest
import torch
import whisper

from espnet_dq.bin.pseudo_label import main
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.errors import InputError
from espnet_dq.labels import pseudo
from espnet_dq.labels.pseudo import Label, Limits, _known, error_rate, label_folder
from tests import toys


@pytest.fixture
def folder(clips, tmp_path):
    """Five real prompts as a formatted folder, the third with the text of another."""
    data = KaldiDir()
    for i, (path, lang, text) in enumerate(clips):
        utt = f"u{i}"
        data.add(utt, path, text, utt, lang, utt2num_samples=len(load_audio(path)))
    data.text["u2"] = "what nobody said at all"
    data.save(tmp_path / "data")
    return tmp_path / "data"


def run(folder, teacher, out, mode, *more):
    options = ["--data", str(folder), "--teacher", str(teacher), "--out", str(out)]
    return main([*options, "--mode", mode, *more])


@pytest.mark.slow
def test_check_drops_what_the_teacher_does_not_hear(folder, weights_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, weights_dir / "tiny.pt", out, "check", "--max_error", "60") == 0
    before, after = KaldiDir.load(folder), KaldiDir.load(out)
    assert "u2" not in after.text and len(after.text) >= 3
    assert after.text == {u: before.text[u] for u in after.text}
    report = json.loads((out / "labels.json").read_text())
    assert report["dropped"]["text and teacher differ"] == 5 - report["kept"] >= 1
    assert f"{report['kept']} of 5 utterances" in capsys.readouterr().out


@pytest.mark.slow
def test_replace_needs_no_text_and_asks_once(folder, weights_dir, tmp_path, monkeypatch):
    (folder / "text").write_text("".join(f"u{i}\n" for i in range(5)))  # as stage 2 leaves it
    out, teacher = tmp_path / "out", weights_dir / "tiny.pt"
    run(folder, teacher, out, "replace")
    labels = read_scp(out / "text")
    # The teacher's own words, as openai-whisper gives them for one clip at a time.
    model = whisper.load_model(str(teacher), device="cpu")
    wav, lang = read_scp(folder / "wav.scp"), read_scp(folder / "utt2lang")
    for utt, text in labels.items():
        options = {"language": lang[utt], "without_timestamps": True, "temperature": 0.0}
        result = whisper.transcribe(model, load_audio(wav[utt]), fp16=False, **options)
        assert text == result["text"].strip()
    # Killed in the middle of a line: the others are not asked again.
    said = tmp_path / "data.labels.jsonl"
    lines = said.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 1 + 5
    said.write_text("".join(lines[:5]) + lines[5][:20], encoding="utf-8")
    run(folder, teacher, out, "replace")
    assert said.read_text(encoding="utf-8") == "".join(lines)
    # Killed before the first line was whole.
    cut = tmp_path / "cut.labels.jsonl"
    cut.write_text(lines[0][:9], encoding="utf-8")
    assert _known(cut, {}) == {} and cut.read_bytes() == b""
    monkeypatch.setattr(whisper, "load_model", None)
    run(folder, teacher, out, "replace", "--min_logprob", "-0.29")  # other limits: nobody is asked
    assert len(read_scp(out / "text")) < len(labels)
    (folder / "text").write_text("".join(f"{u} {text}\n" for u, text in labels.items()))
    run(folder, teacher, tmp_path / "checked", "check")  # nor for the other mode
    assert read_scp(tmp_path / "checked/text") == labels
    with pytest.raises(InputError, match=r"data\.labels\.jsonl: the labels of another teacher"):
        label_folder(folder, out, weights_dir / "base.pt", "replace")


def test_of_other_data_only_what_is_new_is_asked(tmp_path, monkeypatch):
    asked = []

    def ask(model, data, utts):
        asked.extend(utts)
        return (Label(u, f"{data.utt2lang[u]} {u}", -0.1, 1.0, 0.0, False) for u in utts)

    monkeypatch.setattr(pseudo, "_ask", ask)
    monkeypatch.setattr(pseudo, "_model", lambda *_: toys.make_model(state=16, layers=1))
    teacher, source = tmp_path / "x.pt", tmp_path / "data"
    teacher.write_bytes(b"weights")
    data = KaldiDir()
    for utt in ("u1", "u2", "u3", "u4"):
        (tmp_path / f"{utt}.wav").write_bytes(utt.encode())
        data.add(utt, tmp_path / f"{utt}.wav", "text", "ann", "en", utt2num_samples=16000)
    data.save(source)
    label_folder(source, tmp_path / "out", teacher, "replace")
    assert asked == ["u1", "u2", "u3", "u4"]
    asked.clear()
    (tmp_path / "u2.wav").write_bytes(b"another one")
    data.utt2lang["u3"] = "de"
    data.remove(["u4"])
    data.add("u5", tmp_path / "u1.wav", "text", "ann", "en", utt2num_samples=16000)
    data.save(source)
    for _ in range(2):
        label_folder(source, tmp_path / "out", teacher, "replace")
        assert sorted(asked) == ["u2", "u3", "u5"]
    assert read_scp(tmp_path / "out/text")["u3"] == "de u3"
    data.add("u6", tmp_path / "u1.wav", "text", "ann", "en", utt2num_samples=640_000)
    data.save(source)
    with pytest.raises(InputError, match=r"^u6: 40\.0 s; the model hears 30 s$"):
        label_folder(source, tmp_path / "out", teacher, "replace")
    assert sorted(asked) == ["u2", "u3", "u5"]


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"n_vocab": 51864}, "no multilingual Whisper tokenizer has 51864 tokens"),
        ({"n_vocab": 51865}, r"unknown language 'yue'"),
    ],
)
def test_a_teacher_of_other_languages(teacher, said, folder, save_toy, tmp_path):
    lines = [line.split() for line in (folder / "utt2lang").read_text().splitlines()]
    (folder / "utt2lang").write_text(
        "".join(f"{u} {'yue' if u == 'u3' else c}\n" for u, c in lines)
    )
    with pytest.raises(InputError, match=rf"\.pt: {said}"):
        run(folder, save_toy(**teacher), tmp_path / "out", "replace")
    assert not (tmp_path / "data.labels.jsonl").exists()


def test_a_teacher_of_a_trimmed_vocabulary_and_short_windows(folder, save_toy, trim, tmp_path):
    """It says its own words, if it hears the whole of the clip."""
    teacher = trim(save_toy(audio_ctx=1000), ["Press one for hello"])
    with pytest.raises(
        InputError, match="no utterance is left"
    ):  # nothing of what it says is sense
        run(folder, teacher, tmp_path / "out", "replace")
    labels = [json.loads(x) for x in (tmp_path / "data.labels.jsonl").read_text().splitlines()[1:]]
    assert len(labels) == 5
    with pytest.raises(InputError, match=r"the model hears 0\.1 s"):
        run(folder, save_toy(seed=2, audio_ctx=5), tmp_path / "out2/out", "replace")


@pytest.mark.gpu
def test_a_gpu_hears_the_same(folder, weights_dir, tmp_path):
    for ngpu in "01":
        run(folder, weights_dir / "tiny.pt", tmp_path / ngpu / "out", "replace", "--ngpu", ngpu)
    said = [_said(tmp_path / ngpu / "data.labels.jsonl") for ngpu in "01"]
    for on_cpu, on_gpu in zip(*said, strict=True):
        assert on_gpu["text"] == on_cpu["text"]
        assert on_gpu["logprob"] == pytest.approx(on_cpu["logprob"], abs=1e-3)


def _said(path):
    return sorted(map(json.loads, path.read_text().splitlines()[1:]), key=lambda x: x["utt"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(folder, weights_dir, tmp_path):
    with pytest.raises(InputError, match="--ngpu 1: torch sees no GPU"):
        run(folder, weights_dir / "tiny.pt", tmp_path / "out", "replace", "--ngpu", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("option", ["--max_error", "--min_logprob"])
def test_limits_are_numbers(option, folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(folder, tmp_path / "tiny.pt", tmp_path / "out", "check", option, "nan")
    assert ended.value.code == 2 and f"{option}: 'nan' is not a number" in capsys.readouterr().err


def test_limits():
    limits = Limits()
    sound = Label("u", "text", -0.3, 1.2, 0.01, False)
    assert limits.fault(sound, "en") is None
    for changed, cause in (
        *(({"text": text}, "heard no words") for text in ("", "...", "-", "。", "♪♪", "(music)")),
        ({"text": "a<|vi|> b"}, "special token"),
        ({"compression": 2.5}, "repeats itself"),
        ({"no_speech": 0.7}, "no speech"),
        ({"cut": True}, "longer than its decoder has room for"),
        ({"logprob": -1.1}, "not sure"),
        ({"logprob": math.nan}, "not sure"),
    ):
        assert cause in limits.fault(Label(**{**vars(sound), **changed}), "en")


def test_error_rates():
    assert error_rate("Hello, World!", "hello world", "en") == 0
    assert error_rate("one two three four", "one two three for", "en") == 25
    assert error_rate("今日は良い天気", "今日は悪い天気", "ja") == pytest.approx(100 / 7)
    assert error_rate("我喜欢喝茶", "我喜欢 喝茶。", "zh") == 0
    assert error_rate("मैं जा रहा हूँ", "मां जा रही है", "hi") == 75
    assert error_rate("İyi günler", "iyi günler", "tr") == 0
    assert error_rate("ที่นี่", "ที่นี", "th") == 50  # letters with their marks
    assert error_rate("...", "", "en") == 0 and error_rate("...", "word", "en") == 100


def test_bad_input(folder, weights_dir, tmp_path):
    with pytest.raises(InputError, match="unknown mode"):
        label_folder(folder, tmp_path / "out", weights_dir / "tiny.pt", "guess")
    with pytest.raises(InputError, match="no such file"):
        label_folder(tmp_path, tmp_path / "out", weights_dir / "tiny.pt", "check")
    short = '{"utt": "u", "of": "", "text": "x", "logprob": 0, "compression": 1, "no_speech": 0}'
    for line, why in (("nonsense", "Expecting value"), (short, "'cut'"), ('{"utt": "u"}', "'of'")):
        (tmp_path / "data.labels.jsonl").write_text(f"{{}}\n{line}\n")
        with pytest.raises(InputError, match=f"broken, remove it: .*{why}"):
            label_folder(folder, tmp_path / "out", weights_dir / "tiny.pt", "check")
