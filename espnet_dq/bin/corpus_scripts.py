"""Print `own`, `file` or `published`, and a corpus's scripts of local/ (for data.sh).

`file`: one of the user's own, whose `--data_root` may be a file.
"""

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.corpora import get_corpus
from espnet_dq.errors import run, say


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("corpus", metavar="NAME", help="a corpus, as in docs/corpora.md")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print them; returns 0."""
    corpus = get_corpus(get_parser().parse_args(argv).corpus)
    kind = "file" if corpus.file else "own" if corpus.own else "published"
    say(" ".join((kind, *corpus.scripts)))
    return 0


if __name__ == "__main__":
    run(main)
