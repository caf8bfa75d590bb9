"""Make sure that there is a sound checkpoint before training resumes from it."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.task.checkpoints import repair


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="ESPnet's output_dir")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check one training folder, and say what was wrong; returns 0."""
    args = get_parser().parse_args(argv)
    for line in repair(args.folder):
        say(line)
    return 0


if __name__ == "__main__":
    run(main)
