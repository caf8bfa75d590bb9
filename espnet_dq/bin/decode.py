"""Decode a Kaldi data folder with a model in one of its runtimes: text, speed and memory."""

import logging
from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_context, add_model
from espnet_dq.decode.shared import decode, summary
from espnet_dq.errors import run, say
from espnet_dq.jobs import Part
from espnet_dq.runtimes import RUNTIMES
from espnet_dq.values import count


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_model(parser)
    parser.add_argument("--runtime", required=True, choices=RUNTIMES, help="what decodes")
    parser.add_argument("--data", required=True, help="Kaldi folder: wav.scp and utt2lang")
    parser.add_argument("--out", required=True, help="folder for text, decode.json, timed")
    parser.add_argument("--beam_size", type=count, default=1, help="1 is greedy (default)")
    parser.add_argument(
        "--timestamps",
        action="store_true",
        help="also write OUT/timed, a Kaldi folder of the segments that the model makes; "
        "repetitions are tried again at random, as in bin.transcribe; one clip at a time",
    )
    parser.add_argument(
        "--guard",
        action="store_true",
        help="what cannot have been said (loops, too many letters for the time) is tried again at "
        "random or cut, as in bin.transcribe; not for scores of what a model says",
    )
    add_context(parser, "full")
    parser.add_argument(
        "--threads", type=count, default=0, help="CPU threads (all cores, or OMP_NUM_THREADS)"
    )
    parser.add_argument(
        "--nj",
        type=count,
        default=0,
        help="clips at a time (default: as many as threads; torch, transformers, onnx: 8, as one "
        "batch); whisper.cpp takes one, and so do torch and onnx with beams",
    )
    parser.add_argument(
        "--shared", type=Path, help="keep the folder here, for all that decode the same"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--part", type=Part.parse, metavar="K/N", help="only part K of N, for a job")
    parts.add_argument(
        "--join",
        type=count,
        metavar="N",
        help="write them from N decoded parts; "
        "--model and --runtime only tell the folder of --shared then",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -Pm espnet_dq.bin.decode`; see `decode_folder`."""
    args = vars(get_parser().parse_args(argv))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    place, report = decode(**args)
    say(f"{place}: {summary(report)}")
    return 0


if __name__ == "__main__":
    run(main)
