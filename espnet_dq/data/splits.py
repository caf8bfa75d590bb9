"""Which prompt is in train, dev or test: by its name, the same in each language and run.

The first 16 hex digits of the MD5 of the prompt's name, as an integer, modulo 10: 0 is test,
1 is dev, the rest train. Then no sentence may stand in two splits of its language: where one
normalised text has prompts in more than one, all of its prompts go to train.

`divide` splits what a user has, which knows no prompts: by speaker, or by text.
"""

import hashlib
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment, runs
from espnet_dq.data.spelling import normalise
from espnet_dq.errors import InputError, say

SPLITS = ("train", "dev", "test")
SHARES = (80, 10, 10)  # of train, dev and test
# What others call them.
NAMES = {"train": "train", "training": "train", "tr": "train"}
NAMES |= dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development", "cv"), "dev")
NAMES |= dict.fromkeys(("test", "testing", "eval", "evaluation", "tt"), "test")


def named_split(name: str) -> str | None:
    """The split that a file's, a folder's or a column's name for one begins with."""
    return NAMES.get(re.split(r"[-_.]", name.strip().lower())[0])


def shares(text: str) -> tuple[int, int, int]:
    """What `--split` says, "80/10/10": the shares of train, dev and test.

    Raises:
        InputError: It is something else.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text)
    if not found:
        raise InputError(f"--split {text}: not three whole numbers above 0, as in 80/10/10")
    train, dev, test = map(int, found.groups())
    return train, dev, test


def divide(data: KaldiDir, of: tuple[int, int, int] = SHARES) -> dict[str, KaldiDir]:
    """Train, dev and test of utterances that have no splits; prints how they were made.

    No speaker is in two of them where three or more are known; else, and for utterances whose
    speaker is not known (who then has the utterance's name), no normalised text of a language is.
    A speaker or a text has a place from 0 to 1 by the SHA-256 of its name, and `of` says where dev
    and test begin. So each stays in its split when utterances are added, as long as no split
    would be empty: the last ones by their places then fill it. What has sound in common with
    another one's, a file twice or parts of one, is in the same split.

    Raises:
        InputError: There are fewer than three speakers or texts.
    """
    known = {speaker for utt, speaker in data.utt2spk.items() if speaker != utt}
    groups: dict[tuple[str, ...], list[str]] = {}
    empty = []  # of which nothing is compared: no test of anything
    for utt, speaker in data.utt2spk.items():
        if len(known) >= len(SPLITS) and speaker != utt:
            key = ("speaker", speaker)
        else:
            lang = data.utt2lang[utt]
            key = ("text", lang, normalise(data.text[utt], lang))
            if not key[-1]:
                empty.append(utt)
                continue
        groups.setdefault(key, []).append(utt)
    _join(groups, data)
    kinds = " and ".join(sorted({key[0] for key in groups})) or "text"
    if len(groups) < len(SPLITS):
        count = f"{len(groups)} different {kinds}{'' if len(groups) == 1 else 's'}"
        raise InputError(f"--split: {count} cannot be in three splits")
    places = sorted((_place(key), key) for key in groups)
    starts = (of[0] / sum(of), (of[0] + of[1]) / sum(of))
    dev, test = (bisect_left(places, (start,)) for start in starts)
    test = min(max(test, 2), len(places) - 1)
    dev = min(max(dev, 1), test - 1)
    parts = {"train": places[:dev], "dev": places[dev:test], "test": places[test:]}
    splits = {
        name: data.select(utt for _, key in part for utt in groups[key])
        for name, part in parts.items()
    }
    splits["train"].update(data.select(empty))
    counts = ", ".join(f"{x} {len(parts[x])} ({len(splits[x].wav)} utterances)" for x in SPLITS)
    say(f"split {'/'.join(map(str, of))} by {kinds}: {counts}")
    for line in _odd(splits, of[0] / sum(of)):
        say(f"warning: {line}: a column or folders of your own say otherwise", sys.stderr)
    return splits


def _odd(splits: dict[str, KaldiDir], train: float) -> Iterator[str]:
    """What few speakers, of whom some say much, make of splits; `train` is the share wanted."""
    total = sum(len(data.wav) for data in splits.values())
    if (share := len(splits["train"].wav) / total) < train / 2:
        yield f"train has {share:.0%} of the utterances, not {train:.0%}"
    languages = {name: {*data.utt2lang.values()} for name, data in splits.items()}
    for name in SPLITS:
        if missing := set().union(*languages.values()) - languages[name]:
            yield f"{name} has nothing in {', '.join(sorted(missing))}"


def _join(groups: dict[tuple[str, ...], list[str]], data: KaldiDir) -> None:
    """Make one of the groups whose utterances have sound in common."""
    of = {utt: key for key, utts in groups.items() for utt in utts}
    files: dict[str, list[str]] = {}
    for utt in of:
        files.setdefault(data.wav[utt], []).append(utt)
    for utts in files.values():
        parts = [data.segments.get(utt, Segment(utt)) for utt in utts]
        for run in runs(parts) if len(utts) > 1 else ():
            first = min(of[utts[k]] for k in run)
            for key in {of[utts[k]] for k in run} - {first}:
                groups[first] += groups[key]
                of |= dict.fromkeys(groups.pop(key), first)


def _place(key: tuple[str, ...]) -> float:
    digest = hashlib.sha256("\n".join(("0", *key)).encode("utf-8")).hexdigest()
    return int(digest[:13], 16) / 16**13


def split_of(prompt: str) -> str:
    """Split of a prompt by its name alone, for example `split_of("digits/1")`."""
    digest = hashlib.md5(prompt.encode("utf-8"), usedforsecurity=False).hexdigest()
    return {0: "test", 1: "dev"}.get(int(digest[:16], 16) % 10, "train")


def assign(entries: Iterable[tuple[str, str, str]]) -> list[str]:
    """Splits of entries, such that a language's normalised text stands in one split only.

    The same text in two languages is no overlap: Spanish and Italian share words, and a
    model is told the language.

    Args:
        entries: (language, prompt, text) of each utterance.

    Returns:
        "train", "dev" or "test" for each entry, in order.

    Example usage::

        assign([("en", "digits/1", "one"), ("fr", "digits/1", "un")])
    """
    entries = [(lang, split_of(prompt), normalise(text, lang)) for lang, prompt, text in entries]
    seen: dict[tuple[str, str], set[str]] = {}
    for lang, split, text in entries:
        seen.setdefault((lang, text), set()).add(split)
    return [split if len(seen[lang, text]) == 1 else "train" for lang, split, text in entries]
