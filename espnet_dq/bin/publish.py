"""Write, for each runtime that holds a student's grid, a folder ready to publish (stage 13).

What is in them: `espnet_dq.api.publishing`. Only when asked, and when all of them are verified,
they are uploaded to the Hugging Face Hub, with the token of `HF_TOKEN` or of `hf auth login`.

Example usage::

    python -Pm espnet_dq.bin.publish --exp exp/asterisk_base_tiny_ct2_int8 \\
        --data_licence CC-BY-SA-3.0 --upload_to me/asterisk-tiny
"""

from pathlib import Path

from espnet_dq.api.publishing import publish
from espnet_dq.bin.arguments import Parser, add_data
from espnet_dq.errors import run


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, reported (stage 12)")
    add_data(parser)
    parser.add_argument(
        "--upload_to",
        metavar="USER/NAME",
        help="upload each folder to the Hugging Face Hub as USER/NAME-FORMAT; new repositories "
        "are private",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the folders EXP/publish/NAME, then upload them if asked; returns 0."""
    args = get_parser().parse_args(argv)
    publish(args.exp, args.data_name, args.data_licence, args.upload_to)
    return 0


if __name__ == "__main__":
    run(main)
