"""Text as it is compared: by its spelling, in every language of Whisper (docs/scoring.md).

Case, punctuation and symbols say nothing; letters, the marks that belong to them, and digits do.
What is left besides is how a text is encoded: two encodings of one spelling become the same.
"""

import unicodedata

import regex

from espnet_dq.whisper.encoding import SPACELESS

# Where letters count as words. Khmer has spaces between phrases only, as Thai, Lao and Burmese do.
LETTERS_AS_WORDS = SPACELESS | {"km"}

# What openai-whisper removes with all that is in it, here of any width.
_BRACKETS = regex.compile(r"[<\[＜［][^>\]＞］]*[>\]＞］]")
_PARENTHESES = regex.compile(r"[(（][^)）]+[)）]")
# Letters that a joiner made before Unicode had them: without it, they would be other letters.
_JOINED = {
    "ണ്\u200d": "ൺ", "ന്\u200d": "ൻ", "ര്\u200d": "ർ", "ല്\u200d": "ൽ", "ള്\u200d": "ൾ",
    "ക്\u200d": "ൿ", "ত্\u200d": "ৎ",
}  # fmt: skip
# Sequences that look like a letter of their own, which Unicode's chapters on these scripts tell
# writers not to use: independent vowels with a vowel sign; Khmer vowels, and a sign before a vowel,
# in parts; Malayalam's nta with a chillu.
_DO_NOT_USE = {
    "अा": "आ", "र्इ": "ई", "उु": "ऊ", "एॅ": "ऍ", "एॆ": "ऎ", "एे": "ऐ", "अॉ": "ऑ", "आॅ": "ऑ",
    "अॊ": "ऒ", "आॆ": "ऒ", "अो": "ओ", "आे": "ओ", "अौ": "औ", "आै": "औ", "अॅ": "ॲ",
    "অা": "আ", "ঋৃ": "ৠ", "ਅਾ": "ਆ", "ੲਿ": "ਇ", "ੲੀ": "ਈ", "ੳੁ": "ਉ", "ੳੂ": "ਊ", "ੲੇ": "ਏ",
    "ਅੈ": "ਐ", "ਅੌ": "ਔ",
    "અા": "આ", "અૅ": "ઍ", "અે": "એ", "અૈ": "ઐ", "અૉ": "ઑ", "આૅ": "ઑ", "અો": "ઓ", "આે": "ઓ",
    "અૌ": "ઔ", "આૈ": "ઔ",
    "ഇൗ": "ഈ", "ഉൗ": "ഊ", "എെ": "ഐ", "ഒാ": "ഓ", "ഒൗ": "ഔ", "ൻ്റ": "ന്റ",
    "අා": "ආ", "අැ": "ඇ", "අෑ": "ඈ",
    "\u17c1\u17b8": "\u17be", "\u17c1\u17b6": "\u17c4",
}  # fmt: skip
# Marks on one consonant in any order, which NFC leaves as they are: vowels come before the tone
# marks of Thai and Lao, and before Khmer's nikahit.
_BEHIND = frozenset("\u0e48\u0e49\u0e4a\u0e4b\u0ec8\u0ec9\u0eca\u0ecb\u17c6")
_MARKS = regex.compile(
    r"[\u0e31\u0e34-\u0e37\u0e47-\u0e4b]{2,}|[\u0eb1\u0eb4-\u0eb7\u0ebb\u0ec8-\u0ecb]{2,}|[\u17bb\u17c6]{2,}"
)
_FRACTION = regex.compile(r"(?<=\p{N})(?=[\u00bc-\u00be\u2150-\u215f\u2189])")  # 1½ is 1 1/2
_NAME_SIGNS = regex.compile(r"[™℠]")  # which NFKC makes letters of the word before
# Joiners, soft hyphens, marks of direction and their like have no sound and no shape.
_UNSEEN = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}]")
_OPTIONAL = regex.compile(
    r"[\u064b-\u0652\u0656-\u065f\u0670\u0610-\u061a\u06d6-\u06ed\u08ca-\u08ff]"  # Arabic vowels
    r"|\u0640"  # lengthens a line, no letter
    r"|(?<=\p{Cyrillic}\p{M}*)[\u0300\u0301]"  # stress; й, ё, ї, ў, ѓ, ќ are letters by now
    r"|\p{Me}"
    r"|[\u055b\u055c\u055e\u055f]"  # Armenian ՛ ՜ ՞ ՟ stand within a word
)
_NIQQUD = regex.compile(r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\ufb1e]")
# Neither letter nor number, with the marks on it; and letters that stand for an apostrophe.
_BETWEEN = regex.compile(r"(?:[^\p{L}\p{N}\p{M}]|[ʹʻʼʽʾʿˈˮꞋꞌ]|^)\p{M}*")
_DOTTED_TWICE = regex.compile(r"(?<=\p{Soft_Dotted})\u0307")  # i with a dot above is an i
_AM = regex.compile(r"\u0e4d([\u0e48-\u0e4b]?)\u0e32|\u0ecd([\u0ec8-\u0ecb]?)\u0eb2")
# Two encodings of one letter that NFKC keeps apart, by language.
_TWINS = {
    "fa": {"ي": "ی", "ى": "ی", "ك": "ک", "ۀ": "ه\u0654", "ی\u0654": "ئ"},
    "ur": {"ي": "ی", "ى": "ی", "ك": "ک", "ه": "ہ", "ۀ": "ۂ", "ی\u0654": "ئ"},
    "ps": {"ك": "ک", "گ": "ګ", "ی\u0654": "ئ"},
    "ar": {"ک": "ك", "ی": "ي"},
    "ro": {"ş": "ș", "ţ": "ț"},
    "hy": {"եւ": "եվ"},  # և, whose capital is Եվ
    "yi": {"װ": "וו", "ױ": "וי", "ײ": "יי"},
    "th": {"เเ": "แ"},
    "lo": {"ເເ": "ແ"},
}


def normalise(text: str, language: str) -> str:
    """A text as it is compared: words with one space between them, lower case.

    In languages of `LETTERS_AS_WORDS` there is no space. Normalised text stays as it is when it is
    normalised again. For example `normalise("Мёд -- (beep) да!", "ru")`: `мёд да`.

    Args:
        language: Whisper's code.
    """
    text = unicodedata.normalize("NFC", text)
    for old, new in _JOINED.items():
        text = text.replace(old, new)
    text = _UNSEEN.sub("", _PARENTHESES.sub("", _BRACKETS.sub("", text)))
    text = _FRACTION.sub(" ", _NAME_SIGNS.sub(" ", text))
    text = _OPTIONAL.sub("", unicodedata.normalize("NFKC", text))
    if language != "yi":  # where the marks are vowels of the spelling
        text = _NIQQUD.sub("", text)
    text = lower(_BETWEEN.sub(" ", text), language)
    for old, new in _TWINS.get(language, {}).items():
        text = text.replace(old, new)
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    if language in LETTERS_AS_WORDS:  # before what is composed of two that now stand together
        text = "".join(text.split())
    text = _AM.sub(_with_am, unicodedata.normalize("NFKC", text))
    text = _MARKS.sub(lambda run: "".join(sorted(run[0], key=_BEHIND.__contains__)), text)
    text = unicodedata.normalize("NFC", text)  # with the marks that now stand beside them
    for old, new in _DO_NOT_USE.items():
        text = text.replace(old, new)
    return ("" if language in LETTERS_AS_WORDS else " ").join(text.split())


def words(text: str, language: str) -> list[str]:
    """The words of a text; in languages of `LETTERS_AS_WORDS` its letters, with their marks.

    A letter is a grapheme cluster (UAX 29), as in openai-whisper's `split_letters`.
    """
    if language in LETTERS_AS_WORDS:
        return regex.findall(r"\X", "".join(text.split()))
    return text.split()


def compared(text: str, language: str) -> list[str]:
    """The words of a text as they are compared."""
    return words(normalise(text, language), language)


def letters(text: str, language: str) -> int:
    """How many letters and digits a text has that are compared, marks not counted."""
    return len(regex.findall(r"[^\p{M} ]", normalise(text, language)))


def lower(text: str, language: str) -> str:
    """Lower case as the language has it; not case folding: `ß` and `ss` are two spellings.

    Turkish and Azerbaijani have `I` and `ı`, `İ` and `i`. An `i` that `str.lower` gave a second
    dot, as it does to `İ`, has one.
    """
    text = unicodedata.normalize("NFC", text).replace("İ", "i")
    if language in ("tr", "az"):
        text = text.replace("I", "ı")
    return unicodedata.normalize("NFC", _DOTTED_TWICE.sub("", text.lower()))


def _with_am(match: regex.Match) -> str:
    """SARA AM of Thai and Lao, which NFKC takes apart, behind its tone mark."""
    return f"{match[1]}\u0e33" if match[2] is None else f"{match[2]}\u0eb3"
