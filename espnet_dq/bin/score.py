"""Score a decode folder: WER and CER by language, sclite's tables, an ESPnet result block."""

import argparse
import logging
from pathlib import Path

from espnet_dq.errors import run
from espnet_dq.scoring import sclite
from espnet_dq.scoring.results import tables
from espnet_dq.scoring.score import MEAN, score


def main(argv: list[str] | None = None) -> int:
    """Print the result block and the rates; write SCORE_DIR. Returns 0."""
    parser = argparse.ArgumentParser(prog="score", description=__doc__)
    parser.add_argument(
        "--ref", type=Path, required=True, help="Kaldi folder: text, utt2lang", metavar="DATA_DIR"
    )
    parser.add_argument(
        "--hyp", type=Path, required=True, help="decode folder: text", metavar="DECODE_DIR"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write", metavar="SCORE_DIR"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s: %(message)s")
    result = score(args.ref, args.hyp, args.out, sclite.find())
    print(tables({args.hyp.name: result}))
    for name in ("wer", "cer"):
        each = " ".join(f"{k} {v:.1f}" for k, v in result[name].items() if k != MEAN)
        print(f"{name.upper()}: mean {result[name][MEAN]:.1f} % ({each})")
    print(f"tables: {result['tool']}; rates: {result['rates']}; {result['normalizer']}")
    print(f"without a hypothesis, counted as empty: {result['missing']}")
    print(f"references that normalise to nothing, left out: {result['left_out']}")
    return 0


if __name__ == "__main__":
    run(main)
