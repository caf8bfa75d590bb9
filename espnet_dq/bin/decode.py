"""Decode a Kaldi data folder with a model in one of its runtimes: text, speed and memory."""

import argparse
import logging

from espnet_dq.decode.folder import decode_folder
from espnet_dq.decode.runtimes import RUNTIMES
from espnet_dq.errors import run


def main(argv: list[str] | None = None) -> int:
    """Run `python -m espnet_dq.bin.decode`; see `decode_folder`."""
    parser = argparse.ArgumentParser(prog="decode", description=__doc__)
    parser.add_argument(
        "--model",
        required=True,
        help="torch: a .pt file or an experiment folder; faster-whisper: a CTranslate2 folder; "
        "whisper.cpp: a ggml file",
    )
    parser.add_argument("--runtime", required=True, choices=RUNTIMES, help="what decodes")
    parser.add_argument("--data", required=True, help="Kaldi folder: wav.scp and utt2lang")
    parser.add_argument("--out", required=True, help="folder for text and decode.json")
    parser.add_argument("--beam_size", type=count, default=1, help="1 is greedy (default)")
    parser.add_argument("--threads", type=count, default=0, help="CPU threads (default: all)")
    parser.add_argument(
        "--nj",
        type=count,
        default=0,
        help="clips at a time (default: as many as threads; torch: 8, as one batch)",
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    report = decode_folder(**vars(args))
    speed = "" if report["rtf"] is None else f", RTF {report['rtf']:.3f}"
    memory = report["peak_rss_bytes"] / 2**20
    failed = len(report["failed"])
    cut = report["cut"]["utterances"]
    long = f", {cut} cut at pauses" if cut else ""
    print(
        f"{args.out}: {report['utterances']} utterances, {failed} failed{long}{speed}, "
        f"peak memory {memory:.0f} MiB"
    )
    return 0


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    run(main)
