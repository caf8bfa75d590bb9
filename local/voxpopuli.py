#!/usr/bin/env python3
"""VoxPopuli's transcribed speech: transcribed_data/LANGUAGE/asr_{train,dev,test}.tsv and
LANGUAGE/YEAR/ID.ogg, as its own `get_asr_data` leaves them.

The text is `raw_text`, with capitals and punctuation, or `normalized_text` where that is empty.
Accented English (en_accented) has a test set only and is not taken unless --languages names it.
Writes OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from espnet_dq.data.listing import (
    Listing,
    language_folders,
    parser,
    write_listing,
)
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import rows
from espnet_dq.errors import run

SOURCE = Source(
    "VoxPopuli",
    "CC0-1.0; of the recordings see also the European Parliament's legal notice",
)
ACCENTED = "en_accented"
COLUMNS = ("id", "raw_text", "normalized_text", "speaker_id")


def add_language(listing: Listing, folder: Path, name: str, lang: str | None) -> None:
    """Add the tables of a language, or count their rows if Whisper does not know it.

    Raises:
        InputError: A table is missing or has not the columns.
    """
    for split in SPLITS:
        table = rows(folder / f"asr_{split}.tsv", needed=COLUMNS)
        for where, row, clip in listing.clips(
            table, name, lang, lambda row: (folder, f"{row['id'][:4]}/{row['id']}.ogg")
        ):
            known = row["speaker_id"] not in ("", "None")
            speaker = f"{name}-{row['speaker_id']}" if known else None
            utt = f"{speaker or name}-{row['id']}"
            text = row["raw_text"].strip() or row["normalized_text"]
            listing.add(split, utt, lang, speaker, text, clip, where)


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    languages = args.languages, args.language_tokens
    listing = Listing(source=SOURCE)
    inner = args.data_root / "transcribed_data"
    root = inner if inner.is_dir() else args.data_root
    named = (args.languages or "").split(",")
    for folder, name, lang in language_folders(root, "asr_test.tsv", *languages):
        if name != ACCENTED or ACCENTED in named:  # `en` would take it, too
            add_language(listing, folder, name, lang)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
