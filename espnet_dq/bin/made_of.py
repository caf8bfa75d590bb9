"""Let a folder of an experiment be made of these windows and files (stages 4, 6 and 7).

One that is made of others, as a note in it says, goes.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.recipe.made_of import make_way


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="what is to be made")
    parser.add_argument("--note", required=True, help="the note's name in it")
    parser.add_argument("--data", type=Path, required=True, help="windows, with train and dev")
    parser.add_argument("--of", type=Path, nargs="*", default=[], help="files that it is made of")
    parser.add_argument("--anew", action="store_true", help="even if it is made of these")
    return parser


def main(argv: list[str] | None = None) -> int:
    """See to it; returns 0."""
    args = get_parser().parse_args(argv)
    make_way(args.folder, args.note, args.data, args.of, args.anew)
    return 0


if __name__ == "__main__":
    run(main)
