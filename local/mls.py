#!/usr/bin/env python3
"""Multilingual LibriSpeech: mls_LANGUAGE/{train,dev,test}/transcripts.txt and
audio/SPEAKER/BOOK/SPEAKER_BOOK_NUMBER.flac (or .opus, in mls_LANGUAGE_opus; where both are there,
each utterance is taken once).

`limited_supervision` is not looked at: it is a part of train. Writes OUT/{train,dev,test} and
OUT/report.json.
"""

import re
from collections.abc import Sequence
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

OPUS = "_opus"
SOURCE = Source("Multilingual LibriSpeech", "CC-BY-4.0")


def add_language(listing: Listing, folders: Sequence[Path], name: str, lang: str | None) -> None:
    """Add the three splits of a language, or count their rows if Whisper does not know it.

    Args:
        listing: What is added to.
        folders: One, or two that have the same clips in flac and in opus. A row is taken once, from
            the first table that has it, with the first clip that is there.
        name: The corpus's, of the language.
        lang: Whisper's code.

    Raises:
        InputError: A split has no transcripts.txt.
    """
    for split in SPLITS:
        taken: set[str] = set()  # of folders before
        for folder in folders:
            here = set()
            for where, row in rows(folder / split / "transcripts.txt", ("id", "text")):
                if lang is None:
                    listing.skip(name, UNKNOWN_LANGUAGE, where)
                elif row is None or not (found := re.fullmatch(r"(\w+)_(\w+)_\w+", row["id"])):
                    listing.skip(lang, BROKEN_ROW, where)
                elif row["id"] not in taken:
                    clips = [
                        x / split / "audio" / found[1] / found[2] / f"{row['id']}{_suffix(x)}"
                        for x in (folder, *folders)
                    ]
                    clip = next((clip for clip in clips if clip.is_file()), clips[0])
                    utt, speaker = f"{name}-{row['id']}", f"{name}-{found[1]}"
                    listing.add(split, utt, lang, speaker, row["text"], clip, where)
                    here.add(row["id"])
            taken |= here


def _suffix(folder: Path) -> str:
    return ".opus" if folder.name.endswith(OPUS) else ".flac"


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    languages = args.languages, args.language_tokens
    listing = Listing(source=SOURCE)
    mark = "train/transcripts.txt"
    known: dict[str, tuple[list[Path], str | None]] = {}
    for folder, name, lang in language_folders(args.data_root, mark, *languages, prefix="mls_"):
        known.setdefault(name.removesuffix(OPUS), ([], lang))[0].append(folder)
    for name, (folders, lang) in known.items():
        add_language(listing, folders, name, lang)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
