#!/usr/bin/env python3
"""A user's own Kaldi folders: checked, and copied with absolute audio paths.

Writes OUT/{train,dev,test} and OUT/report.json.
"""

import argparse
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.audio import seconds
from espnet_dq.data.kaldi import KaldiDir, validate
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.summary import write_splits
from espnet_dq.errors import InputError, run


def absolute(data: KaldiDir, left_out: dict[str, Counter[str]]) -> KaldiDir:
    """The utterances whose audio has a readable header, with absolute paths and `utt2dur`."""
    durations = {}
    for utt in tqdm(data.wav, desc="audio headers", unit="file"):
        data.wav[utt] = str(Path(data.wav[utt]).resolve())
        try:
            durations[utt] = f"{seconds(data.wav[utt]):.3f}"
        except InputError as e:
            tqdm.write(f"left out: {e}")
            left_out.setdefault(data.utt2lang[utt], Counter())["unreadable audio"] += 1
    data = data.select(durations)
    data.extra["utt2dur"] = durations
    return data


def main(argv: list[str] | None = None) -> int:
    """Check and copy the three folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_root", type=Path, help="holds the folders train, dev and test")
    for name in SPLITS:
        parser.add_argument(f"--{name}", type=Path, help=f"the {name} folder, if elsewhere")
    parser.add_argument("--out", type=Path, default=Path("data"), help="data folder")
    args = parser.parse_args(argv)
    sources = {}
    for name in SPLITS:
        source = getattr(args, name) or (args.data_root and args.data_root / name)
        if source is None:
            raise InputError(f"neither --data_root nor --{name} is given")
        if source.resolve() == (args.out / name).resolve():
            raise InputError(f"--out {args.out}: would overwrite {source}")
        sources[name] = source
    left_out: dict[str, Counter[str]] = {}
    found = {name: validate(source) for name, source in sources.items()}
    write_splits(args.out, {n: absolute(d, left_out) for n, d in found.items()}, left_out)
    return 0


if __name__ == "__main__":
    run(main)
