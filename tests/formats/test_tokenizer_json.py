import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_dq.formats.tokenizer_json import build
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import token_strings

TEXTS = [
    "Hello, world! It's 5 o'clock; we'll see -- don't you?",
    " Leading and  double   spaces \n\n and\ttabs  ",
    "Привет, мир! Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Één café naïve Straße İstanbul ğüşöç",
    "你好，世界。今天天气怎么样？ 日本語のテキスト、カタカナ。 한국어 텍스트입니다.",
    "مرحبا بالعالم، كيف الحال؟ שלום עולם नमस्ते दुनिया สวัสดีชาวโลก ሰላም ልዑል გამარჯობა",
    "👩‍👩‍👧‍👦 🏳️‍🌈 ♪♪♪ ½ ² ⅷ ١٢٣ \u00a0\u2003\u3000 \ufeff",
    "a" * 300 + " 1234567890" * 5 + "!?!?!?" * 10,
    "",
]


@pytest.fixture(scope="module", params=[51864, 51865, 51866])
def pair(request):
    encoding = any_tokenizer(request.param).encoding
    return encoding, build(encoding)


def test_token_for_token_as_openai(pair):
    encoding, ours = pair
    for text in TEXTS:
        ids = encoding.encode(text)
        assert ours.encode(text, add_special_tokens=False).ids == ids, text
        assert ours.decode(ids) == text


@pytest.mark.slow
def test_any_text(pair):
    encoding, ours = pair

    @settings(max_examples=200, deadline=None)
    @given(text=st.text(max_size=40))
    @example("so <|endoftext|>")  # hypothesis also draws what stands in our code
    def same(text):
        wanted = encoding.encode(text, allowed_special="all")
        assert ours.encode(text, add_special_tokens=False).ids == wanted

    same()


def test_every_id(pair):
    encoding, ours = pair
    assert ours.get_vocab_size() == encoding.n_vocab
    for token, number in encoding._special_tokens.items():
        assert ours.token_to_id(token) == number
        assert ours.encode(token, add_special_tokens=False).ids == [number]
    tokens = token_strings(encoding)
    assert [ours.token_to_id(token) for token in tokens] == list(range(encoding.n_vocab))


def test_against_the_published_tokenizer(source_files):
    """Hugging Face's files name one special token otherwise and lack the first merge."""
    folder = source_files["base"]
    published = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    encoding = any_tokenizer(51865).encoding
    ours = json.loads(build(encoding).to_str())["model"]
    merges = [tuple(pair.split(" ")) for pair in published["merges"]]
    assert [tuple(pair) for pair in ours["merges"]] == [("Ġ", "t"), *merges]
    assert ours["vocab"] == {k: v for k, v in published["vocab"].items() if v < 50257}
    lines = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    differing = [(a, b) for a, b in zip(token_strings(encoding), lines, strict=True) if a != b]
    assert differing == [("<|nospeech|>", "<|nocaptions|>")]
