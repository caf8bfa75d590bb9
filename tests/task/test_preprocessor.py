"""Texts and languages as ESPnet's trainer gets them."""

import numpy as np
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


def test_the_student_hears_changed_speech_in_training_alone():
    speech = np.random.default_rng(0).normal(0, 0.1, 16000)
    for train, options, same in ((True, {"noise": 1.0}, False), (True, {}, None),
                                 (False, {"noise": 1.0}, None)):  # fmt: skip
        preprocess = DQWhisperPreprocessor(train, "dq_whisper", token_list(), **options)
        data = preprocess("u", {"speech": speech})
        assert np.array_equal(data["speech"], np.float32(speech))
        assert ("heard" not in data) is (same is None)
        if same is not None:
            np.random.seed(3)
            first = preprocess("u", {"speech": speech})["heard"]
            np.random.seed(3)
            assert np.array_equal(first, preprocess("u", {"speech": speech})["heard"])
            assert not np.array_equal(first, data["heard"])
    short = DQWhisperPreprocessor(True, "dq_whisper", token_list(), n_audio_ctx=50, speed=1.0)
    assert all(len(short("u", {"speech": speech})["heard"]) <= 16000 for _ in range(9))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"vioce": 0.5}, "unknown key 'vioce': known are n_audio_ctx, voice"),
     ({"voice": 1.5}, "voice: 1.5 is not a number of 0 to 1")],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_named(options, said):
    with pytest.raises(InputError, match=said):
        DQWhisperPreprocessor(True, "dq_whisper", token_list(), **options)


def test_tokens_are_whispers():
    tokenizer = DQWhisperTokenizer()
    assert len(set(tokenizer.tokens)) == 51865
    assert tokenizer.tokens[50263] == "<|ru|>"
    preprocess = DQWhisperPreprocessor(True, "dq_whisper", tokenizer.tokens)
    for text, language, space in (
        ("Привет, мир!", "ru", " "),
        ("naïve café", "fr", " "),
        ("日本語のテキスト", "ja", ""),
        ("a  b", "en", " "),
    ):
        ids = preprocess("u", {"text": text, "lang": language})["text"]
        assert ids.tolist() == tokenizer.tokenizer.encode(space + text)
        assert tokenizer.tokens2text([tokenizer.tokens[i] for i in ids]) == text


def test_tokens_need_the_language_of_their_text():
    with pytest.raises(InputError, match="does not tell the language of a text"):
        DQWhisperTokenizer().text2tokens("hello")
