"""Utterances that no model learns speech from, as far as samples and letters can tell.

The rules are made for whole corpora, so they are wide of real speech: what they find is no use,
but what they pass may still be (noise without a word, the text of another clip, speech whose file
names a wrong, lower rate). For that there is a teacher who listens (`labels.py`).

Where the limits come from: the absolute gate of ITU-R BS.1770 for silence; for the others, distance
from 2649 prompts in five languages (the default corpus), of which the extremes are given with each.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.sayable import too_much
from espnet_dq.data.spelling import normalise

SILENCE = "silence"
CLIPPED = "clipped"
NOT_SPEECH = "not speech"
SPECIAL = "special token in text"
SCRIPT = "text in another script"
TOO_MUCH = "more text than can be said in its time"

GATE = 10 ** (-70 / 20)  # -70 dB of full scale
NEAR, FLAT = 0.7, 0.25  # 3 dB below the loudest; the share of samples above that
FRAME = SAMPLE_RATE // 10  # samples
EDGE = 2  # frames that are kept around a sound, which may begin or end below the gate
FEW = 10  # Latin letters: a name or an acronym, which stand in texts of all languages

# What the languages of Whisper are written in, as the names of Unicode's letters begin; those that
# have several scripts today, in one country or another, have all of them. Not judged: Sanskrit,
# which is written in any.
_WRITTEN = {
    "LATIN": "af az bs br ca cs cy da de en es et eu fi fo fr gl ha haw hr ht hu id is it jw kk la "
    "lb ln lt lv mg mi ms mt nl nn no oc pl pt ro sk sl sn so sq sr su sv sw tk tl tr tt uz vi yo",
    "CYRILLIC": "az ba be bg bs kk mk mn ro ru sr tg tk tt uk uz",
    "ARABIC": "ar az fa ha jw kk ms pa ps sd so sw tg tk ur uz",
    "HEBREW": "he yi",
    "GREEK": "el",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "ETHIOPIC": "am",
    "DEVANAGARI": "hi mr ne sd",
    "BENGALI": "as bn",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "TIBETAN": "bo",
    "MONGOLIAN": "mn",
    "CJK": "ja ko yue zh",
    "BOPOMOFO": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
}


def sound_fault(blocks: Iterable[np.ndarray]) -> tuple[int, str | None]:
    """How many samples audio has, and `SILENCE` or `CLIPPED` if that is all there is to it.

    Silence never leaves a range of 70 dB below full scale about its middle: that is where BS.1770
    takes sound for silence. Of clipped audio more than a quarter of the samples lie within 3 dB of
    its loudest hundredth, whatever that loudness is, so that resampling or a codec after the
    clipping hide nothing. That is what 20 dB of overdrive do to speech; clean prompts have 0.18 at
    most, Gaussian noise 0.07, a steady tone 0.5.

    Args:
        blocks: (samples,) float32 in [-1, 1], as `read_audio` gives them; each must be so, thus in
            a long file ten seconds of speech suffice.
    """
    samples, fault = 0, None
    for block in blocks:
        if fault or not samples:
            found = _block_fault(block)
            fault = found if found == fault or not samples else None
        samples += len(block)
    return samples, fault


def _block_fault(block: np.ndarray) -> str | None:
    if (block.max() - block.min()) / 2 < GATE:
        return SILENCE
    size = np.abs(block - block.mean())
    return CLIPPED if np.mean(size >= NEAR * np.quantile(size, 0.99)) > FLAT else None


def sounding(audio: np.ndarray) -> tuple[int, int]:
    """Where what rises above `GATE` begins, and where it ends, in samples; (0, 0): nothing does.

    Each tenth of a second is judged by itself, as `sound_fault` judges a block.

    Args:
        audio: (samples,) float32 in [-1, 1] at 16 kHz.
    """
    (loud,) = np.nonzero(_loud(audio))
    if not len(loud):
        return 0, 0
    first, last = int(loud[0]), int(loud[-1])
    return max(first - EDGE, 0) * FRAME, min((last + 1 + EDGE) * FRAME, len(audio))


def sounding_seconds(audio: np.ndarray) -> float:
    """How long something rises above `GATE`; `EDGE` around each sound is of it, as in `sounding`.

    Args:
        audio: (samples,) float32 in [-1, 1] at 16 kHz.
    """
    loud = np.convolve(_loud(audio), np.ones(2 * EDGE + 1), "same") > 0
    return min(int(loud.sum()) * FRAME, len(audio)) / SAMPLE_RATE


def _loud(audio: np.ndarray) -> np.ndarray:
    """Which tenths of a second rise above `GATE`, each judged by itself."""
    frames = np.pad(audio, (0, -len(audio) % FRAME), mode="edge").reshape(-1, FRAME)
    return (frames.max(axis=1) - frames.min(axis=1)) / 2 >= GATE


def text_fault(text: str, language: str, samples: int) -> str | None:
    """Why a text cannot be what is said in so many samples of 16 kHz, or None.

    `NOT_SPEECH`: nothing that is compared remains of it, as of dots and of remarks in brackets (an
    empty text is none, as where the teacher is to write it). `SPECIAL`: marks like `<|en|>` are the
    model's own, and no tokenizer takes them for text. `SCRIPT`: none of the letters is of those
    that the language is written in (see `_WRITTEN`), unless the text is but a few Latin ones.
    `TOO_MUCH`: nobody says so much in that time (`espnet_dq.data.sayable`). That is also what a
    file shows whose header names too high a sampling rate.
    """
    if has_special_token(text):
        return SPECIAL
    if _other_script(text, language):
        return SCRIPT
    if text and not normalise(text, language):
        return NOT_SPEECH
    seconds = samples / SAMPLE_RATE
    # What stands in brackets is not said, but few texts need that look.
    much = too_much(text, seconds) and too_much(normalise(text, language), seconds)
    return TOO_MUCH if much else None


def has_special_token(text: str) -> bool:
    """Whether there is a mark of the form of Whisper's special tokens in a text."""
    return re.search(r"<\|[^<>|]+\|>", text) is not None


@cache
def _scripts(language: str) -> frozenset[str]:
    return frozenset(script for script, of in _WRITTEN.items() if language in of.split())


@cache
def _script(character: str) -> str | None:
    """The script of a letter; None for other characters and for scripts of no language here."""
    script = unicodedata.name(character, "").partition(" ")[0]
    return script if character.isalpha() and script in _WRITTEN else None


def _other_script(text: str, language: str) -> bool:
    own = _scripts(language)
    if not own:
        return False
    # Full-width letters, ordinal signs and the like count as what they stand for.
    found = [_script(c) for c in unicodedata.normalize("NFKC", text)]
    other = [script for script in found if script and script not in own]
    if not other or own.intersection(found):
        return False
    return len(other) >= FEW or set(other) != {"LATIN"}
