"""Arguments that several commands take, and their types."""

import argparse
from typing import NoReturn

from espnet_dq.errors import one_line, program
from espnet_dq.fetch.sources import MODELS


class Parser(argparse.ArgumentParser):
    """Of a command, described by the first line of its module's docstring.

    `python -OO` leaves docstrings out. Arguments may be names of others, which errors quote.
    """

    def __init__(self, doc: str | None, **options) -> None:
        super().__init__(description=doc and doc.splitlines()[0], **{"prog": program()} | options)

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and exit with 2."""
        super().error(one_line(message))


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data_name` and `--data_licence`, in the place of what is recorded."""
    parser.add_argument("--data_name", help="name of the data (default: as recorded)")
    parser.add_argument("--data_licence", help="licence of the data (default: as recorded)")


def add_source(parser: argparse.ArgumentParser) -> None:
    """`--from`, a model as `espnet_dq.fetch.weights.source_path` takes it, stored as `source`."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH|openai:NAME",
        help="file or folder in a format that is read here (detected), or "
        f"openai: and one of {', '.join(MODELS)}",
    )
