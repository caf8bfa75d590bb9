"""Times of words, translation, and JSON: against openai-whisper and faster-whisper themselves."""

import json

import faster_whisper
import numpy as np
import pytest
import soundfile
import whisper

from espnet_dq.bin.transcribe import main
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.decode.transcribe import transcribe, transcribe_pieces
from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.formats.write import write
from espnet_dq.runtimes import load_runtime
from espnet_dq.runtimes.interface import Segment, Word

FORMS = {"torch": "openai", "faster-whisper": "ct2", "whisper.cpp": "ggml", "transformers": "hf",
         "onnx": "onnx"}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tiny_in):
    """Runtime -> untouched tiny in its format."""
    return {name: tiny_in(form) for name, form in FORMS.items()}


@pytest.fixture(scope="module")
def spoken(clips):
    """Samples, language and file of a clip that is not English."""
    path, language, _ = next(clip for clip in clips if clip[1] != "en")
    return load_audio(path), language, path


@pytest.mark.slow
def test_words_are_openai_whispers(tiny, spoken):
    audio, language, _ = spoken
    runtime = load_runtime("torch", tiny["torch"], threads=1, words=True)
    (segment,) = runtime.transcribe(audio, language, True)
    stock = whisper.load_model(str(tiny["torch"]), device="cpu")
    # Stock knows the heads of its models by their names, not of files.
    stock.set_alignment_heads(whisper._ALIGNMENT_HEADS["tiny"])
    found = stock.transcribe(
        audio, language=language, word_timestamps=True, fp16=False, condition_on_previous_text=False
    )
    expected = [word for each in found["segments"] for word in each["words"]]
    assert [w.text for w in segment.words] == [word["word"].strip() for word in expected]
    for ours, theirs in zip(segment.words, expected, strict=True):
        assert (ours.start, ours.end) == (theirs["start"], theirs["end"])
        assert ours.probability == pytest.approx(theirs["probability"], abs=1e-5)


@pytest.mark.slow
def test_words_are_faster_whispers(tiny, spoken):
    audio, language, _ = spoken
    runtime = load_runtime("faster-whisper", tiny["faster-whisper"], threads=1, words=True)
    found = runtime.transcribe(audio, language, True)
    stock = faster_whisper.WhisperModel(str(tiny["faster-whisper"]), "cpu", cpu_threads=1)
    segments, _ = stock.transcribe(
        audio, language=language, beam_size=1, word_timestamps=True,
        condition_on_previous_text=False,
    )  # fmt: skip
    expected = [(w.start, w.end, w.word.strip(), w.probability) for s in segments for w in s.words]
    assert [(w.start, w.end, w.text, w.probability) for s in found for w in s.words] == expected
    assert expected
    # In short windows, too, and in a longer recording.
    runtime.short = True
    (piece,) = transcribe_pieces(runtime, [(5 * SAMPLE_RATE, audio)], language, False)
    length = len(audio) / SAMPLE_RATE
    assert piece.words and piece.text.split()[0] == piece.words[0].text
    assert all(5 <= w.start <= w.end <= 5 + length for w in piece.words)


PROMPT = "Conferenza, Asterisk, Pippo."
# More than fits before a text. Words that are not said would send a model round, for seconds.
TOO_LONG = "USTED ES LA PERSONA. " * 40


@pytest.mark.slow
def test_a_prompt_is_what_libraries_make_of_it(tiny, spoken):
    audio, language, _ = spoken
    stock = whisper.load_model(str(tiny["torch"]), device="cpu")
    options = {"language": language, "initial_prompt": PROMPT, "condition_on_previous_text": False}
    expected = stock.transcribe(audio, fp16=False, **options)["text"].strip()
    fast = faster_whisper.WhisperModel(str(tiny["faster-whisper"]), "cpu", cpu_threads=1)
    segments, _ = fast.transcribe(audio, beam_size=1, **options)
    expected = {"torch": expected, "faster-whisper": " ".join(s.text.strip() for s in segments)}
    for name, text in expected.items():
        runtime = load_runtime(name, tiny[name], threads=1, prompt=PROMPT)
        assert " ".join(s.text for s in runtime.transcribe(audio, language, True)) == text
    for name in ("whisper.cpp", "onnx"):  # no stock of the same rules; it arrives, though
        heard = [load_runtime(name, tiny[name], threads=1, prompt=prompt).decode([audio], language)
                 for prompt in (TOO_LONG, "")]  # fmt: skip
        assert heard[0] != heard[1]
    with pytest.raises(InputError, match="transformers takes no prompt"):
        load_runtime("transformers", tiny["transformers"], prompt=PROMPT)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_translation(name, tiny, spoken, english_text):
    audio, language, _ = spoken
    runtime = load_runtime(name, tiny[name], threads=1, nj=1, task="translate")
    (segment,) = transcribe_pieces(runtime, [(0, audio)], language, False)
    assert segment.language == "en"
    heard = load_runtime(name, tiny[name], threads=1, nj=1).decode([audio], language)[0].text
    assert segment.text != heard
    first, expected = (text.split()[0].strip(",.").lower() for text in (segment.text, english_text))
    assert first == expected


@pytest.fixture(scope="module")
def english_text(tiny, spoken):
    """What stock openai-whisper makes of it."""
    audio, language, _ = spoken
    stock = whisper.load_model(str(tiny["torch"]), device="cpu")
    return stock.transcribe(audio, language=language, task="translate", fp16=False)["text"].strip()


@pytest.fixture
def noise(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    save_wav(tmp_path / "a.wav", samples)
    save_wav(tmp_path / "b.wav", samples)
    return [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]


def test_json(toy_models, noise, tmp_path, capsys):
    """A line a file, also of several; into files with --out."""
    model = ["--model", str(toy_models["faster-whisper"]), "--language", "ru", "--format", "json"]
    assert main([*noise, *model, "--words"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == noise
    for line in lines:
        assert line["language"] == "ru"
        assert line["segments"]
        for segment in line["segments"]:
            assert segment.keys() == {"start", "end", "text", "words"}
            assert " ".join(w["text"] for w in segment["words"]).split() == segment["text"].split()
            assert all(word.keys() == {"start", "end", "text", "probability"}
                       for word in segment["words"])  # fmt: skip
    assert main([*noise, *model, "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/b.json").read_text())["segments"][0].keys() == {
        "start", "end", "text",
    }  # fmt: skip


def test_one_channel(toy_models, tmp_path, capsys):
    """What is heard of two channels, each alone, is what a file of that one would give."""
    heard = []

    class Ear:
        """A runtime that keeps what it hears."""

        window, most_tokens = 30.0, 224

        def transcribe(self, audio, language, timestamps, temperatures=()):
            heard.append(audio)
            return [Segment(0.0, 1.0, "so")]

    one, two = (np.random.default_rng(i).normal(0, 0.1, 2 * SAMPLE_RATE) for i in (1, 2))
    both = tmp_path / "both.wav"
    soundfile.write(both, np.stack([one, two], axis=1), SAMPLE_RATE, "FLOAT")
    for channel in (0, 1, None):
        assert [*transcribe(Ear(), both, "ru", True, channel=channel)]
    expected = one, two, (one + two) / 2
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(heard, expected, strict=True))
    command = [str(both), "--model", str(toy_models["faster-whisper"]), "--language", "ru"]
    assert main([*command, "--channel", "1"]) == 0 and capsys.readouterr().out.strip()
    assert main([*command, "--channel", "2"]) == 2
    assert "both.wav: no channel 2: it has 2, counted from 0" in capsys.readouterr().err


def test_what_cannot_be_asked_for(toy_models, noise, save_toy, tmp_path):
    model = ["--model", str(toy_models["faster-whisper"]), "--language", "ru"]
    with pytest.raises(InputError, match="--words: only with --format json"):
        main([*noise, *model, "--words"])
    english = save_toy(state=32, layers=1, n_vocab=51864, text_ctx=32)
    with pytest.raises(InputError, match="knows one language only"):
        load_runtime("torch", english, task="translate")
    with pytest.raises(InputError, match="unknown task 'sing'"):
        load_runtime("torch", english, task="sing")
    write("onnx", tmp_path / "onnx", detect.load(english), {}, "float16")
    with pytest.raises(InputError, match="onnx tells nothing of words"):
        load_runtime("onnx", tmp_path / "onnx", words=True)


def test_moved():
    segment = Segment(1.0, 9.0, "a b", words=(Word(1.0, 2.0, "a", 0.5), Word(2.0, 9.0, "b", 0.25)))
    moved = segment.moved(10, 4)
    assert (moved.start, moved.end) == (11.0, 14)
    assert moved.words == (Word(11.0, 12.0, "a", 0.5), Word(12.0, 14, "b", 0.25))
