"""What no model learns speech from, on real speech and on what was made of it."""

from itertools import batched

import numpy as np
import pytest
import soundfile
from whisper.tokenizer import LANGUAGES

from espnet_dq.data import unfit
from espnet_dq.data.audio import BLOCK, load_audio
from espnet_dq.data.unfit import (
    CLIPPED,
    NOT_SPEECH,
    SCRIPT,
    SILENCE,
    SPECIAL,
    TOO_MUCH,
    sound_fault,
    text_fault,
)


def blocks(audio, length=BLOCK):
    return [np.array(block, np.float32) for block in batched(audio, length)]


def test_real_speech_is_fit(clips):
    for path, lang, text in clips:
        audio = load_audio(path)
        assert sound_fault([audio]) == (len(audio), None)
        assert sound_fault([audio / 300])[1] is None  # quiet, but speech
        assert text_fault(text, lang, len(audio)) is None
        loud = np.clip(audio / np.abs(audio).max() * 20, -1, 1)
        for gain in (1, 0.1):  # whatever came after the clipping
            assert sound_fault([gain * loud])[1] == CLIPPED


def test_clipping_is_seen_after_resampling(clips, tmp_path):
    audio = load_audio(clips[1][0])
    loud = np.clip(audio / np.abs(audio).max() * 20, -1, 1)
    # The same samples as if they had been taken at another rate.
    for name, rate in (("x.wav", 44100), ("x.flac", 8000), ("x.ogg", 16000)):
        soundfile.write(tmp_path / name, loud, rate)
        assert sound_fault([load_audio(tmp_path / name)])[1] == CLIPPED
        soundfile.write(tmp_path / name, audio, rate)
        assert sound_fault([load_audio(tmp_path / name)])[1] is None


def test_silence(clips):
    hiss = np.random.default_rng(0).normal(0, 2e-5, 40000).astype(np.float32)
    for silent in (np.zeros(40000), np.full(40000, 0.3), hiss, hiss - 0.1):
        assert sound_fault(blocks(silent, 16000)) == (40000, SILENCE)
    speech = load_audio(clips[0][0])[:16000]
    for mixed in ([hiss, speech, hiss], [speech, hiss], [hiss, hiss, speech]):
        assert sound_fault(mixed)[1] is None  # as long as there is anything


@pytest.mark.parametrize(
    ("text", "language", "fault"),
    [
        ("", "en", None),  # what the teacher is to write
        ("...", "en", NOT_SPEECH),
        ("(laughs) ♪♪", "zh", NOT_SPEECH),
        ("Good day", "ru", None),  # a few Latin letters
        ("xin <|vi|> chao", "vi", SPECIAL),
        ("a < b | c > d", "en", None),
        ("Good afternoon", "ru", SCRIPT),
        ("Здравствуйте, Microsoft Windows", "ru", None),
        ("Это OK", "en", None),  # some of its own
        ("Да", "en", SCRIPT),
        ("добрый день", "sr", None),
        ("dobar dan, kako ste", "sr", None),
        ("добрый день", "hr", SCRIPT),
        ("привет всем", "sa", None),  # not judged
        ("привет всем", "xx", None),
        ("2024 – 100 %", "ar", None),
        ("السلام عليكم", "fa", None),
        ("السلام عليكم", "he", SCRIPT),
        ("東京タワー", "ja", None),
        ("コンピューター", "zh", SCRIPT),
        ("서울", "ko", None),
        ("Ｆｕｌｌ ｗｉｄｔｈ ｌｅｔｔｅｒｓ", "en", None),
        ("नमस्ते दुनिया", "hi", None),
        ("ทดสอบ", "th", None),
        ("naïve Straße ﬁn № 3ª", "de", None),
    ],
)
def test_scripts(text, language, fault):
    assert text_fault(text, language, 16000 * 10) == fault


def test_every_language_of_whisper_has_a_script():
    known = {language for of in unfit._WRITTEN.values() for language in of.split()}
    assert known == LANGUAGES.keys() - {"sa"}


def test_too_much_text():
    text = "one two three four five six seven eight nine ten"  # 39 letters
    assert text_fault(text, "en", 16000) is None
    assert text_fault(text, "en", 15400) == TOO_MUCH  # 28.9 and 10
    assert text_fault(f"(cheerful music from afar, then steps) {text[:9]}", "en", 8000) is None
