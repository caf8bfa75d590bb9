"""Sum up an experiment: results.json, RESULTS.md and report.html, all in its own folder."""

import json
from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_data
from espnet_dq.errors import run, say
from espnet_dq.files import check_replaceable, write_text
from espnet_dq.report import collect, html, markdown
from espnet_dq.report.headline import facts


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--exp", type=Path, required=True, help="experiment folder with run.json", metavar="EXPDIR"
    )
    add_data(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the three files and print the headline. Returns 0."""
    args = get_parser().parse_args(argv)
    for name in ("results.json", "RESULTS.md", "report.html"):
        check_replaceable(args.exp / name)
    exp = collect.load(args.exp, args.data_name, args.data_licence)
    contents = {
        "results.json": json.dumps(exp.results, indent=2, ensure_ascii=False) + "\n",
        "RESULTS.md": markdown.render(exp),
        "report.html": html.render(exp),
    }
    for name, content in contents.items():
        write_text(args.exp / name, content)
        say(f"wrote {args.exp / name}")
    for fact in facts(exp.results):
        say(f"{fact.value} {fact.meaning}")
    return 0


if __name__ == "__main__":
    run(main)
