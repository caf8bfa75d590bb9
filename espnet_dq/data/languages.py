"""Whisper's language codes for the names that corpora and users give to languages."""

import re
from collections.abc import Collection, Mapping
from functools import cache

from espnet_dq.errors import InputError

UNKNOWN_LANGUAGE = "not a language of Whisper"
# Where Whisper's code is not the first part of a name.
SPECIAL = {
    "fil": "tl",
    "nb": "no",
    "jv": "jw",  # Whisper keeps an old code for Javanese
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "mo": "ro",
    "farsi": "fa",
    "filipino": "tl",
    "bangla": "bn",
    "bokmal": "no",
    "bokm\u00e5l": "no",
    "norwegian nynorsk": "nn",
    "latin american spanish": "es",
}
# ISO 639-3, the members of its macrolanguages that corpora name, and, where they differ, the
# bibliographic codes of 639-2.
ISO = """
    afr:af amh:am ara:ar arb:ar asm:as aze:az azj:az bak:ba bel:be bul:bg ben:bn bod:bo tib:bo
    bre:br bos:bs cat:ca ces:cs cze:cs cym:cy wel:cy dan:da deu:de ger:de ell:el gre:el eng:en
    spa:es est:et ekk:et eus:eu baq:eu fas:fa per:fa pes:fa prs:fa fin:fi fao:fo fra:fr fre:fr
    glg:gl guj:gu hau:ha haw:haw heb:he hin:hi hrv:hr hat:ht hun:hu hye:hy arm:hy ind:id isl:is
    ice:is ita:it jpn:ja jav:jw kat:ka geo:ka kaz:kk khm:km kan:kn kor:ko lat:la ltz:lb lin:ln
    lao:lo lit:lt lav:lv lvs:lv mlg:mg plt:mg mri:mi mao:mi mkd:mk mac:mk mal:ml mon:mn khk:mn
    mar:mr msa:ms may:ms zsm:ms zlm:ms mlt:mt mya:my bur:my nep:ne npi:ne nld:nl dut:nl nno:nn
    nor:no nob:no oci:oc pan:pa pol:pl pus:ps pbt:ps pbu:ps pst:ps por:pt ron:ro rum:ro mol:ro
    rus:ru san:sa snd:sd sin:si slk:sk slo:sk slv:sl sna:sn som:so sqi:sq alb:sq als:sq srp:sr
    sun:su swe:sv swa:sw swh:sw tam:ta tel:te tgk:tg tha:th tuk:tk tgl:tl tur:tr tat:tt ukr:uk
    urd:ur uzb:uz uzn:uz vie:vi yid:yi ydd:yi yor:yo yue:yue zho:zh chi:zh cmn:zh
"""
# Chinese languages that Whisper does not know, as they stand behind "zh" or "Chinese".
CHINESE = frozenset({"cdo", "cjy", "cpx", "czh", "czo", "gan", "hak", "hsn", "min", "mnp", "nan"})
CHINESE |= {"wuu", "lzh", "wu", "jin", "xiang", "hakka", "hokkien", "taiwanese", "teochew"}
CHINESE |= {"minnan", "shanghainese", "classical", "literary"}
# Cantonese, or where it is what Common Voice means by zh-HK.
CANTONESE = frozenset({"yue", "cantonese", "hk", "hong", "hongkong", "mo", "macau", "macao"})


@cache
def _names() -> dict[str, str]:
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE  # imports torch

    iso = dict(pair.split(":") for pair in ISO.split())
    return iso | TO_LANGUAGE_CODE | {code: code for code in LANGUAGES} | SPECIAL


def whisper_code(name: str) -> str | None:
    """Whisper's code for a language's name, or None if Whisper does not know it.

    Args:
        name: A code of ISO 639 or a locale, with or without a country or script ("sv-SE", "deu",
            "cmn_hans_cn", "zh-Hant-HK", "pt_BR.UTF-8"), or an English name ("german", "Mandarin").

    Example usage::

        whisper_code("zh-CN"), whisper_code("german"), whisper_code("ga-IE")  # zh, de, None
    """
    parts = _parts(name)
    if parts[0] in ("zh", "zho", "chi", "chinese"):
        if CHINESE.intersection(parts[1:]):
            return None
        return "yue" if CANTONESE.intersection(parts[1:]) else "zh"
    places = [part for part in parts[1:] if len(part) in (2, 3)]
    for tried in (" ".join(parts), "-".join([parts[0], *places[:1]]), parts[0]):
        if code := _names().get(tried):
            return code
    return None


def _parts(name: str) -> list[str]:
    return re.split(r"[-_.@(\s]+", name.strip().lower().rstrip(")"))


def known_language(name: str, known: Collection[str] | None = None) -> str:
    """Whisper's code for the language that --language names, one of a model's languages if told.

    Raises:
        InputError: There is none.
    """
    code = name if known and name in known else whisper_code(name)
    if code is None and known is None:
        raise InputError(f"--language {name}: {UNKNOWN_LANGUAGE}")
    if code is None or (known is not None and code not in known):
        raise InputError(f"--language {name}: the model knows no such language")
    return code


def language_tokens(text: str) -> dict[str, str]:
    """Languages that Whisper does not know -> the one whose token they take.

    Args:
        text: As --language_tokens has it, "ast=es,ckb_iq=fa": a corpus's names of them, with or
            without a country, and names that `whisper_code` knows.

    Raises:
        InputError: It is no such list, or Whisper knows the language by a token of its own.
    """
    tokens: dict[str, str] = {}
    for pair in text.split(","):
        name, _, other = (part.strip() for part in pair.partition("="))
        code, own = whisper_code(other), whisper_code(name)
        if not name or code is None:
            raise InputError(f"--language_tokens {pair}: not NAME=LANGUAGE, one of Whisper's")
        if own:
            raise InputError(f"--language_tokens {pair}: Whisper knows it as {own}")
        if tokens.setdefault(name, code) != code:
            raise InputError(f"--language_tokens {pair}: {name} stands twice")
    return tokens


def corpus_language(name: str, tokens: Mapping[str, str]) -> str | None:
    """`whisper_code`, or the one of `language_tokens` for a language that has none."""
    through = (code for wanted, code in tokens.items() if is_named(name, wanted))
    return whisper_code(name) or next(through, None)


def is_named(name: str, wanted: str) -> bool:
    """Whether a corpus's name of a language is the wanted one, with or without its country."""
    return wanted in (name, _parts(name)[0])
