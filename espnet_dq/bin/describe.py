"""Write EXPDIR/run.json: what was run, and the systems that are scored (stage 9)."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.recipe.description import describe
from espnet_dq.recipe.systems import SYSTEMS


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment folder")
    parser.add_argument("--corpus", required=True, help="name of the corpus")
    parser.add_argument("--seed", type=int, required=True, help="seed of the run")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder that is scored")
    parser.add_argument("--teacher_name", default="unknown", help="OpenAI's, hf:..., or a file's")
    parser.add_argument("--student_name", default="unknown", help="the same")
    parser.add_argument("--config", required=True, help="training configurations, quoted")
    parser.add_argument("--prepared", type=Path, required=True, help="folder of stage 1's data")
    parser.add_argument("--formatted", type=Path, required=True, help="folder of stage 2's data")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, required=True, help="those that are scored"
    )
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="GRID", help="grids the student was rounded to"
    )
    parser.add_argument("--command", required=True, help="command line that makes the same, quoted")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the description; returns 0."""
    describe(**vars(get_parser().parse_args(argv)))
    return 0


if __name__ == "__main__":
    run(main)
