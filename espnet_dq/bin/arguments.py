"""Arguments that several commands take, and their types."""

import argparse
import re
import shlex
from pathlib import Path
from typing import NoReturn

from espnet_dq.errors import one_line, program
from espnet_dq.fetch.sources import MODELS
from espnet_dq.runtimes.interface import CONTEXTS
from espnet_dq.values import a_path, one_or_more, positive

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$|-inf(inity)?$", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """Of a command, described by the first line of its module's docstring.

    `python -OO` leaves docstrings out. Arguments may be names of others, which errors quote.
    """

    def __init__(self, doc: str | None, **options) -> None:
        super().__init__(description=doc and doc.splitlines()[0], **{"prog": program()} | options)
        self.register("type", Path, a_path)
        # argparse's own knows no exponent and no infinity, and takes such a value for an option.
        self._negative_number_matcher = NEGATIVE

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and exit with 2."""
        super().error(one_line(message))


def words(text: str) -> list[str]:
    """Words as a shell would read them, for argparse."""
    try:
        return shlex.split(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text}: {e}") from e


def add_context(parser: argparse.ArgumentParser, default: str) -> None:
    """`--context`: how much a runtime hears at a time."""
    parser.add_argument(
        "--context",
        choices=CONTEXTS,
        default=default,
        help="what the encoder hears: its whole window, which takes as long for a word as for "
        "30 s; short: as much as a clip needs; auto: short if the model was trained for it "
        "(%(default)s)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data_name` and `--data_licence`, in the place of what is recorded."""
    parser.add_argument("--data_name", help="name of the data (default: as recorded)")
    parser.add_argument("--data_licence", help="licence of the data (default: as recorded)")


def add_balance(parser: argparse.ArgumentParser) -> None:
    """`--temperature` and `--max_hours`: how often a training hears each language."""
    from espnet_dq.data.pack import Balance  # imports audio

    parser.add_argument(
        "--temperature",
        type=one_or_more,
        default=Balance.temperature,
        help="1: languages as they are; more: hear those of few hours more often (1)",
    )
    parser.add_argument(
        "--max_hours",
        type=positive,
        default=Balance.max_hours,
        help="most of a language (no limit)",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """`--from`, a model as `espnet_dq.fetch.names.source_path` takes it, stored as `source`."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH|openai:NAME|hf:USER/NAME",
        help="file or folder in a format that is read here (detected), a Whisper of OpenAI's: "
        f"openai: and one of {', '.join(MODELS)}; the name alone where nothing else has it, or one "
        "of the Hugging Face Hub",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`, as `espnet_dq.runtimes.load_runtime` takes it."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH|NAME|hf:USER/NAME",
        help="folder of CTranslate2 (faster-whisper), ONNX (onnx) or Hugging Face (transformers), "
        "ggml .bin file (whisper.cpp), .pt, packed file or experiment folder (torch), a Whisper of "
        f"OpenAI's that is fetched once: {', '.join(MODELS)} or openai: and one of them (torch), "
        "or a folder of the Hugging Face Hub (transformers)",
    )
