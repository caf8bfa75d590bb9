"""Whisper's language codes for the names that corpora and users give to languages."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from espnet_dq.errors import InputError, check_kind, shown

UNKNOWN_LANGUAGE = "not a language of Whisper"
NO_LANGUAGE = "no language"
OWN_LANGUAGES = "own_languages"  # in decode.json: those of the data that the model alone has
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
    "slovene": "sl",
    "cambodian": "km",
    "azeri": "az",
    "dari": "fa",
    "putonghua": "zh",
    "byelorussian": "be",
    "south african english": "en",
    # ISO 639-3's names of members of `ISO`
    "central khmer": "km",
    "halh mongolian": "mn",
    "north azerbaijani": "az",
    "northern uzbek": "uz",
    "plateau malagasy": "mg",
    "tosk albanian": "sq",
    "eastern yiddish": "yi",
}
# What its speakers call a language, as forms and file names have it.
OWN_NAMES = """
    afrikaans:af|አማርኛ:am|العربية:ar|عربي:ar|عربى:ar|অসমীয়া:as|azərbaycan:az|azərbaycan dili:az
    azərbaycanca:az|башҡорт:ba|башҡорт теле:ba|башҡортса:ba|беларуская:be|беларуская мова:be
    български:bg|български език:bg|বাংলা:bn|བོད་སྐད:bo|བོད་སྐད་:bo|brezhoneg:br|bosanski:bs
    català:ca|catalan:ca|čeština:cs|česky:cs|cymraeg:cy|dansk:da|deutsch:de|ελληνικά:el
    english:en|español:es|castellano:es|eesti:et|eesti keel:et|euskara:eu|euskera:eu|فارسی:fa
    پارسی:fa|دری:fa|suomi:fi|føroyskt:fo|français:fr|galego:gl|ગુજરાતી:gu|hausa:ha
    ʻōlelo hawaiʻi:haw|ʻōlelo hawai'i:haw|עברית:he|हिन्दी:hi|हिंदी:hi|hrvatski:hr
    kreyòl ayisyen:ht|kreyòl:ht|magyar:hu|հայերեն:hy|bahasa indonesia:id|íslenska:is|italiano:it
    日本語:ja|basa jawa:jw|ქართული:ka|қазақша:kk|қазақ тілі:kk|қазақ:kk|ខ្មែរ:km|ភាសាខ្មែរ:km
    ಕನ್ನಡ:kn|한국어:ko|조선말:ko|latina:la|lingua latina:la|lëtzebuergesch:lb|lingála:ln|ລາວ:lo
    ພາສາລາວ:lo|lietuvių:lt|lietuvių kalba:lt|latviešu:lv|latviešu valoda:lv|malagasy:mg
    te reo māori:mi|te reo:mi|māori:mi|македонски:mk|македонски јазик:mk|മലയാളം:ml|монгол:mn
    монгол хэл:mn|मराठी:mr|bahasa melayu:ms|bahasa malaysia:ms|melayu:ms|malti:mt|မြန်မာ:my
    မြန်မာဘာသာ:my|ဗမာစာ:my|नेपाली:ne|nederlands:nl|vlaams:nl|norsk nynorsk:nn|nynorsk:nn
    norsk:no|norsk bokmål:no|occitan:oc|ਪੰਜਾਬੀ:pa|polski:pl|język polski:pl|پښتو:ps|português:pt
    română:ro|limba română:ro|moldovenească:ro|русский:ru|русский язык:ru|संस्कृतम्:sa|سنڌي:sd
    සිංහල:si|slovenčina:sk|slovensky:sk|slovenščina:sl|chishona:sn|soomaali:so|af soomaali:so
    shqip:sq|српски:sr|srpski:sr|basa sunda:su|svenska:sv|kiswahili:sw|தமிழ்:ta|తెలుగు:te
    тоҷикӣ:tg|забони тоҷикӣ:tg|ไทย:th|ภาษาไทย:th|türkmençe:tk|türkmen dili:tk|tagalog:tl
    wikang filipino:tl|türkçe:tr|татарча:tt|татар теле:tt|татар:tt|українська:uk
    українська мова:uk|اردو:ur|oʻzbek:uz|o'zbek:uz|oʻzbekcha:uz|o'zbekcha:uz|oʻzbek tili:uz
    o'zbek tili:uz|ўзбек:uz|ўзбекча:uz|tiếng việt:vi|ייִדיש:yi|יידיש:yi|èdè yorùbá:yo|yorùbá:yo
    粵語:yue|粤语:yue|廣東話:yue|广东话:yue|中文:zh|汉语:zh|漢語:zh|普通话:zh|普通話:zh|国语:zh|國語:zh|华语:zh|華語:zh
    简体中文:zh|繁體中文:zh|繁体中文:zh
"""
# Before the English name of a language: where it is spoken, or which of its standards it is.
KINDS = """
    african algerian american argentinian australian austrian belgian brazilian british canadian
    castilian chilean colombian egyptian european gulf iberian indian iranian iraqi irish lebanese
    levantine libyan mexican modern moroccan omani peruvian saudi scottish simplified standard
    sudanese syrian traditional tunisian yemeni afghan
"""
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
    abv:ar acm:ar acq:ar acw:ar acx:ar adf:ar aeb:ar afb:ar ajp:ar apc:ar apd:ar arq:ar ars:ar
    ary:ar arz:ar auz:ar avl:ar ayh:ar ayl:ar ayn:ar ayp:ar pga:ar shu:ar ssh:ar
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
    own = (pair.split(":") for line in OWN_NAMES.split("\n") for pair in line.split("|") if pair)
    own = {" ".join(_parts(name)): code.strip() for name, code in own if name.strip()}
    return iso | own | TO_LANGUAGE_CODE | {code: code for code in LANGUAGES} | SPECIAL


def whisper_code(name: str) -> str | None:
    """Whisper's code for a language's name, or None if Whisper does not know it.

    Args:
        name: A code of ISO 639 or a locale, with or without a country or script ("sv-SE", "deu",
            "cmn_hans_cn", "zh-Hant-HK", "pt_BR.UTF-8"), an English name ("german", "Mandarin",
            "Brazilian Portuguese"), or the language's own ("Deutsch").

    Example usage::

        whisper_code("zh-CN"), whisper_code("german"), whisper_code("ga-IE")  # zh, de, None
    """
    parts = _parts(name)
    while len(parts) > 1 and parts[0] in KINDS.split() and " ".join(parts) not in _names():
        del parts[0]
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
    name = unicodedata.normalize("NFC", name.strip().lower().rstrip(")"))
    return re.split(r"[-_.@(\s]+", name)


def known_language(
    name: str, known: Collection[str] | None = None, option: str = "--language"
) -> str:
    """Whisper's code for the language that `option` names, one of a model's languages if told.

    Raises:
        InputError: There is none.
    """
    check_kind("language", name, str, "a language's name")
    code = name if known and name in known else whisper_code(name)
    if code is None and known is None:
        raise InputError(f"{option} {name}: {UNKNOWN_LANGUAGE}")
    if code is None or (known is not None and code not in known):
        raise InputError(f"{option} {name or repr(name)}: the model knows no such language")
    return code


def own_languages(names: Iterable[str]) -> list[str]:
    """Of these languages those that Whisper does not have, so only a model that was given them."""
    return sorted(name for name in {*names} if whisper_code(name) is None)


def codes(
    languages: Mapping[str, str], source: object, known: Collection[str] = ()
) -> dict[str, str]:
    """Whisper's code of each utterance's language, by any name of it, as of a folder's `utt2lang`.

    Args:
        languages: By utterance.
        source: What an error names.
        known: Names that stay as they are: what a model calls its languages.

    Raises:
        InputError: Whisper knows none of a name.
    """
    found = {name: name for name in known}
    for utt, name in languages.items():
        if name not in found:
            found[name] = whisper_code(name) if name else None
        if found[name] is None:
            raise InputError(f"{source}: '{utt}': {shown(name)}: {UNKNOWN_LANGUAGE}")
    return {utt: found[name] for utt, name in languages.items()}


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
