#!/usr/bin/env python3
"""FLEURS: LANGUAGE/{train,dev,test}.tsv and LANGUAGE/audio/{train,dev,test}/*.wav.

The audio may still be packed, as LANGUAGE/audio/{train,dev,test}.tar.gz: it is then unpacked
into OUT/unpacked. The text is the raw transcription, with capitals and punctuation. FLEURS names
no speakers. Writes OUT/{train,dev,test} and OUT/report.json.
"""

from functools import partial
from pathlib import Path

from espnet_dq.data.listing import Listing, language_folders, parser, unpack, write_listing
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import rows
from espnet_dq.errors import run

SOURCE = Source("FLEURS", "CC-BY-4.0")
COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "letters", "samples", "gender")


def add_language(listing: Listing, folder: Path, name: str, lang: str | None, out: Path) -> None:
    """Add the three tables of a language, or count their rows if Whisper does not know it.

    Raises:
        InputError: A table is missing, or a packed file is broken.
    """
    for split in SPLITS:
        audio = folder / "audio" / split
        packed = audio.with_name(f"{split}.tar.gz")
        if lang and not audio.is_dir() and packed.is_file():
            audio = unpack(packed, out / "unpacked" / name / split)
        table = rows(folder / f"{split}.tsv", COLUMNS)
        place = partial(_place, audio)
        for where, row, clip in listing.clips(table, name, lang, place):
            utt, text = f"{name}-{clip.stem}", row["raw_transcription"]
            listing.add(split, utt, lang, None, text, clip, where)


def _place(audio: Path, row: dict[str, str]) -> tuple[Path, str]:
    return audio, row["file_name"]


def main(argv: list[str] | None = None) -> int:
    """Write the splits of all languages."""
    args = parser(__doc__, languages=True).parse_args(argv)
    languages = args.languages, args.language_tokens
    listing = Listing(source=SOURCE)
    inner = args.data_root / "data"
    root = inner if inner.is_dir() else args.data_root
    for language in language_folders(root, "train.tsv", *languages):
        add_language(listing, *language, args.out)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
