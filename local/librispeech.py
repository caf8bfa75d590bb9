#!/usr/bin/env python3
"""LibriSpeech: {train,dev,test}-*/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt and *.flac.

All parts that are there are taken: train-clean-100, train-other-500 and so on are train. Writes
OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.listing import (
    BROKEN_ROW,
    NO_TRANSCRIPT,
    OUTSIDE,
    Listing,
    inside,
    parser,
    write_listing,
)
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import lines
from espnet_dq.errors import InputError, run

SOURCE = Source("LibriSpeech", "CC-BY-4.0")


def add_chapter(listing: Listing, split: str, table: Path) -> None:
    """Add the utterances of a chapter, lines `ID TEXT`."""
    clips = {path.stem: path for path in table.parent.glob("*.flac")}
    for where, line in lines(table):
        utt, _, text = (line or "").partition(" ")
        if not utt:
            listing.skip("en", BROKEN_ROW, where)
        elif (clip := inside(table.parent, f"{utt}.flac")) is None:
            listing.skip("en", OUTSIDE, where)
        else:
            clips.pop(utt, None)
            listing.add(split, utt, "en", utt.partition("-")[0], text, clip, where)
    for path in clips.values():
        listing.skip("en", NO_TRANSCRIPT, path)


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    args = parser(__doc__).parse_args(argv)
    inner = args.data_root / "LibriSpeech"
    root = inner if inner.is_dir() else args.data_root
    listing = Listing(source=SOURCE)
    for split in SPLITS:
        tables = sorted(root.glob(f"{split}-*/*/*/*.trans.txt"))
        if not tables:
            raise InputError(f"--data_root {root}: no {split}-*/SPEAKER/CHAPTER/*.trans.txt in it")
        for table in tqdm(tables, desc=split, unit="chapter"):
            add_chapter(listing, split, table)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
