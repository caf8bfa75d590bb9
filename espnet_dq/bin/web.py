"""Write a web page that transcribes in the browser: one folder for any server of files.

The model lies in it, and all that runs it, from npm. Nothing that is heard leaves the computer.
Try it with `python -m http.server --directory web`; the microphone needs https or localhost.

Example usage::

    python -Pm espnet_dq.bin.web --from openai:tiny --grid ggml_q4_0 --out web
"""

from pathlib import Path

from espnet_dq.api.models import convert, load
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.fetch.names import source_path
from espnet_dq.files import atomic, bytes_on_disk, check_apart, check_replaceable
from espnet_dq.formats.transformers_js import TransformersJs
from espnet_dq.web import page


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
    check_replaceable(args.out, page.FOLDER)
    check_apart(args.out, source_path(args.source))
    title = args.title or model_name(args.source)
    model = load(args.source, keep=args.grid in (None, "keep"))
    page.chosen(model.weights, args.languages)  # before the work
    with atomic(args.out, page.FOLDER) as folder:
        folder.mkdir()
        grid = {"grid": args.grid} if args.grid else {}
        convert(model, folder / "model", TransformersJs.name, **grid)
        page.write(folder, title, "", args.languages)
    say(
        f"{args.out}: {bytes_on_disk(args.out)} bytes; python -m http.server --directory {args.out}"
    )
    return 0


def model_name(source: str) -> str:
    """What the page calls a model that is given as `--from`: `tiny.en`, of `openai:tiny.en`."""
    path = Path(source)
    if path.exists():
        return path.stem if path.is_file() else path.resolve().name  # of a folder: `.`, `v1.5`
    return source.rpartition(":")[2].rpartition("/")[2].partition("@")[0]


if __name__ == "__main__":
    run(main)
