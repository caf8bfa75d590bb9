#!/usr/bin/env python3
"""speechocean762 (OpenSLR 101): English of 250 people whose first language is Mandarin.

{train,test}/{wav.scp,text,utt2spk}, with paths below the corpus's folder. It has no dev: that is
one speaker in ten of its train, by the MD5 of the speaker's name. Its scores of pronunciation are
not read. Writes OUT/{train,dev,test} and OUT/report.json.
"""

from pathlib import Path

from espnet_dq.data.kaldi import read_scp
from espnet_dq.data.listing import NO_AUDIO, OUTSIDE, Listing, inside, parser, write_listing
from espnet_dq.data.splits import split_of
from espnet_dq.data.summary import Source
from espnet_dq.errors import InputError, run

SOURCE = Source("speechocean762", "free, also commercially (its README)")


def add_split(listing: Listing, name: str, root: Path) -> None:
    """Add the utterances of its train or test.

    Raises:
        InputError: A table is missing or broken, or does not name an utterance's speaker.
    """
    folder = root / name
    texts, speakers = read_scp(folder / "text"), read_scp(folder / "utt2spk")
    clips = read_scp(folder / "wav.scp")
    for utt, text in texts.items():
        where = f"{folder / 'text'}: {utt}"
        if utt not in speakers:
            raise InputError(f"{folder / 'utt2spk'}: no speaker for utterance {utt}")
        speaker = speakers[utt]
        if utt not in clips:
            listing.skip("en", NO_AUDIO, where)
        elif (clip := inside(root, clips[utt])) is None:
            listing.skip("en", OUTSIDE, where)
        else:
            split = "dev" if name == "train" and split_of(speaker) == "dev" else name
            listing.add(split, f"{speaker}-{utt}", "en", speaker, text, clip, where)


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    args = parser(__doc__).parse_args(argv)
    listing = Listing(source=SOURCE)
    for name in ("train", "test"):
        add_split(listing, name, args.data_root)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
