"""A trimmed vocabulary's tokenizer against the whole one's, openai-whisper's own."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper.tokenizer import get_tokenizer

from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.tokenizer_json import build
from espnet_dq.whisper.dims import SIZES, any_tokenizer, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.vocabulary import own_vocabulary, token_strings, with_tokens

WHOLE = get_tokenizer(multilingual=True)


def strings(tokenizer, ids):
    return [tokenizer.encoding.decode_single_token_bytes(i) for i in ids]


@pytest.fixture(scope="module")
def texts(real_texts):
    return [text for lang in ("en", "es") for text in real_texts(lang).values()]


@pytest.fixture(scope="module")
def dims(save_toy, trim, texts):
    return openai.load(trim(save_toy(state=16, layers=1), texts)).dims


@pytest.fixture(scope="module")
def tokenizer(dims):
    return vocabulary_tokenizer(dims)


def test_texts_of_kept_tokens_are_cut_as_ever(tokenizer, dims, texts):
    assert dims.n_vocab < 7000  # words of a list in several forms
    for text in texts:
        whole = encode_text(WHOLE, text, "en")
        ours = encode_text(tokenizer, text, "en")
        assert strings(tokenizer, ours) == strings(WHOLE, whole)
        assert [dims.kept[i] for i in ours] == whole
    words = sorted({word for text in texts for word in text.split()})

    @settings(max_examples=100, deadline=None)
    @given(chosen=st.lists(st.sampled_from(words), max_size=8))
    def same(chosen):
        text = " ".join(chosen)
        whole = WHOLE.encode(text)
        if {*whole} <= {*dims.kept}:
            assert strings(tokenizer, tokenizer.encode(text)) == strings(WHOLE, whole)

    same()


def test_any_text_comes_back(tokenizer):
    theirs = build(tokenizer.encoding)  # Hugging Face's, for the exports

    @settings(max_examples=200, deadline=None)
    @given(
        text=st.text(max_size=40).filter(lambda text: "<|" not in text)
    )  # a special token's name
    def same(text):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert theirs.encode(text, add_special_tokens=False).ids == ids

    same()
    assert tokenizer.decode(tokenizer.encode("天気 ☃ naïveté")) == "天気 ☃ naïveté"
    assert len(tokenizer.encode("天気")) == 6  # bytes


def test_special_tokens_keep_their_names_and_rules(tokenizer, dims):
    assert {*tokenizer.special_tokens} == {*WHOLE.special_tokens}
    for name, i in tokenizer.special_tokens.items():
        assert dims.kept[i] == WHOLE.special_tokens[name]
    assert [dims.kept[i] for i in tokenizer.sot_sequence] == [*WHOLE.sot_sequence]
    assert [dims.kept[i] for i in tokenizer.non_speech_tokens] == [*WHOLE.non_speech_tokens]
    assert {dims.kept[i] for i in tokenizer.all_language_tokens} == {*WHOLE.all_language_tokens}
    assert tokenizer.eot == tokenizer.special_tokens["<|endoftext|>"]
    assert tokenizer.timestamp_begin + 1501 == dims.n_vocab


def test_what_no_tokenizer_can_be_made_of(dims):
    kept = [*dims.kept]

    def refused(wrong, message):
        with pytest.raises(InputError, match=f"here: {message}"):
            own_vocabulary(replace(SIZES["tiny"], n_vocab=len(wrong)), wrong, "here")

    assert own_vocabulary(replace(SIZES["tiny"], n_vocab=len(kept)), kept, "here").kept == dims.kept
    refused([-1, *kept[1:]], "the kept tokens are not ids in rising order")
    refused([*kept[:300], kept[299], *kept[300:]], "the kept tokens are not ids in rising order")
    refused(kept[:-1], "the kept tokens do not end as")
    refused([*kept, 51865, 51866], "the kept tokens do not end as")
    refused([i for i in kept if i != 50259], "the kept tokens lack a special token")
    refused([i for i in kept if i != WHOLE.encode("A")[0]], r"the kept tokens lack 32 \(b'A'\)")
    needed = WHOLE.encode(" ext")[0]  # of which " extension" is made
    refused([i for i in kept if i != needed], rf"the kept tokens lack {needed} \(b' ext'\)")
    refused([*range(51865)], "51865 kept tokens: not fewer")
    with pytest.raises(InputError, match="here: 4 kept tokens, but n_vocab is 51865"):
        own_vocabulary(SIZES["tiny"], kept[:4], "here")


def test_known_by_its_strings(tokenizer, dims):
    plain, tokens = replace(SIZES["tiny"], n_vocab=dims.n_vocab), token_strings(tokenizer.encoding)
    assert with_tokens(plain, tokens, "list").kept == dims.kept
    for size in (51864, 51865, 51866):
        whole = replace(SIZES["tiny"], n_vocab=size)
        assert with_tokens(whole, token_strings(any_tokenizer(size).encoding), "list") == whole
    with pytest.raises(InputError, match="list: 'Ünknown' is no token of Whisper's"):
        with_tokens(plain, ["Ünknown", *tokens[1:]], "list")
    with pytest.raises(InputError, match="list: 51865 tokens, but n_vocab is 51866"):
        with_tokens(whole, token_strings(any_tokenizer(51865).encoding), "list")
    with pytest.raises(InputError, match=r"list: .* is not where Whisper has it"):
        swapped = token_strings(any_tokenizer(51866).encoding)
        with_tokens(whole, [swapped[1], swapped[0], *swapped[2:]], "list")
    with pytest.raises(InputError, match=f"{dims.n_vocab} tokens, and nothing says which"):
        vocabulary_tokenizer(plain)
