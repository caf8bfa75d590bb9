"""Write the three splits of a corpus and say what is in them, and whose they are."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_dq.data.kaldi import FOLDER, KaldiDir
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, WorkError, say
from espnet_dq.files import atomic, check_replaceable, write_text
from espnet_dq.formats import json_file

SOURCES = "sources.json"


@dataclass(frozen=True)
class Source:
    """What a corpus is called, and the licence that its makers give it."""

    name: str
    licence: str


def write_sources(path: Path, sources: Collection[Source]) -> None:
    """Write a list of corpora as JSON: of `{"name", "licence"}`, empty where nobody knows."""
    with atomic(path) as tmp:
        text = json.dumps([asdict(source) for source in sources], indent=1, ensure_ascii=False)
        tmp.write_text(text + "\n", encoding="utf-8")


def read_sources(path: Path) -> list[Source]:
    """What `write_sources` wrote.

    Raises:
        InputError: No such file, or another JSON: names the line, or the corpus and the key.
    """
    listed = json_file.read(path)
    if not isinstance(listed, list):
        raise InputError(f"{path}: not a list of corpora")
    sources = []
    for number, source in enumerate(listed):
        of = source if isinstance(source, dict) else {}
        for key in ("name", "licence"):
            if not isinstance(of.get(key), str):
                raise InputError(f"{path}: [{number}]: '{key}' is missing or not a text")
        sources.append(Source(of["name"], of["licence"]))
    return sources


def summarise(splits: dict[str, KaldiDir], left_out: dict[str, Counter[str]]) -> dict[str, dict]:
    """Per language: utterances in each split, minutes, and what was left out and why.

    Args:
        splits: Split -> its data, with `utt2dur` (seconds) among the extra tables, unless it has
            commands, which tell no length before they are run.
        left_out: Language -> reason -> count.

    Returns:
        `{lang: {"train": n, "dev": n, "test": n, "minutes": x, "left_out": {reason: n}}}`;
        without "minutes" where not all lengths are known.
    """
    counts: dict[str, Counter[str]] = {lang: Counter() for lang in left_out}
    seconds: Counter[str] = Counter()
    unknown = set()
    for split, data in splits.items():
        for utt, lang in data.utt2lang.items():
            counts.setdefault(lang, Counter())[split] += 1
            if "utt2dur" in data.extra:
                seconds[lang] += float(data.extra["utt2dur"][utt])
            else:
                unknown.add(lang)
    return {
        lang: {split: counts[lang][split] for split in splits}
        | ({} if lang in unknown else {"minutes": round(seconds[lang] / 60, 2)})
        | {"left_out": dict(sorted(left_out.get(lang, {}).items()))}
        for lang in sorted(counts)
    }


def write_splits(
    out: Path,
    splits: dict[str, KaldiDir],
    left_out: dict[str, Counter[str]],
    allow_pipes: bool = False,
    untranscribed: Collection[str] = (),
    sources: Collection[Source] = (),
) -> dict[str, dict]:
    """Write `out/SPLIT` for each split, check them, write and print `out/report.json`.

    `out/sources.json` says which corpora they are of, for report and model card.

    `splits` is emptied on the way: what is checked is read again, and two copies of millions of
    utterances are one too many. The splits in `untranscribed` have no texts.

    Raises:
        WorkError: A split has no utterance.
        InputError: A written folder does not hold up to `validate`, or it would take the place
            of one that is no Kaldi folder.
    """
    for name, data in splits.items():
        if not data.wav:
            why = dict(sum(left_out.values(), Counter()).most_common(3))
            raise WorkError(f"{out / name}: no utterance for this split; left out: {why or 'none'}")
        check_replaceable(out / name, FOLDER)
    rows, names = summarise(splits, left_out), list(splits)
    for name in names:
        splits.pop(name).save(out / name)
        validate(out / name, allow_pipes, text="none" if name in untranscribed else "needed")
    write_text(out / "report.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    write_sources(out / SOURCES, sources)
    for lang, row in rows.items():
        counts = ", ".join(f"{name} {row[name]}" for name in names)
        say(f"{lang}: {counts}; {row.get('minutes', 'unknown')} min")
        for reason, count in row["left_out"].items():
            say(f"    left out {count}: {reason}")
    return rows
