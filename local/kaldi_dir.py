#!/usr/bin/env python3
"""A user's own Kaldi folders: checked, and copied with absolute audio paths.

One folder alone is split into the three (--split). `segments` are kept (stage 2 cuts them), and so
are commands in `wav.scp` with --allow_pipes (stage 2 runs them); other files of a folder are not
looked at. Utterances without text, or whose audio's header cannot be read, are left out. Of audio
that nobody has transcribed, train and dev can be made (--untranscribed), to be labelled by the
teacher after stage 2 (`bin.pseudo_label`). Writes OUT/{train,dev,test}, OUT/report.json and
OUT/left_out.tsv.
"""

import argparse
from pathlib import Path

from espnet_dq.data.languages import known_language
from espnet_dq.data.listing import Listing, write_listing
from espnet_dq.data.splits import SHARES, SPLITS, shares
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, run
from espnet_dq.values import a_path, count

WHOLE = "all"  # a folder that has no splits


def folders(args: argparse.Namespace) -> dict[str, Path]:
    """The folder of each split, or `WHOLE` and the one that there is.

    Raises:
        InputError: A split has none.
    """
    given = {name: getattr(args, name) for name in SPLITS if getattr(args, name)}
    root = args.data_root
    split = root and any((root / name).is_dir() for name in SPLITS)
    if root and not given and not split and (root / "wav.scp").exists():
        return {WHOLE: root}
    for name in SPLITS:
        if name not in given and root is None:
            raise InputError(f"neither --data_root nor --{name} is given")
    return {name: given.get(name) or root / name for name in SPLITS}


def main(argv: list[str] | None = None) -> int:
    """Check and copy the three folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_root", type=a_path, help="holds train, dev and test, or is one")
    for name in SPLITS:
        parser.add_argument(f"--{name}", type=a_path, help=f"the {name} folder, if elsewhere")
    parser.add_argument("--split", type=shares, help="shares of one folder (default: 80/10/10)")
    parser.add_argument("--language", help="the language of all, in place of utt2lang")
    parser.add_argument(
        "--untranscribed",
        action="store_true",
        help="train and dev are audio only: their text is not read and need not be there",
    )
    parser.add_argument("--allow_pipes", action="store_true", help="take commands in wav.scp")
    parser.add_argument("--out", type=a_path, default=Path("data"), help="data folder")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    args = parser.parse_args(argv)
    sources = folders(args)
    untranscribed = ("train", "dev") if args.untranscribed else ()
    for source in sources.values():
        if any(source.resolve() == (args.out / name).resolve() for name in SPLITS):
            raise InputError(f"--out {args.out}: would overwrite {source}")
    if WHOLE in sources and untranscribed:
        raise InputError(f"--untranscribed: {args.data_root} is one folder, whose test needs text")
    if args.split and WHOLE not in sources:
        raise InputError("--split: the folders are split already")
    language = known_language(args.language) if args.language else None
    found = {}
    for name, source in sources.items():
        text = "none" if name in untranscribed else "may be empty"
        found[name] = validate(source, args.allow_pipes, language, text, names=True)
    listing = Listing(found, untranscribed=untranscribed)
    if WHOLE in found:
        listing.shares = args.split or SHARES
    write_listing(listing, args.out, args.nj, args.allow_pipes)
    return 0


if __name__ == "__main__":
    run(main)
