"""Check that ESPnet takes the training configurations, before hours of work (stage 3)."""

import sys
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.quant.table import read_grid
from espnet_dq.task.check import check, check_gpus, sizes
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
    args = get_parser().parse_args(argv)
    check_gpus(args.ngpu)
    student, teacher = sizes(args.student), sizes(args.teacher)
    counts = [_weights(dims) for dims in (teacher, student)]
    if counts[0] < counts[1]:
        says = (
            "--teacher {} has {:,} weights, fewer than the {:,} of --student {}, who learns from it"
        )
        say("warning: " + says.format(args.teacher, *counts, args.student), sys.stderr)
    for path in args.configs:
        check(path, student, teacher, read_grid(args.grid), args.processes, args.data)
        say(f"{path}: ESPnet takes it", sys.stderr)
    return 0


def _weights(dims: ModelDimensions) -> int:
    """Nearly all: four matrices of each attention, two of each feed-forward, four times as wide."""
    encoder = dims.n_audio_layer * 12 * dims.n_audio_state**2
    decoder = dims.n_text_layer * 16 * dims.n_text_state**2
    return encoder + decoder + dims.n_vocab * dims.n_text_state


if __name__ == "__main__":
    run(main)
