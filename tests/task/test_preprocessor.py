"""Texts and languages as ESPnet's trainer gets them."""

import pytest

from espnet_dq.errors import InputError
from espnet_dq.task.preprocessor import DQWhisperPreprocessor
from espnet_dq.task.tokenizer import DQWhisperTokenizer, token_list


def test_preprocessor_names_the_utterance():
    preprocess = DQWhisperPreprocessor(True, "dq_whisper", token_list())
    with pytest.raises(InputError, match="utterance u7: unknown language 'xx'"):
        preprocess("u7", {"lang": "xx"})
    with pytest.raises(InputError, match="bpemodel"):
        DQWhisperPreprocessor(True, "whisper_en", token_list())
    with pytest.raises(InputError, match="rir_scp"):
        DQWhisperPreprocessor(True, "dq_whisper", token_list(), rir_scp="rirs")


def test_tokens_are_whispers():
    tokenizer = DQWhisperTokenizer()
    assert len(set(tokenizer.tokens)) == 51865
    assert tokenizer.tokens[50263] == "<|ru|>"
    for text in ("Привет, мир!", "naïve café", "日本語のテキスト", "a  b"):
        assert tokenizer.tokens2text(tokenizer.text2tokens(text)) == text
        assert [tokenizer.ids[t] for t in tokenizer.text2tokens(text)] == (
            tokenizer.tokenizer.encode(" " + text)
        )
