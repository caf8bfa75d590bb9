#!/usr/bin/env python3
"""Mozilla Common Voice: LANGUAGE/{train,dev,test}.tsv and LANGUAGE/clips/*.mp3, many languages.

The other tables (validated, invalidated, other, reported) are not read: the three are what the
corpus's makers split off the validated clips. Writes OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from espnet_dq.data.listing import (
    BROKEN_ROW,
    OUTSIDE,
    UNKNOWN_LANGUAGE,
    Listing,
    inside,
    language_folders,
    parser,
    rows,
    short,
    write_listing,
)
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import run


def add_language(listing: Listing, folder: Path, name: str, lang: str | None) -> None:
    """Add the three tables of a language, or count their rows if Whisper does not know it.

    Raises:
        InputError: A table is missing or has no column for the clip, its text or its speaker.
    """
    for split in SPLITS:
        table = folder / f"{split}.tsv"
        for where, row in rows(table, needed=("client_id", "path", "sentence")):
            if lang is None:
                listing.skip(name, UNKNOWN_LANGUAGE, where)
            elif row is None:
                listing.skip(lang, BROKEN_ROW, where)
            elif (clip := inside(folder / "clips", row["path"])) is None:
                listing.skip(lang, OUTSIDE, where)
            else:
                speaker = f"{name}-{short(row['client_id'])}" if row["client_id"] else None
                utt = f"{speaker or name}-{clip.stem}"
                listing.add(split, utt, lang, speaker, row["sentence"], clip, where)


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    listing = Listing()
    for language in language_folders(args.data_root, "train.tsv", args.languages):
        add_language(listing, *language)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
