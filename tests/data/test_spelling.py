"""Texts as they are compared: spellings written down by hand, and what holds in all languages."""

import unicodedata
from collections import Counter
from functools import cache

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from whisper.normalizers import BasicTextNormalizer
from whisper.tokenizer import LANGUAGES

from espnet_dq.data.spelling import (
    _DO_NOT_USE,
    LETTERS_AS_WORDS,
    compared,
    letters,
    lower,
    normalise,
)
from espnet_dq.data.unfit import _WRITTEN

EVERY = sorted(LANGUAGES)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "  Wählen Sie: 1, [beep] (laut) ÉTÉ!  ", "wählen sie 1 été"),
        ("en", "(ahooga)", ""),
        ("en", "1 <\u0338 2 > 1", "1 2 1"),  # "not less than" is no bracket
        ("en", "it's e-mail, x² ﬁne", "it s e mail x2 fine"),
        ("en", "so\u00adft \u200fmark\ufeff ❤️ 1️⃣ 👍🏽", "soft mark 1"),
        ("de", "Straße STRASSE", "straße strasse"),
        # Marks of the spelling
        ("hi", "मैं आज स्कूल जा रहा हूँ।", "मैं आज स्कूल जा रहा हूँ"),
        ("bn", "আমি বাংলায়, গান গাই!", "আমি বাংলায় গান গাই".replace("\u09df", "\u09af\u09bc")),
        ("ta", "தமிழ்நாடு.", "தமிழ்நாடு"),
        ("yo", "Ẹ̀KỌ́ Yorùbá", "ẹ̀kọ́ yorùbá"),
        ("vi", "Tiê\u0301ng Viê\u0323t", "tiếng việt"),
        ("bo", "བོད་སྐད།", "བོད སྐད"),
        ("yi", "אַ ייִד", "אַ ייִד"),
        ("uk", "Їжак і йод", "їжак і йод"),
        ("mk", "Ќе ѓон", "ќе ѓон"),
        ("km", "ខ្ញុំ ស្រឡាញ់", "ខ្ញុំស្រឡាញ់"),
        ("ja", "ガッコウ か\u3099　へ（笑）！", "ガッコウがへ"),
        ("ko", unicodedata.normalize("NFD", "안녕하세요."), "안녕하세요"),
        # Optional marks
        ("ar", "السَّلَامُ عَلَيْكُمْ ـــ كتـــاب هٰذا", "السلام عليكم كتاب هذا"),
        ("ar", "أحمد آخر مؤمن", "أحمد آخر مؤمن"),
        ("he", "שָׁלוֹם עוֹלָם", "שלום עולם"),
        ("ru", "за\u0301мок, замо\u0301к", "замок замок"),
        # Case
        ("tr", "İyi günler, IŞIK", "iyi günler ışık"),
        ("az", "İSTİ QIŞ", "isti qış"),
        ("en", "İstanbul I i\u0307", "istanbul i i"),
        ("lt", "I\u0307\u0301 į\u0307\u0303", "í į̃"),
        ("el", "ΟΔΟΣ. ΣΟΦΟΣ", "οδος σοφος"),
        ("ka", "ᲒᲐᲛᲐᲠᲯᲝᲑᲐ", "გამარჯობა"),
        # Digits, whatever their script
        ("hi", "१२३", "123"),
        ("fa", "۱۲ ١٢", "12 12"),
    ],
)
def test_by_hand(language, text, expected):
    assert normalise(text, language) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("language", "texts"),
    [  # one spelling
        ("hi", ["क्\u200dष", "क्\u200cष", "क्ष"]),
        ("ml", ["അവന്\u200d", "അവൻ"]),
        ("bn", ["হঠাত্\u200d", "হঠাৎ"]),
        ("si", ["ශ්\u200dරී", "ශ්රී"]),
        ("fa", ["می\u200cخواهم", "میخواهم", "مي\u200cخواهم"]),
        ("fa", ["كتاب", "کتاب"]),
        ("ur", ["يه كتاب", "یہ کتاب"]),
        ("th", ["น้ำ", "นํ้า", "น้\u0e4dา"]),
        ("th", ["แม่", "เเม่", "แม่\u200b"]),
        ("lo", ["ນ້ຳ", "ນ\u0ecd້າ", "ນ້\u0ecdາ"]),
        ("my", ["မြန်မာ။", "မြန်\u200bမာ", "မြန်မာ"]),
        ("hy", ["Ինչպե՞ս ես", "Ինչպես ես", "ԻՆՉՊԵՍ ԵՍ"]),
        ("hy", ["Եվ", "և", "եւ"]),
        ("yi", ["ייִדיש װאָס", "ייִדיש וואָס"]),
        ("ro", ["aceşti ţărani", "acești țărani"]),
        ("uk", ["м'ята", "м’ята", "мʼята"]),
        ("uz", ["o'zbek", "oʻzbek", "o‘zbek", "oʼzbek", "o`zbek"]),
        ("haw", ["Hawaiʻi", "Hawai'i", "Hawai‘i"]),
        ("af", ["ŉ huis", "'n huis"]),
        ("fr", ["l´été", "l'été", "l’e\u0301te\u0301"]),
        ("zh", ["我喜欢喝茶", "我喜欢喝茶。", "我 喜欢，喝茶", "我喜欢（笑）喝茶"]),
        ("km", ["កោ", "ក\u17c1\u17b6"]),
        ("km", ["កើ", "ក\u17c1\u17b8"]),
        ("km", ["ខ្ញុំ", "ខ្ញ\u17c6\u17bb"]),
        ("ml", ["എന്റെ", "എൻ\u0d4dറെ"]),
        ("hi", ["ऑफिस", "आ\u0945फिस", "अ\u0949फिस"]),
        ("mr", ["ओठ", "आ\u0947ठ", "अा\u0947ठ"]),
        ("ne", ["औषधि", "अ\u094cषधि"]),
        ("gu", ["ઓછું", "આ\u0ac7છું"]),
        ("pa", ["ਇਹ", "\u0a72\u0a3fਹ"]),
        ("si", ["ආයුබෝවන්", "අ\u0dcfයුබෝවන්"]),
        ("ur", ["کوئی", "کو\u06cc\u0654ی"]),
        ("fa", ["مسئول", "مس\u06cc\u0654ول"]),
        ("ps", ["کتاب ګرم", "كتاب گرم"]),
        ("ar", ["كتابي", "کتابی"]),
        ("th", ["กี่", "ก\u0e48\u0e35"]),
        ("th", ["ผู้", "ผ\u0e49\u0e39"]),
        ("lo", ["ກີ່", "ກ\u0ec8\u0eb5"]),
        ("en", ["1½ cups", "1 1/2 cups"]),
        ("en", ["Asterisk™", "asterisk"]),
    ],
)
def test_one_spelling_has_one_form(language, texts):
    assert len({normalise(text, language) for text in texts}) == 1


@pytest.mark.parametrize(
    ("language", "texts"),
    [  # different spellings
        ("hi", ["मैं", "मां", "में"]),
        ("hi", ["नहीं", "नही"]),
        ("ml", ["അവൻ", "അവന്"]),
        ("th", ["กิน", "กัน", "กน"]),
        ("yi", ["אַ", "אָ", "א"]),
        ("tr", ["kız", "kiz"]),
        ("de", ["Masse", "Maße"]),
        ("ar", ["أن", "ان", "إن"]),
        ("ru", ["все", "всё"]),
        ("pl", ["łaska", "laska"]),
        ("uz", ["oʻn", "on"]),
        ("ps", ["سړي", "سړی", "سړې", "سړۍ"]),
        ("en", ["1½ cups", "11/2 cups"]),
        ("km", ["កុំ", "កំ", "កុ"]),
    ],
)
def test_different_spellings_stay_different(language, texts):
    assert len({normalise(text, language) for text in texts}) == len(texts)


@cache
def alphabet(language: str) -> list[str]:
    """Letters, digits and marks of the scripts that a language is written in."""
    scripts = [name for name, of in _WRITTEN.items() if language in of.split()]
    if not scripts:  # Sanskrit, written in any
        scripts = ["DEVANAGARI"]
    names = tuple(f"{script} " for script in scripts)
    chars = [chr(c) for c in range(0x3400) if unicodedata.name(chr(c), "").startswith(names)]
    chars = [c for c in chars if unicodedata.category(c) in ("Lu", "Ll", "Lo", "Mn", "Mc", "Nd")]
    return [*chars, *("茶喝我" if "CJK" in scripts else ""), *"\u0301\u0323\u0308"]


@st.composite
def sentences(draw) -> tuple[str, list[str]]:
    language = draw(st.sampled_from(EVERY))
    word = st.text(st.sampled_from(alphabet(language)), min_size=1, max_size=8)
    return language, draw(st.lists(word, min_size=1, max_size=5))


@pytest.mark.slow
@given(sentences(), st.sampled_from([*".,!?;:…–-»\"'", "。", "、", "؟", "।", "።", "။", "\u00ad"]))
def test_in_every_language(sentence, mark):
    language, words = sentence
    text = " ".join(words)
    once = normalise(text, language)
    assert normalise(once, language) == once
    for form in ("NFD", "NFC", "NFKC"):
        assert normalise(unicodedata.normalize(form, text), language) == once
    assert normalise(f"{mark} ".join(words) + mark, language) == once
    assert ("" if language in LETTERS_AS_WORDS else " ").join(compared(text, language)) == once
    assert not any(unicodedata.category(c)[0] in "PSC" for c in once)


def signs(letter: str) -> list[str]:
    """The marks of a letter's script that are seen."""
    script = unicodedata.name(letter).partition(" ")[0]
    marks = [c for c in map(chr, range(0x3400)) if unicodedata.category(c)[0] == "M"]
    found = [c for c in marks if unicodedata.name(c).startswith(f"{script} ")]
    return [c for c in found if c not in "\u17b4\u17b5"]  # inherent vowels of Khmer: unseen


@pytest.mark.parametrize(
    ("language", "letter", "least"),
    [
        *((code, "क", 30) for code in ("hi", "mr", "ne", "sa", "sd")),
        ("bn", "ক", 20), ("as", "ক", 20), ("pa", "ਕ", 17), ("gu", "ક", 20), ("ta", "க", 14),
        ("te", "క", 20), ("kn", "ಕ", 18), ("ml", "ക", 20), ("si", "ක", 19), ("th", "ก", 15),
        ("lo", "ກ", 15), ("km", "ក", 28), ("my", "က", 40), ("bo", "ཀ", 60), ("yi", "א", 20),
        ("am", "ሀ", 3),
    ],
)  # fmt: skip
def test_every_sign_of_a_script_makes_another_word(language, letter, least):
    found = signs(letter)
    assert len(found) >= least
    forms = Counter(normalise(f"{letter}{sign}{letter}", language) for sign in ["", *found])
    assert max(forms.values()) == 1, forms.most_common(3)


def test_signs_are_counted_with_their_letters_and_never_as_letters():
    assert letters("हूँ", "hi") == 1 and letters("น้ำ", "th") == 2 and letters("Été 12", "fr") == 5


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("zh", "我喜欢 iPhone 7。", "我 喜 欢 i p h o n e 7"),
        ("ja", "今日は、ガ", "今 日 は ガ"),
        ("th", "ที่นี่", "ที่ นี่"),
        ("th", "น้ำ", "น้ำ"),
        ("lo", "ນ້ຳ", "ນ້ຳ"),
        ("my", "ကို", "ကို"),
        ("km", "ស្រី", "ស្រី"),
        ("vi", "tiếng Việt", "tiếng việt"),
    ],
)
def test_letters_are_words_where_there_are_no_spaces(language, text, expected):
    assert compared(text, language) == expected.split()


# Letters that have no mark of their own once composed, and what stands between words; without a
# capital sigma, of which the neighbours decide what it is in lower case, and without fractions,
# which stand apart from a number here.
PLAIN = "aZé ñß Œ łØ čŘů ÿ Щёй ЇўЖ Αάσς .,!?'’-«»…()[]<>{}@%$&*№ \t"


@given(st.text(st.sampled_from(PLAIN), max_size=30), st.sampled_from(["en", "cs", "ru", "el"]))
def test_letters_without_marks_are_compared_as_by_openai_whisper(text, language):
    assert normalise(text, language) == BasicTextNormalizer()(text).strip()


@given(st.text(st.sampled_from("我喜欢喝茶。，ガかな abc1"), max_size=20))
def test_letters_are_those_of_openai_whisper(text):
    assert compared(text, "ja") == BasicTextNormalizer(split_letters=True)(text).split()


@given(st.text(max_size=20), st.sampled_from(EVERY))
def test_any_text(text, language):
    assume("\x00" not in text)
    once = normalise(text, language)
    assert normalise(once, language) == once
    assert normalise(unicodedata.normalize("NFD", text), language) == once


# What the tables of two encodings are about, and what stands beside it.
TWINS = {
    *"".join(_DO_NOT_USE), *"' กผาำ\u0e31\u0e34\u0e35\u0e38\u0e39\u0e47\u0e48\u0e49\u0e4d",
    *"ກາ\u0eb5\u0eb8\u0ec8\u0ecd\u0eb2ក\u17bb\u17c6½1™يیكک\u0654گئ",
}  # fmt: skip


@given(st.text(st.sampled_from(sorted(TWINS)), max_size=8), st.sampled_from(EVERY))
@example("ກ\u0ec8\u0eb5\u0e38", "ka")  # a tone that is moved meets a mark that NFC puts before it
@example("6\u0e4d'\u0e32", "th")  # what becomes one letter, apart until the quote goes
def test_any_text_of_twins(text, language):
    once = normalise(text, language)
    assert normalise(once, language) == once
    assert normalise(unicodedata.normalize("NFD", text), language) == once


def test_lower_case_is_the_languages():
    assert lower("I İ ı i", "tr") == "ı i ı i"
    assert lower("I İ i\u0307 Σας", "en") == "i i i σας"
