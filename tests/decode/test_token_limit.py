"""Texts that are longer than a decoder has room for: whole where that can be, counted always.

The toy says two words a second, whatever the sound is, and hears how long that is: of its window
uniform attention gives the share that is loud. It has 64 positions, so 60 tokens behind the prompt;
whisper.cpp stops at 64 / 2 - 4.
"""

import json
import re

import numpy as np
import pytest
import torch
from whisper.model import ModelDimensions, Whisper
from whisper.utils import compression_ratio

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.decode import main as decode
from espnet_dq.bin.transcribe import main as transcribe
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir, read_scp, write_scp
from espnet_dq.data.texts import repetition
from espnet_dq.decode import halves
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.labels.pseudo import label_folder
from espnet_dq.runtimes import Segment, load_runtime
from espnet_dq.runtimes.interface import COMPRESSION, Attempt, Hypothesis, settle
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.room import most_text, most_tokens
from espnet_dq.whisper.weights import Weights
from tests.toys import noise

FORMATS = {
    "torch": "openai",
    "faster-whisper": "ct2",
    "whisper.cpp": "ggml",
    "onnx": "onnx",
    "transformers": "hf",
}
POSITIONS, STATE, PROMPT = 64, 64, 4
PER_SECOND = 2


def speaking() -> Weights:
    """The toy. Dimension 0 of a hidden state is how much too long the text is, the others a word.

    All tokens' vectors are 8 long, and their dimensions' sum is 0, as the normalisation takes it
    away. A word has 20 of its vector in its position's, and so has <|endoftext|> where dimension 0
    is 40, a word above what is to be said.
    """
    dims = ModelDimensions(80, 1500, STATE, 2, 1, 51865, POSITIONS, STATE, 2, 1)
    model = Whisper(dims).eval()
    tokenizer = vocabulary_tokenizer(51865)
    spelled = ((token, tokenizer.decode([token])) for token in range(1000, 5000))
    words = [token for token, text in spelled if re.fullmatch(" [a-z]{3,}", text)][:POSITIONS]
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.fill_(float("ln" in name and name.endswith("weight")))
        encoder, decoder = model.encoder, model.decoder
        encoder.positional_embedding.zero_()
        # Log-mel features of noise are above 0.5, those of silence below 0.1.
        encoder.conv1.weight[0, :, 1], encoder.conv1.bias[0] = 50 / 80, -15
        encoder.conv2.weight[0, 0, 1], encoder.conv2.bias[1] = 1, 1
        vectors = torch.randn(51865, STATE - 1, generator=torch.Generator().manual_seed(0))
        vectors -= vectors.mean(1, keepdim=True)
        embedding = decoder.token_embedding.weight
        embedding[:, 1:] = 8 * torch.nn.functional.normalize(vectors)
        decoder.positional_embedding.copy_(20 * embedding[words])
        embedding[tokenizer.eot], embedding[tokenizer.eot, 0] = 0, 32 * STATE / (STATE - 1)
        mel = torch.tensor([0.0, 1.0])[:, None, None].expand(2, 80, 3000)
        silent, loud = encoder(mel).mean(1)[:, 0].tolist()
        one = 30 * PER_SECOND / (loud - silent)  # words in what attention gives
        cross = decoder.blocks[0].cross_attn
        cross.value.weight[0, 0], cross.out.weight[0, 0] = 1, -4 * one
        said = torch.arange(POSITIONS) - (PROMPT - 1) + 0.5
        decoder.positional_embedding[:, 0] = 40 + 4 * (said + one * silent)
    return Weights(dims, model.state_dict())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Runtime -> the toy in its format."""
    folder = tmp_path_factory.mktemp("models")
    paths = {"torch": folder / "toy.pt"}
    save_pt(paths["torch"], speaking(), torch.float32)
    for name, form in list(FORMATS.items())[1:]:
        paths[name] = folder / (form + ".bin" * (form == "ggml"))
        given = ["--from", str(paths["torch"]), "--to", form]
        assert convert([*given, "--out", str(paths[name])]) == 0
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Kaldi folder of three recordings, of 24, 48 and 60 words."""
    folder = tmp_path_factory.mktemp("data")
    wav = {f"{seconds}s": str(folder / f"{seconds}.wav") for seconds in (12, 24, 30)}
    for number, path in enumerate(wav.values()):
        save_wav(path, noise((12, 24, 30)[number], number))
    write_scp(folder / "wav.scp", wav)
    write_scp(folder / "utt2lang", dict.fromkeys(wav, "en"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("runtime", FORMATS)
def test_texts_are_whole_in_every_runtime(runtime, models, data, tmp_path):
    report = decode_folder(models[runtime], runtime, data, tmp_path / "out", threads=1)
    texts = {u: t.split() for u, t in read_scp(tmp_path / "out/text").items()}
    # Of a piece (at most four) the toy may say a word more or less, and begins anew with each.
    counts = {utt: len(words) for utt, words in texts.items()}
    assert counts == pytest.approx({"12s": 24, "24s": 48, "30s": 60}, abs=4)
    cpp = runtime == "whisper.cpp"
    in_two = ["24s", "30s"] if cpp else ["30s"]
    assert report["token_limit"] == {"tokens": 28 if cpp else 60, "in two": in_two, "cut": []}
    assert len({*texts["24s"]}) == (len(texts["24s"]) if not cpp else pytest.approx(24, abs=3))
    assert report["failed"] == {} and report["cut"]["utterances"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime",
    [
        "torch",
        "faster-whisper",
        "onnx",
        # They try other temperatures.
        pytest.param("whisper.cpp", marks=pytest.mark.slow),
        pytest.param("transformers", marks=pytest.mark.slow),
    ],
)
def test_what_is_cut_is_known_with_timestamps_too(runtime, models):
    engine = load_runtime(runtime, models[runtime], threads=1)
    for seconds, limit in ((12, ""), (30, "cut")):
        (said,) = engine.decode([noise(seconds)], "en")
        assert said.limit == limit
        for timestamps in (False, True):
            segments = engine.transcribe(noise(seconds), "en", timestamps)
            assert {segment.limit for segment in segments} == {limit}


@pytest.fixture(scope="module")
def stuck(tmp_path_factory):
    """A model that says one word for ever."""
    weights = speaking()
    positions = weights.state["decoder.positional_embedding"]
    positions[:] = positions[10]
    positions[:, 0] = 0
    path = tmp_path_factory.mktemp("stuck") / "toy.pt"
    save_pt(path, weights, torch.float32)
    return path


@pytest.mark.slow
def test_circles_are_cut_and_named(stuck, data, tmp_path, capsys, monkeypatch):
    """In parts as in one; no room is enough for them, so they are not decoded in two."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of a toy, threads only wait for each other
    given = ["--model", str(stuck), "--runtime", "torch", "--data", str(data)]
    assert decode([*given, "--out", str(tmp_path / "whole")]) == 0
    said = "3 utterances, 0 failed, 0 decoded in two for want of tokens, 3 cut at 60, RTF"
    assert said in capsys.readouterr().out
    found = json.loads((tmp_path / "whole/decode.json").read_text())["token_limit"]
    assert found == {"tokens": 60, "in two": [], "cut": ["12s", "24s", "30s"]}
    assert {len(t.split()) for t in read_scp(tmp_path / "whole/text").values()} == {60}
    for part in ("1/2", "2/2"):
        decode([*given, "--out", str(tmp_path / "parts"), "--part", part])
    decode([*given, "--out", str(tmp_path / "parts"), "--join", "2"])
    assert json.loads((tmp_path / "parts/decode.json").read_text())["token_limit"] == found
    capsys.readouterr()
    path = read_scp(data / "wav.scp")["12s"]
    assert transcribe([path, "--model", str(stuck), "--language", "en"]) == 0
    out, err = capsys.readouterr()
    assert len(out.split()) == 1
    assert f"{path}: text cut that cannot have been said, 0:00:00.00 to 0:00:12.00" in err


class Slow:
    """Has room for 10 numbers; the audio has one a second, in its loudness."""

    window, batch, most_tokens = 30.0, 1, 10

    def decode(self, clips, language):
        assert len(clips) == 1
        segments = self.transcribe(clips[0], language, True)
        space = "" if language == "ja" else " "
        return [Hypothesis(space.join(s.text for s in segments), segments[0].limit)]

    def transcribe(self, audio, language, timestamps, temperatures=()):
        values = np.round(audio[:: SAMPLE_RATE // 10] * 10)
        found = sorted({int(v) for v in values if v})
        limit = "cut" if len(found) > 10 else ""
        starts = {v: int(np.argmax(values == v)) / 10 for v in found[:10]}
        return [Segment(start, 30.0, f"あ{v}", limit) for v, start in starts.items()]


def test_halves_are_joined_and_their_times_are_the_clips():
    audio = np.repeat(np.arange(1, 25, dtype=np.float32) / 10, SAMPLE_RATE).reshape(24, -1)
    audio[:, 1::2] *= -1
    audio[:, int(0.6 * SAMPLE_RATE) :] = 0
    audio, numbers = audio.reshape(-1), [f"あ{n}" for n in range(1, 25)]
    for language, space in (("en", " "), ("ja", "")):
        (said,) = halves.decode(Slow(), [audio], language)
        assert said == Hypothesis(space.join(numbers), "in two")
    segments = halves.transcribe(Slow(), audio, "ja", True)
    assert [s.text for s in segments] == numbers
    assert [s.start for s in segments] == pytest.approx(range(24), abs=0.1)
    assert {s.limit for s in segments} == {"in two"} and max(s.end for s in segments) == 24


def test_labels_are_whole_or_none(data, models, tmp_path):
    """What the teacher's decoder has no room for is no label, for `replace` and for `check`."""
    source = tmp_path / "data"
    wav = read_scp(data / "wav.scp")
    folder = KaldiDir(wav, dict.fromkeys(wav, "x"), {u: u for u in wav}, dict.fromkeys(wav, "en"))
    folder.extra["utt2num_samples"] = {u: str(len(load_audio(wav[u]))) for u in wav}
    folder.save(source)
    report = label_folder(source, tmp_path / "new", models["torch"], "replace")
    assert report["dropped"] == {"the teacher's text is longer than its decoder has room for": 1}
    texts = read_scp(tmp_path / "new/text")
    assert {utt: len(text.split()) for utt, text in texts.items()} == {"12s": 24, "24s": 48}
    write_scp(source / "text", texts | {"30s": f"{texts['24s']} and more"})
    report = label_folder(source, tmp_path / "same", models["torch"], "check")
    assert read_scp(tmp_path / "same/text") == texts
    assert list(report["dropped"].values()) == [1] and "room" in next(iter(report["dropped"]))


GEORGIAN = (
    "ქართული ენა არის საქართველოს სახელმწიფო ენა და მას მილიონობით ადამიანი ლაპარაკობს მთელ "
    "მსოფლიოში რადგან ძველი დამწერლობა და მდიდარი ლიტერატურა აქვს ხოლო მისი გრამატიკა რთულია"
)


def test_sound_text_of_any_script_goes_not_round_in_circles():
    assert compression_ratio(GEORGIAN) > COMPRESSION > 1.5 > repetition(GEORGIAN)
    assert repetition("მადლობა " * 20) > COMPRESSION
    assert repetition("谢谢观看" * 40) > COMPRESSION and repetition("") == 0


def test_sound_text_that_is_cut_is_not_tried_again():
    tried = []

    def attempt(temperature):
        tried.append(temperature)
        return Attempt(GEORGIAN, -0.3, 0.0, "cut")

    assert settle(attempt) == Hypothesis(GEORGIAN, "cut") and tried == [0.0]


def test_room():
    assert (most_tokens(448), most_text(448)) == (444, 441)
    with pytest.raises(InputError, match="4 positions"):
        most_tokens(4)


@pytest.mark.slow
def test_text_from_before_takes_positions(tmp_path, make_toy):
    """Of 448 that CTranslate2 has: no position behind the last one, where it would fail."""
    model = make_toy(0, 64, 1)
    with torch.no_grad():  # it never ends
        model.decoder.token_embedding.weight[vocabulary_tokenizer(51865).eot] = 0
        words = model.decoder.token_embedding.weight[1000:1448]
        model.decoder.positional_embedding.copy_(20 * words)
    ctranslate2_writer.save(tmp_path / "ct2", Weights(model.dims, model.state_dict()), {})
    engine = load_runtime("faster-whisper", tmp_path / "ct2", threads=1)
    for before, most in ((0, 444), (100, 448 - 105), (300, 448 - 228)):  # 223 at most, and its mark
        options = engine.options | {"initial_prompt": [1000] * before or None}
        segments, _ = engine.model.transcribe(noise(1), language="en", **options)
        assert [len(segment.tokens) for segment in segments] == [most]


@pytest.mark.parametrize("runtime", ["torch", "faster-whisper"])
def test_a_text_cut_behind_a_prompt_is_named(runtime, models):
    """There is less room for it than without."""
    engine = load_runtime(runtime, models[runtime], threads=1, prompt="one two three four five")
    for timestamps in (False, True):
        found = engine.transcribe(noise(30), "en", timestamps, (0.0,))
        assert [s.limit for s in found] == ["cut"] * len(found) and found
    # The prompt stands before the text of each window. (The toy counts positions: its six, too.)
    sound = np.concatenate([noise(20), np.zeros(10 * SAMPLE_RATE, np.float32), noise(27)])
    found = engine.transcribe(sound, "en", True, (0.0,))
    assert [(len(s.text.split()), s.limit) for s in found] == [(40 - 6, ""), (54 - 6, "")]
    for odd, line in (
        ("so <|endoftext|>", "holds a special token"),
        ("Fran\udce7ois", "is not Unicode"),  # of a terminal in Latin-1
        ("a\0b", "holds a NUL"),
    ):
        with pytest.raises(InputError, match=rf"prompt: .*{line}"):
            load_runtime(runtime, models[runtime], prompt=odd)
