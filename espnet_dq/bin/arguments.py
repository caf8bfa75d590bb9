"""Arguments that several commands take, and their types."""

import argparse
import shlex
from math import inf, isnan, nan
from pathlib import Path
from typing import NoReturn

from espnet_dq.errors import one_line, program
from espnet_dq.fetch.sources import MODELS
from espnet_dq.runtimes.interface import CONTEXTS
from espnet_dq.task.plan import AUTO

MOST_SEED = 4_000_000_000  # numpy takes less than 2^32, and ESPnet adds its epochs to it


class Parser(argparse.ArgumentParser):
    """Of a command, described by the first line of its module's docstring.

    `python -OO` leaves docstrings out. Arguments may be names of others, which errors quote.
    """

    def __init__(self, doc: str | None, **options) -> None:
        super().__init__(description=doc and doc.splitlines()[0], **{"prog": program()} | options)
        self.register("type", Path, path)

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and exit with 2."""
        super().error(one_line(message))


def path(text: str) -> Path:
    """A path that is not empty, for argparse: `Path("")` would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(text)


def whole(text: str, least: int = 0) -> int:
    """A whole number of `least` or more, for argparse."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more")
    return int(text)


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    return whole(text, 1)


def words(text: str) -> list[str]:
    """Words as a shell would read them, for argparse."""
    try:
        return shlex.split(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text}: {e}") from e


def seed(text: str) -> int:
    """The seed of a training, for argparse."""
    if whole(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is above {MOST_SEED}, a seed's most")
    return int(text)


def percentage(text: str) -> float:
    """0 to 100, for argparse."""
    value = _number(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage, 0 to 100")
    return value


def one_or_more(text: str) -> float:
    """A number of 1 or more, for argparse."""
    value = _number(text)
    if not value >= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return value


def share_or_auto(text: str) -> float | str:
    """`AUTO`, or a number from 0 to 1, for argparse."""
    return text if text == AUTO else share(text)


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def positive(text: str) -> float:
    """A number above 0, for argparse; `inf` is no limit."""
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def number(text: str) -> float:
    """Any number, for argparse; `inf` and `-inf` are no limit."""
    value = _number(text)
    if isnan(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return value


def finite(text: str) -> float:
    """A number above 0, for argparse, and no infinity."""
    value = positive(text)
    if value == inf:
        raise argparse.ArgumentTypeError(f"'{text}' has no end")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan


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
