"""Write a web page that transcribes in the browser: one folder for any server of files.

The model lies in it, and all that runs it, from npm. Nothing that is heard leaves the computer.
Try it with `python -m http.server --directory web`; the microphone needs https or localhost.

Example usage::

    python -Pm espnet_dq.bin.web --from openai:tiny --grid ggml_q4_0 --out web
"""

from pathlib import Path

from espnet_dq.api.webpage import make_page
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats.transformers_js import TransformersJs


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--from", dest="source", required=True, metavar="PATH|openai:NAME", help="any model"
    )
    parser.add_argument(
        "--grid",
        help="keep (default): the model's own integers; none: floats; or "
        f"{', '.join(TransformersJs.grids)}",
    )
    parser.add_argument("--title", help="of the page; otherwise the model's name")
    parser.add_argument(
        "--languages",
        nargs="*",
        default=[],
        metavar="LANGUAGE",
        help="codes or names, e.g. it: that the choice begins with",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns 0."""
    args = get_parser().parse_args(argv)
    make_page(**vars(args))
    served = f"python -m http.server --directory {args.out}"
    say(f"{args.out}: {bytes_on_disk(args.out)} bytes; {served}")
    return 0


if __name__ == "__main__":
    run(main)
