"""Begin the training on the grid where rounding by clips leaves the student (stage 7).

For a conf/NAME.yaml with `ranges: gptq`; others begin with --init itself. See
`espnet_dq.quant.gptq`; `convert --data` rounds models of any format so.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import PADDINGS
from espnet_dq.errors import run, say
from espnet_dq.task.start import round_start


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, stages 1 to 5 done")
    parser.add_argument("--name", default="qat", help="of the training (qat)")
    parser.add_argument("--init", type=Path, required=True, help="checkpoint before the grid")
    parser.add_argument("--padding", choices=PADDINGS, required=True, help="of windows")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, if one is")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Make the checkpoint, if one is wanted, and print its path; returns 0."""
    args = get_parser().parse_args(argv)
    say(round_start(args.exp, args.name, args.init, args.out, args.padding))
    return 0


if __name__ == "__main__":
    run(main)
