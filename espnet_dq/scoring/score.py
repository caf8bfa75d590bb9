"""Error rates of a decode folder, by language: jiwer's rates and sclite's tables.

Both sides are compared by their spelling (`espnet_dq.data.spelling`, docs/scoring.md). Beside these
rates stand others, by name: `openai`, after openai-whisper's `BasicTextNormalizer`, which takes
marks for spaces; `unnormalised`, of the text as written, with its case, punctuation and numbers;
`long`, of the utterances whose reference, as written, has `LONG` or more characters. In languages
without spaces letters count as words (openai-whisper does the same, but for Khmer), and spaces are
no characters.
"""

import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import jiwer
from tqdm import tqdm
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.data.kaldi import read_scp
from espnet_dq.data.languages import OWN_LANGUAGES, codes
from espnet_dq.data.spelling import LETTERS_AS_WORDS, normalise, words
from espnet_dq.errors import InputError, WorkError, one_line, shown
from espnet_dq.files import Folder, atomic
from espnet_dq.reading import read_json
from espnet_dq.scoring import sclite, table
from espnet_dq.scoring.align import Row, align
from espnet_dq.scoring.details import alignments, details
from espnet_dq.scoring.trn import Pair, write_trn
from espnet_dq.whisper.encoding import SPACELESS

FOLDER = Folder(
    "score",
    ("score.json", *(f"score_?er/{name}" for name in
                     ("ref.trn", "hyp.trn", "result.txt", "result.pra", "result.dtl"))),
)  # fmt: skip
LONG = 15  # characters of the reference as written
MEAN = "mean"  # the unweighted mean over languages
UNITS = ("word", "letter")  # what WER counts
MAIN_RATES = ("wer", "cer", "wer_openai", "cer_openai")  # what benchmarks keep
# Of the tables where sclite is not installed; jiwer's alignment counts otherwise, see align.py.
TOOL = "own alignment with sclite's weights"


@dataclass(frozen=True)
class Utterance:
    """One scored utterance: its language and the raw and normalised text of both sides."""

    utt: str
    lang: str
    ref: str
    hyp: str
    raw_ref: str
    raw_hyp: str

    @classmethod
    def of(cls, utt: str, lang: str, ref: str, hyp: str) -> "Utterance":
        """An utterance from its two texts as written."""
        return cls(utt, lang, normalise(ref, lang), normalise(hyp, lang), ref, hyp)

    def tokens(self, chars: bool) -> tuple[list[str], list[str]]:
        """What is counted of both sides: characters or words."""
        ref, hyp = (list(x) if chars else words(x, self.lang) for x in (self.ref, self.hyp))
        return ref, hyp

    @property
    def is_long(self) -> bool:
        return len(self.raw_ref) >= LONG


@dataclass(frozen=True)
class Texts:
    """What is scored, sorted by language and id, and what is not."""

    utterances: list[Utterance]
    missing: list[str]  # without a hypothesis: scored as empty
    left_out: Counter[str]  # by language: references that normalise to nothing


@cache
def _normalizer(split_letters: bool) -> BasicTextNormalizer:
    return BasicTextNormalizer(split_letters=split_letters)


def openai(text: str, language: str) -> str:
    """A text as openai-whisper compares it, without the spaces that it leaves at the ends."""
    return _normalizer(language in SPACELESS)(text).strip()


def _as_written(text: str, _: str) -> str:
    return text


def read_texts(ref_dir: Path, hyp_dir: Path) -> Texts:
    """Pair the references of a Kaldi folder with the hypotheses of a decode folder.

    Languages are Whisper's, and those that the model has beside them, as decode.json says.

    Raises:
        InputError: a broken file, a hypothesis without a reference, a reference without a
            language, or nothing left to score.
    """
    ref = read_scp(ref_dir / "text")
    known = _own_languages(hyp_dir / "decode.json")
    lang = codes(read_scp(ref_dir / "utt2lang"), ref_dir / "utt2lang", known)
    hyp = read_scp(hyp_dir / "text", empty=True)
    for utt in hyp:
        if utt not in ref:
            raise InputError(f"{hyp_dir / 'text'}: utterance {utt} is not in {ref_dir / 'text'}")
    utterances, left_out = [], Counter()
    for utt, raw_ref in ref.items():
        if utt not in lang:
            raise InputError(f"{ref_dir / 'utt2lang'}: no language for utterance {utt}")
        utterance = Utterance.of(utt, lang[utt], raw_ref, hyp.get(utt, ""))
        if utterance.ref:
            utterances.append(utterance)
        else:
            left_out[lang[utt]] += 1
    if not utterances:
        raise InputError(f"{ref_dir / 'text'}: no reference left to score")
    utterances.sort(key=lambda u: (u.lang, u.utt))
    return Texts(utterances, [u.utt for u in utterances if u.utt not in hyp], left_out)


def _own_languages(path: Path) -> list[str]:
    try:
        found = read_json(path).get(OWN_LANGUAGES)
    except InputError:  # texts that another program has decoded
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def pair_texts(refs: Sequence[str], hyps: Sequence[str], lang: str) -> Texts:
    """Pair texts of one language, as written; raises `InputError` as `read_texts`."""
    for side, texts in (("ref", refs), ("hyp", hyps)):
        odd = [n for n, text in enumerate(texts) if not isinstance(text, str)]
        if odd:
            raise InputError(f"{side}: {shown(texts[odd[0]])}, number {odd[0]}, is no text")
    if len(refs) != len(hyps):
        raise InputError(f"{len(refs)} references, but {len(hyps)} hypotheses")
    pairs = enumerate(zip(refs, hyps, strict=True))
    utterances = [Utterance.of(f"{n:09d}", lang, ref, hyp) for n, (ref, hyp) in pairs]
    kept = [u for u in utterances if u.ref]
    if not kept:
        raise InputError("no reference left to score")
    return Texts(kept, [], Counter({lang: len(utterances) - len(kept)}))


Form = Callable[[str, str], str]


def _sides(utts: list[Utterance], form: Form | None, lang: str) -> tuple[list[str], list[str]]:
    """References and hypotheses of a language's utterances in a form; None: by spelling."""
    if form is None:
        return [u.ref for u in utts], [u.hyp for u in utts]
    return [form(u.raw_ref, lang) for u in utts], [form(u.raw_hyp, lang) for u in utts]


def _words(utts: list[Utterance], form: Form | None, lang: str) -> jiwer.WordOutput:
    split = str.split if form is openai else lambda text: words(text, lang)
    ref, hyp = ([" ".join(split(t)) for t in side] for side in _sides(utts, form, lang))
    return jiwer.process_words(ref, hyp)


def _chars(utts: list[Utterance], form: Form | None, lang: str) -> jiwer.CharacterOutput:
    ref, hyp = _sides(utts, form, lang)
    if lang in LETTERS_AS_WORDS:
        ref, hyp = (["".join(t.split()) for t in side] for side in (ref, hyp))
    return jiwer.process_characters(ref, hyp)


def rates(texts: Texts) -> dict:
    """WER and CER in percent by language and their unweighted mean, and jiwer's counts.

    `unit` says for each language what WER counts, and so what is in the mean. A language without a
    long utterance has None for its long rates and is not in their mean.
    """
    forms = {"_openai": openai, "_unnormalised": _as_written, "_long": None}
    names = [f"{rate}{form}" for form in ("", *forms) for rate in ("wer", "cer")]
    missing = {*texts.missing}
    result: dict = {name: {} for name in names}
    result["unit"] = {}
    result["counts"] = counts = {}
    for lang in sorted({u.lang for u in texts.utterances}):
        utts = [u for u in texts.utterances if u.lang == lang]
        longs = [u for u in utts if u.is_long]
        heard, chars = _words(utts, None, lang), _chars(utts, None, lang)
        result["wer"][lang], result["cer"][lang] = 100 * heard.wer, 100 * chars.cer
        for name, form in forms.items():
            part = longs if name == "_long" else utts
            result[f"wer{name}"][lang] = 100 * _words(part, form, lang).wer if part else None
            result[f"cer{name}"][lang] = 100 * _chars(part, form, lang).cer if part else None
        result["unit"][lang] = UNITS[lang in LETTERS_AS_WORDS]
        counts[lang] = {
            "utterances": len(utts),
            "long_utterances": len(longs),
            "missing": sum(u.utt in missing for u in utts),
            "left_out": texts.left_out[lang],
            "ref_words": heard.hits + heard.substitutions + heard.deletions,
            "hits": heard.hits,
            "sub": heard.substitutions,
            "del": heard.deletions,
            "ins": heard.insertions,
            "ref_chars": chars.hits + chars.substitutions + chars.deletions,
            "char_hits": chars.hits,
            "char_sub": chars.substitutions,
            "char_del": chars.deletions,
            "char_ins": chars.insertions,
        }
    for name in names:
        known = [v for v in result[name].values() if v is not None]
        result[name][MEAN] = fmean(known) if known else None
    return result


def error_table(out: Path, texts: Texts, chars: bool, program: Path | None) -> dict[str, Row]:
    """Write both `.trn` files and `result.{txt,pra,dtl}` to `out`; return the counts by language.

    Args:
        chars: a table of characters (CER) instead of words.
        program: sclite, or None to make the same files here.

    Raises:
        WorkError: sclite did not count every utterance and token that it was given.
    """
    out.mkdir(parents=True)
    pairs = [Pair(u.lang, u.utt, *u.tokens(chars)) for u in texts.utterances]
    for side in ("ref", "hyp"):
        write_trn(out / f"{side}.trn", pairs, side, chars)
    if program:
        result = sclite.run(program, out)
    else:
        shown = tqdm(pairs, desc=one_line(out.name), unit="utt", disable=None)
        made = "hyp.trn", pairs, [align(pair.ref, pair.hyp) for pair in shown], chars
        result = table.render(*made)
        for end, content in (("pra", alignments(*made)), ("dtl", details(*made))):
            (out / f"result.{end}").write_text(content, encoding="utf-8")
    (out / "result.txt").write_text(result, encoding="utf-8")
    rows = table.parse(result)
    # sclite drops what it cannot read and still ends with 0.
    expected = (len(pairs), sum(len(p.ref) for p in pairs))
    found = rows.get(table.ALL, Row())
    if (found.snt, found.wrd) != expected:
        raise WorkError(
            f"{out.name}: sclite counted {found.snt} utterances and {found.wrd} tokens "
            f"of {expected[0]} and {expected[1]}"
        )
    return rows


def score(ref_dir: Path, hyp_dir: Path, out: Path, program: Path | None) -> dict:
    """Score a decode folder, write the folder `out` whole or not at all, return its JSON.

    Args:
        ref_dir: Kaldi folder with `text` and `utt2lang`.
        hyp_dir: decode folder with `text`.
        out: gets score.json, score_wer/ and score_cer/ (ref.trn, hyp.trn,
            result.txt, result.pra, result.dtl).
        program: sclite, or None where there is none: the tables are then made here.
    """
    texts = read_texts(ref_dir, hyp_dir)
    made = "the tables are made here, with its weights"
    if not program:
        logging.warning("sclite is not installed: %s", made)
    else:
        each = ((u.utt, sclite.refusal(u.tokens(False), u.tokens(True))) for u in texts.utterances)
        if why := next((f"{utt} {reason}" for utt, reason in each if reason), None):
            logging.warning("%s: %s: %s", out, why, made)
            program = None
    tool = sclite.version(program) if program else TOOL
    result = rates(texts)
    with atomic(out, FOLDER) as tmp:
        tables = {
            name: error_table(tmp / f"score_{name}", texts, name == "cer", program)
            for name in ("wer", "cer")
        }
        result |= {
            "table": {k: {n: asdict(r) for n, r in rows.items()} for k, rows in tables.items()},
            "missing": len(texts.missing),
            "left_out": sum(texts.left_out.values()),
            "long": f"{LONG} or more characters of reference text as written",
            "normalizer": f"by spelling (docs/scoring.md), Unicode {unicodedata.unidata_version}, "
            f"regex {version('regex')}, both sides",
            "normalizer_openai": f"openai-whisper {version('openai-whisper')} BasicTextNormalizer, "
            f"split_letters for {' '.join(sorted(SPACELESS))}, both sides",
            "rates": f"jiwer {version('jiwer')}",
            "tool": tool,
            "ref": str(ref_dir),
            "hyp": str(hyp_dir),
        }
        text = json.dumps(result, indent=2, ensure_ascii=False)
        (tmp / "score.json").write_text(text + "\n", encoding="utf-8")
    return result
