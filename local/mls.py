#!/usr/bin/env python3
"""Multilingual LibriSpeech: mls_LANGUAGE/{train,dev,test}/transcripts.txt and
audio/SPEAKER/BOOK/SPEAKER_BOOK_NUMBER.flac (or .opus, in mls_LANGUAGE_opus).

`limited_supervision` is not looked at: it is a part of train. Writes OUT/{train,dev,test} and
OUT/report.json.
"""

import re
from pathlib import Path

from espnet_dq.data.listing import (
    BROKEN_ROW,
    UNKNOWN_LANGUAGE,
    Listing,
    language_folders,
    parser,
    write_listing,
)
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import rows
from espnet_dq.errors import run

SOURCE = Source("Multilingual LibriSpeech", "CC-BY-4.0")


def add_language(listing: Listing, folder: Path, name: str, lang: str | None) -> None:
    """Add the three splits of a language, or count their rows if Whisper does not know it.

    Raises:
        InputError: A split has no transcripts.txt.
    """
    suffix = ".opus" if name.endswith("_opus") else ".flac"
    for split in SPLITS:
        table = folder / split / "transcripts.txt"
        for where, row in rows(table, ("id", "text")):
            if lang is None:
                listing.skip(name, UNKNOWN_LANGUAGE, where)
            elif row is None or not (found := re.fullmatch(r"(\w+)_(\w+)_\w+", row["id"])):
                listing.skip(lang, BROKEN_ROW, where)
            else:
                clip = folder / split / "audio" / found[1] / found[2] / f"{row['id']}{suffix}"
                utt = f"{name}-{row['id']}"
                listing.add(split, utt, lang, f"{name}-{found[1]}", row["text"], clip, where)


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    languages = args.languages, args.language_tokens
    listing = Listing(source=SOURCE)
    mark = "train/transcripts.txt"
    for language in language_folders(args.data_root, mark, *languages, prefix="mls_"):
        add_language(listing, *language)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
