"""Fetch a Whisper and write it as a checkpoint that `whisper.load_model(PATH)` reads.

Example usage::

    python -Pm espnet_dq.bin.fetch_whisper --model tiny --out weights
    python -Pm espnet_dq.bin.fetch_whisper --model hf:openai/whisper-small --out weights
"""

from pathlib import Path

from espnet_dq.api.checkpoint import as_checkpoint
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.fetch.sources import MODELS
from espnet_dq.fetch.weights import default_cache


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|hf:USER/NAME|PATH",
        help=f"one of OpenAI's ({', '.join(MODELS)}), one of the Hugging Face Hub "
        "(hf:USER/NAME@REVISION: that revision), or a file or folder that is read here",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the .pt and its .json (its origin)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        help="folder that keeps downloads (default: $ESPNET_DQ_CACHE or %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch one model; returns 0 and prints the checkpoint's path."""
    args = get_parser().parse_args(argv)
    say(as_checkpoint(args.model, args.out, args.cache))
    return 0


if __name__ == "__main__":
    run(main)
