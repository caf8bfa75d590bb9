"""Score decode folders: WER and CER by language, sclite's tables, an ESPnet result block."""

import logging
from pathlib import Path

from espnet_dq.api.speech import score
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_replaceable
from espnet_dq.scoring.results import shown
from espnet_dq.scoring.score import FOLDER


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--ref", type=Path, required=True, help="Kaldi folder: text, utt2lang", metavar="DATA_DIR"
    )
    parser.add_argument(
        "--hyp", type=Path, nargs="+", required=True, help="decode folder: text",
        metavar="DECODE_DIR",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="SCORE_DIR", help="folder to write (score in each DECODE_DIR)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the result block and the rates, and write SCORE_DIR, of each folder. Returns 0.

    Raises:
        InputError: one SCORE_DIR for several folders.
    """
    args = get_parser().parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s: %(message)s")
    if args.out and len(args.hyp) > 1:
        raise InputError("--out: for one --hyp only")
    outs = [args.out or hyp / "score" for hyp in args.hyp]
    for out in outs:
        check_replaceable(out, FOLDER)
    for hyp, out in zip(args.hyp, outs, strict=True):
        for line in shown(hyp.resolve().name, score(args.ref, hyp, out=out)):
            say(line)
    return 0


if __name__ == "__main__":
    run(main)
