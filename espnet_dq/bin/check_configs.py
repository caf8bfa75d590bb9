"""Check that ESPnet takes the training configurations, before hours of work (stage 3)."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.task.check import check_configs
from espnet_dq.values import whole


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="training configurations")
    parser.add_argument("--student", required=True, help="a Whisper's name, or a .pt checkpoint")
    parser.add_argument("--teacher", required=True, help="the same")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument("--processes", type=int, default=1, help="number that will train (1)")
    parser.add_argument("--ngpu", type=whole, default=0, help="GPUs of this machine that train (0)")
    parser.add_argument(
        "--data", type=Path, nargs=2, metavar=("TRAIN", "DEV"), help="folders of windows"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check them; returns 0."""
    check_configs(**vars(get_parser().parse_args(argv)))
    return 0


if __name__ == "__main__":
    run(main)
