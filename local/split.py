#!/usr/bin/env python3
"""Split the prepared corpora into train, dev and test by prompt name, and report the counts.

Reads OUT/parts/NAME of each named corpus; writes OUT/{train,dev,test} and OUT/report.json.
"""

import argparse
from collections import Counter
from pathlib import Path

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.splits import SPLITS, assign
from espnet_dq.data.summary import SOURCES, read_sources, write_splits
from espnet_dq.errors import InputError, run
from espnet_dq.reading import read_json
from espnet_dq.values import a_path


def merge(parts: list[Path]) -> tuple[KaldiDir, dict[str, Counter[str]]]:
    """All utterances of the parts in one, and language -> reason -> count of what is not in."""
    whole = KaldiDir(extra={"utt2prompt": {}, "utt2dur": {}})
    left_out: dict[str, Counter[str]] = {}
    for part in parts:
        data = KaldiDir.load(part, extra=("utt2prompt", "utt2dur"))
        if both := whole.wav.keys() & data.wav.keys():
            raise InputError(f"{part / 'wav.scp'}: '{min(both)}' is in another corpus too")
        whole.update(data)
        for lang, reasons in read_json(part / "left_out.json").items():
            left_out.setdefault(lang, Counter()).update(reasons)
    return whole, left_out


def main(argv: list[str] | None = None) -> int:
    """Merge, split, write, validate, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", help="names of folders under OUT/parts")
    parser.add_argument("--out", type=a_path, default=Path("data"), help="data folder")
    args = parser.parse_args(argv)
    parts = [args.out / "parts" / name for name in args.corpora]
    data, left_out = merge(parts)
    told = [part / SOURCES for part in parts if (part / SOURCES).exists()]
    sources = [source for path in told for source in read_sources(path)]
    utts = sorted(data.wav)
    entries = [(data.utt2lang[u], data.extra["utt2prompt"][u], data.text[u]) for u in utts]
    splits = {name: [] for name in SPLITS}
    for utt, name in zip(utts, assign(entries), strict=True):
        splits[name].append(utt)
    chosen = {name: data.select(of) for name, of in splits.items()}
    write_splits(args.out, chosen, left_out, sources=sources)
    return 0


if __name__ == "__main__":
    run(main)
