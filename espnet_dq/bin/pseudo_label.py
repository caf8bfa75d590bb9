"""Let the teacher check a folder's text, or give it text.

Example usage::

    python -Pm espnet_dq.bin.pseudo_label --data dump/raw/train --teacher weights/small.pt \\
        --mode replace --out dump/labelled/train
"""

from pathlib import Path

import torch

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.labels.pseudo import MODES, Limits, label_folder
from espnet_dq.values import number


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt")
    parser.add_argument(
        "--mode",
        required=True,
        choices=MODES,
        help="check: drop utterances whose text the teacher does not hear; replace: use the "
        "teacher's text (the folder needs none)",
    )
    parser.add_argument(
        "--max_error",
        type=number,
        default=Limits.max_error,
        help="check: highest WER (CER where words have no spaces) in percent (10)",
    )
    parser.add_argument(
        "--min_logprob",
        type=number,
        default=Limits.min_logprob,
        help="lowest mean log-probability of a token (-1)",
    )
    parser.add_argument(
        "--ngpu", type=int, choices=(0, 1), default=0, help="1: the teacher runs on a GPU (0)"
    )
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Label a formatted data folder; returns 0."""
    args = get_parser().parse_args(argv)
    check_apart(args.out, args.data)
    check_replaceable(args.out, FOLDER)
    if args.ngpu and not torch.cuda.is_available():
        raise InputError("--ngpu 1: torch sees no GPU")
    limits = Limits(max_error=args.max_error, min_logprob=args.min_logprob)
    device = "cuda" if args.ngpu else "cpu"
    report = label_folder(args.data, args.out, args.teacher, args.mode, limits, device)
    causes = "".join(f", {n} dropped: {cause}" for cause, n in report["dropped"].items())
    say(f"{args.out}: {report['kept']} of {report['utterances']} utterances{causes}")
    return 0


if __name__ == "__main__":
    run(main)
