"""How a text begins: as every runtime lets a decoder begin, in every language of Whisper."""

import numpy as np
import pytest
import torch
import whisper
from whisper.tokenizer import LANGUAGES

import espnet_dq as dq
from espnet_dq.errors import InputError
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import SPACELESS, encode_text
from espnet_dq.whisper.forward import log_mel, own_window
from espnet_dq.whisper.generation import openais

# In the script of each language; those that are not here are written in Latin letters.
TEXTS = {
    "zh": "今天天气很好", "yue": "佢哋而家喺度", "ja": "今日はいい天気です", "ko": "안녕하세요",
    "th": "วันนี้อากาศดี", "lo": "ສະບາຍດີ", "my": "မင်္ဂလာပါ", "km": "សួស្តី", "bo": "བཀྲ་ཤིས་བདེ་ལེགས",
    "hi": "नमस्ते दुनिया", "mr": "नमस्कार", "ne": "शुभ प्रभात", "sa": "ॐ शान्तिः", "bn": "আমার সোনার বাংলা",
    "as": "অসমীয়া ভাষা", "pa": "ਸਤਿ ਸ੍ਰੀ ਅਕਾਲ", "gu": "નમસ્તે", "ta": "வணக்கம்", "te": "నమస్కారం",
    "kn": "ನಮಸ್ಕಾರ", "ml": "നമസ്കാരം", "si": "ආයුබෝවන්", "ar": "مرحبا بالعالم", "fa": "سلام دنیا",
    "ur": "ہیلو دنیا", "ps": "ښه ورځ", "sd": "ڪيئن آهيو", "he": "שלום עולם", "yi": "אַ גוטן טאָג",
    "el": "Ώρα καλή", "hy": "Բարև ձեզ", "ka": "გამარჯობა", "am": "ሰላም ነው",
    "ru": "Ёлка стоит", "uk": "Їхав козак", "be": "Ў нас зіма", "bg": "Щастие", "mk": "Ѓорѓи",
    "sr": "Ђурђевдан", "kk": "Әлем", "mn": "Өнөөдөр", "tg": "Ӯ омад", "tt": "Җир", "ba": "Ҡояш",
    "yo": "Ẹ káàárọ̀", "vi": "Ở đây", "pl": "Łódź", "is": "Það er", "mt": "Ħafna", "tr": "Şimdi",
    "az": "Əla", "ha": "Ɗan gari", "haw": "ʻAe", "lv": "Ļoti", "es": "¿Qué tal?",
    "fr": "« Écoute »",
}  # fmt: skip


@pytest.mark.parametrize("size", ["tiny", "large-v3"])
def test_no_text_begins_with_what_may_not_be_said_first(size):
    tokenizer, settings = vocabulary_tokenizer(SIZES[size]), openais(SIZES[size])
    never = {*settings.begin_suppress_tokens, *settings.suppress_tokens}
    for language in LANGUAGES:
        for text in (TEXTS.get(language, "Élan"), "20 words", "a"):
            ids = encode_text(tokenizer, f" {text}\n", language)
            assert ids[0] not in never, (language, text)
            assert tokenizer.decode(ids).strip() == text
            if language in SPACELESS:
                assert tokenizer.decode(ids) == text


def test_words_have_their_space_where_there_are_any():
    tokenizer = vocabulary_tokenizer(51865)
    assert encode_text(tokenizer, " a ", "en") == [257] == tokenizer.encode(" a")
    assert encode_text(tokenizer, "a", "ja") == tokenizer.encode("a")
    armenian = encode_text(tokenizer, TEXTS["hy"], "hy")
    assert tokenizer.decode(armenian) == TEXTS["hy"]  # no token is a space and its first letter
    assert [*tokenizer.encode(" "), *armenian] == tokenizer.encode(f" {TEXTS['hy']}")
    with pytest.raises(InputError, match=r"a text with <\|en\|>, which is no text: 'hello"):
        encode_text(tokenizer, "hello <|en|> there", "en")


@pytest.mark.slow
def test_what_was_learned_is_said(make_toy):
    """By openai-whisper's decoding as it comes, which suppresses blanks."""
    net = make_toy(state=32, layers=1, text_ctx=64, audio_ctx=20).train()
    config = dq.DistillConfig(alpha=0.0, matching="logits")
    distiller = dq.Distiller(net, None, config)
    random = np.random.default_rng(0)
    clips = random.normal(0, 0.05, (5, 6400)).astype(np.float32)
    codes = ("zh", "ja", "th", "hy", "bn")
    batch = distiller.batch([(c, TEXTS[k], k) for c, k in zip(clips, codes, strict=True)])
    optimizer = torch.optim.Adam(distiller.parameters(), 1e-2)
    for _ in range(60):
        loss, _ = distiller(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    lengths = torch.full((5,), 6400)
    mel = log_mel(torch.from_numpy(clips), lengths, net.dims.n_mels, own_window(net.dims))
    for features, code in zip(mel, codes, strict=True):
        options = whisper.DecodingOptions(language=code, without_timestamps=True, fp16=False)
        assert whisper.decode(net.eval(), features, options).text == TEXTS[code]
