#!/usr/bin/env python3
"""AISHELL-1: data_aishell/transcript/aishell_transcript_v0.8.txt and wav/{train,dev,test}/S*/*.wav.

The speakers' archives in `wav` must be unpacked. The spaces between the words of the transcripts
are their makers', not written Chinese: they are taken out, as ESPnet's recipe does. Writes
OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from espnet_dq.data.faults import NO_AUDIO
from espnet_dq.data.listing import BROKEN_ROW, NO_TRANSCRIPT, TWICE, Listing, parser, write_listing
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import Source
from espnet_dq.data.tables import lines
from espnet_dq.errors import InputError, run

SOURCE = Source("AISHELL-1", "Apache-2.0")


def read_transcripts(listing: Listing, table: Path) -> dict[str, tuple[str, str]]:
    """Clip -> (file and line, text) of the lines `CLIP WORD WORD ...`."""
    texts: dict[str, tuple[str, str]] = {}
    for where, line in lines(table):
        name, *words = (line or "").split() or [""]
        if not name or name in texts:
            listing.skip("zh", TWICE if name else BROKEN_ROW, where)
        else:
            texts[name] = where, "".join(words)
    return texts


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    args = parser(__doc__).parse_args(argv)
    inner = args.data_root / "data_aishell"
    root = inner if inner.is_dir() else args.data_root
    listing = Listing(source=SOURCE)
    texts = read_transcripts(listing, root / "transcript/aishell_transcript_v0.8.txt")
    for split in SPLITS:
        clips = sorted((root / "wav" / split).glob("*/*.wav"))
        if not clips:
            raise InputError(f"{root / 'wav' / split}: no SPEAKER/*.wav in it")
        for clip in clips:
            where, text = texts.pop(clip.stem, (None, ""))
            if where is None:
                listing.skip("zh", NO_TRANSCRIPT, clip)
            else:
                speaker = clip.parent.name
                listing.add(split, f"{speaker}-{clip.stem}", "zh", speaker, text, clip, where)
    for where, _ in texts.values():
        listing.skip("zh", NO_AUDIO, where)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
