#!/usr/bin/env python3
"""A file of paths and texts: .csv, .tsv or .jsonl; or recordings with a text beside each.

Columns have the names that people give them, such as Common Voice, Hugging Face's audiofolder and
NeMo's manifests, whose `offset` and `duration` make a segment (see `times`). Paths are relative to
the file, or absolute. Without a column of splits, train, dev and test are made: by speaker where
three or more are known, else by text. Writes OUT/{train,dev,test}, OUT/report.json and
OUT/left_out.tsv.
"""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.languages import (
    NO_LANGUAGE,
    UNKNOWN_LANGUAGE,
    known_language,
    whisper_code,
)
from espnet_dq.data.listing import (
    BROKEN_ROW,
    NO_AUDIO,
    NO_TRANSCRIPT,
    OUTSIDE,
    Listing,
    beside,
    inside,
    parser,
    short,
    write_listing,
)
from espnet_dq.data.segments import Segment, to_seconds
from espnet_dq.data.splits import SHARES, SPLITS, named_split, shares
from espnet_dq.data.tables import read
from espnet_dq.errors import InputError, run, say
from espnet_dq.reading import read_text

# In a folder that --data_root names.
TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "manifest.jsonl", "manifest.json")
# What a column is for -> its usual names.
COLUMNS = {
    "audio": ("audio", "path", "file_name", "audio_filepath", "wav", "filename"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
}
# Of parts of recordings, in seconds; see `times`.
OFFSET, START, DURATION, END = "offset", "start", "duration", "end"
WHOLE = "all"  # what is not split yet
NO_SPLIT = "in none of train, dev and test"
TWO_RECORDINGS = "one text of two recordings"
LONGEST = 40  # letters of a speaker's or a file's name in an id


def columns(path: Path, args: Namespace) -> dict[str, str | None]:
    """What a column is for -> its name in the file, or None; prints them.

    Raises:
        InputError: There is none for audio or text, or none for the language and no --language, or
            several could be meant.
    """
    there, broken = {}, ""
    for where, row in read(path):
        there |= dict.fromkeys(row or ())  # objects may have different keys
        broken = broken or ("" if row else f": {where}")
    if not there:
        raise InputError(f"{path}: no row that can be read{broken}")
    found = {}
    for use, usual in COLUMNS.items():
        given = getattr(args, f"{use}_column")
        these = [given] if given else [x for x in there if x.strip().lower() in usual]
        if given and given not in there:
            raise InputError(f"{path}: no column '{given}' (it has {', '.join(there)})")
        if len(these) > 1:
            raise InputError(f"{path}: {' and '.join(these)}: say which, with --{use}_column")
        found[use] = these[0] if these else None
    if args.language:
        found["language"] = None
    for use in ("audio", "text", *(() if args.language else ("language",))):
        if found[use] is None:
            how = f"--{use}_column" + (" or --language" if use == "language" else "")
            what = f"no column for {use} ({', '.join(COLUMNS[use])}): name it with {how}"
            raise InputError(f"{path}: {what}; it has {', '.join(there)}")
    if args.split:
        found["split"] = None
    found |= times(path, there, found["audio"])
    shown = [f"{use} {name}" for use, name in found.items() if name]
    if args.language:
        shown.append(f"language as --language {args.language}")
    say(f"{path}: columns: {', '.join(shown)}")
    return found


def times(path: Path, there: Iterable[str], audio: str | None) -> dict[str, str | None]:
    """Which columns say what part of a recording a row is.

    `start` does so only beside `end` or `duration`, and where a file has rows with different ones:
    tables of clips that are cut already often keep where they were, and may name a clip twice.

    Raises:
        InputError: Two columns are called the same.
    """
    found: dict[str, str | None] = dict.fromkeys((OFFSET, DURATION, END))
    for use in (OFFSET, START, DURATION, END):
        these = [name for name in there if name.strip().lower() == use]
        if len(these) > 1:
            raise InputError(f"{path}: {' and '.join(these)}: rename one")
        found[use] = these[0] if these else None
    start = found.pop(START)
    if not found[OFFSET] and start and (found[END] or found[DURATION]):
        found[OFFSET] = start if _in_parts(path, audio, start) else None
    # A duration alone is that of the file.
    return found if found[OFFSET] else dict.fromkeys(found)


def _in_parts(path: Path, audio: str, start: str) -> bool:
    """Whether one file has rows that start at different times."""
    first: dict[str, float] = {}
    for _, row in read(path):
        try:
            name, at = str(row[audio]).strip(), to_seconds(_text(row[start]))
        except (
            AttributeError,
            KeyError,
            ValueError,
        ):  # a broken row, or without the one or the other
            continue
        if first.setdefault(name, at) != at:
            return True
    return False


@dataclass(frozen=True)
class Row:
    """A row of a file, its values as text; empty where there is none."""

    audio: str
    text: str
    language: str
    speaker: str
    split: str
    offset: str  # seconds
    duration: str
    end: str

    @classmethod
    def of(cls, row: dict, columns: dict[str, str | None]) -> "Row | None":
        """The row; None if a value in it is neither a text nor a number."""
        values = {use: _text(row.get(name)) if name else "" for use, name in columns.items()}
        # Of a text more is made later.
        return None if None in values.values() else cls(**{k: v.strip() for k, v in values.items()})

    def segment(self, recording: str) -> Segment | None:
        """The part of the recording that it is; None: all.

        Raises:
            ValueError: Times that make no sense.
        """
        if not self.offset:
            return None
        end = -1.0
        if self.duration:
            end = to_seconds(self.offset) + to_seconds(self.duration)
        elif self.end:
            end = to_seconds(self.end)
        if (self.duration or self.end) and end <= to_seconds(self.offset):
            raise ValueError(f"no duration: {self.duration or self.end}")
        return Segment.parse(f"{recording} {self.offset} {end}")


def _text(value: object) -> str | None:
    if value is None or value != value:  # pandas writes NaN where there is nothing
        return ""
    good = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) if good else None


def recording_id(path: str) -> str:
    """A name of an audio file that is the same wherever it lies, and another for another path."""
    return f"{re.sub(r'[^\w.-]+', '_', PurePosixPath(path).stem)[:LONGEST]}-{short(path)[:8]}"


def place(folder: Path, name: str) -> Path | None:
    """The audio file that a row names; None: a path out of the folder.

    Where there is no such file, also with Windows' separators as ours, and with accents composed
    or decomposed, as file systems differ in it.
    """
    ours = name.replace("\\", "/")
    forms = dict.fromkeys((name, ours, *(normalize(x, ours) for x in ("NFC", "NFD"))))
    found = [Path(x) if os.path.isabs(x) else inside(folder, x) for x in forms]
    there = (x for x in found if x is not None and os.path.lexists(x))
    return next(there, None if None in found else found[0])


def add(
    listing: Listing, where: str, row: Row, folder: Path, language: str | None, split: str | None
) -> None:
    """Add a row, or count why not."""
    lang = language or (whisper_code(row.language) if row.language else None)
    audio = place(folder, row.audio)
    if lang is None and not row.language:
        listing.skip("unknown", NO_LANGUAGE, where)
    elif lang is None:
        listing.skip(row.language, UNKNOWN_LANGUAGE, f"{where}: {row.language}")
    elif not row.audio:
        listing.skip(lang, NO_AUDIO, where)
    elif audio is None:
        listing.skip(lang, OUTSIDE, where)
    elif split is None:
        listing.skip(lang, NO_SPLIT, f"{where}: {row.split}")
    else:
        name = recording_id(row.audio)
        try:
            part = row.segment(name)
        except ValueError as e:
            listing.skip(lang, BROKEN_ROW, f"{where}: {e}")
            return
        speaker = re.sub(r"\s+", "_", row.speaker.strip())
        speaker = short(speaker) if len(speaker) > LONGEST else speaker
        times = f"-{part.start:.3f}" + (f"-{part.end:.3f}" if part.end else "") if part else ""
        utt = "-".join(filter(None, (speaker, name + times)))
        listing.add(split, utt, lang, speaker or None, row.text, audio, where, part)


def read_table(path: Path, args: Namespace) -> Listing:
    """The rows of a file; in `WHOLE` where no column says the split.

    Raises:
        InputError: See `columns`, or the column of splits has no row of one.
    """
    found = columns(path, args)
    language = known_language(args.language) if args.language else None
    listing = Listing({name: KaldiDir() for name in (SPLITS if found["split"] else (WHOLE,))})
    seen = set()
    for where, content in read(path):
        row = None if content is None else Row.of(content, found)
        if row is None:
            where = where if content is None else f"{where}: a value is neither text nor a number"
            listing.skip(language or "unknown", BROKEN_ROW, where)
            continue
        split = named_split(row.split) if found["split"] else WHOLE
        seen.add(split)
        add(listing, where, row, path.parent, language, split)
    missing = [name for name in listing.splits if name not in seen]
    if missing and found["split"]:
        why = f"no row of {missing[0]} in the column {found['split']}"
        raise InputError(f"{path}: {why}; --split 80/10/10 makes all three anew")
    return listing


def read_folder(folder: Path, language: str | None) -> Listing:
    """Recordings with texts of the same names beside them.

    Raises:
        InputError: There are none, or nobody says the language.
    """
    pairs = list(beside(folder))
    if not any(text and recordings for text, recordings in pairs):
        tables = ", ".join(TABLES)
        raise InputError(f"--data_root {folder}: no {tables}, and no recordings with .txt beside")
    if language is None:
        raise InputError(f"--data_root {folder}: recordings with texts: say their --language")
    lang = known_language(language)
    say(f"{folder}: recordings and texts of the same names; language as --language {language}")
    listing = Listing({WHOLE: KaldiDir()})
    for text, recordings in pairs:
        if text is None:
            for path in recordings:
                listing.skip(lang, NO_TRANSCRIPT, path)
        elif len(recordings) != 1:
            listing.skip(lang, TWO_RECORDINGS if recordings else NO_AUDIO, text)
        else:
            try:
                said = read_text(text).removeprefix("\ufeff")
            except InputError as e:
                listing.skip(lang, BROKEN_ROW, e)
                continue
            name = recordings[0].name
            listing.add(WHOLE, recording_id(name), lang, None, said, recordings[0], text)
    return listing


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    options: ArgumentParser = parser(__doc__)
    for use, usual in COLUMNS.items():
        options.add_argument(f"--{use}_column", help=f"(default: {', '.join(usual)})")
    options.add_argument("--language", help="the language of all")
    options.add_argument(
        "--split", type=shares, help="shares of train, dev and test, whatever a column says"
    )
    args = options.parse_args(argv)
    root = args.data_root
    if not (root.is_file() or root.is_dir()):
        raise InputError(f"--data_root {root}: no such file or folder")
    for use, value in (("split", args.split), ("language", args.language)):
        if value and getattr(args, f"{use}_column"):
            raise InputError(f"--{use} and --{use}_column: one of them")
    tables = [root / name for name in TABLES if (root / name).is_file()]
    if len(tables) > 1:
        raise InputError(f"--data_root {root}: {' and '.join(x.name for x in tables)}: name one")
    if root.is_dir() and not tables:
        listing = read_folder(root, args.language)
    else:
        listing = read_table(tables[0] if tables else root, args)
    if WHOLE in listing.splits:
        listing.shares = args.split or SHARES
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
