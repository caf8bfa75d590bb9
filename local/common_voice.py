#!/usr/bin/env python3
"""Mozilla Common Voice: LANGUAGE/{train,dev,test}.tsv and LANGUAGE/clips/*.mp3, many languages.

The other tables (validated, invalidated, other, reported) are not read: the three are what the
corpus's makers split off the validated clips. Writes OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from espnet_dq.data.listing import Listing, language_folders, parser, short, write_listing
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import rows, unquoted
from espnet_dq.errors import run

SOURCE = Source("Mozilla Common Voice", "CC0-1.0")


def add_language(listing: Listing, folder: Path, name: str, lang: str | None) -> None:
    """Add the three tables of a language, or count their rows if Whisper does not know it.

    Raises:
        InputError: A table is missing or has no column for the clip, its text or its speaker.
    """
    for split in SPLITS:
        table = rows(folder / f"{split}.tsv", needed=("client_id", "path", "sentence"))
        for where, row, clip in listing.clips(
            table, name, lang, lambda row: (folder / "clips", row["path"])
        ):
            speaker = f"{name}-{short(row['client_id'])}" if row["client_id"] else None
            utt = f"{speaker or name}-{clip.stem}"
            listing.add(split, utt, lang, speaker, unquoted(row["sentence"].strip()), clip, where)


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    languages = args.languages, args.language_tokens
    listing = Listing(source=SOURCE)
    for language in language_folders(args.data_root, "train.tsv", *languages):
        add_language(listing, *language)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
