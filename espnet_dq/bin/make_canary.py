"""Windows of other people, other languages, noise and no speech, to be scored beside the test set.

Whether a student holds for people that it never heard shows on speech that no training had (stage
9). --sets are Kaldi folders of such speech with texts; their languages are either among those of
--train, or others. See `espnet_dq.data.canary`.

Example usage::

    python -Pm espnet_dq.bin.make_canary --train dump/asterisk/raw/train \\
        --sets stamps=data/parts/tuxpaint_others mine=/my/data --out exp/mine/data/canary
"""

from collections import Counter
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data import canary
from espnet_dq.data.canary import WORDS
from espnet_dq.data.kaldi import FOLDER, KIND, KaldiDir
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.formats.openai import read as openai
from espnet_dq.values import count, whole
from espnet_dq.whisper.dims import SIZES


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="what was trained: Kaldi folder")
    parser.add_argument(
        "--sets", nargs="+", required=True, metavar="NAME=DIR", help="speech with texts"
    )
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    parser.add_argument(
        "--words", type=count, default=WORDS, help=f"of each language of each set ({WORDS})"
    )
    parser.add_argument("--seed", type=whole, default=0, help="of what is drawn (0)")
    parser.add_argument(
        "--choice",
        action="store_true",
        help="only clean windows of other voices and languages, by which a student is chosen",
    )
    parser.add_argument("--student", type=Path, help=".pt that has room for them (any Whisper)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns 0."""
    args = get_parser().parse_args(argv)
    if args.student and not args.choice:
        raise InputError("--student goes with --choice")
    check_replaceable(args.out, FOLDER)
    check_apart(args.out, args.train)
    sets = {}
    for each in args.sets:
        name, equals, path = each.partition("=")
        if not equals or not name or name in sets:
            raise InputError(f"--sets {each}: not NAME=DIR, or a name that stands twice")
        check_apart(args.out, path)
        validate(Path(path))
        sets[name] = KaldiDir.load(path)  # one file an utterance
    given = sets, KaldiDir.load(args.train), args.out
    if args.choice:
        dims = openai.load(args.student).dims if args.student else SIZES["tiny"]
        data = canary.choice(*given, dims, args.words, args.seed)
    else:
        data = canary.make(*given, args.words, args.seed)
    kinds = Counter(data.extra[KIND].values())
    said = ", ".join(f"{number} of {kind}" for kind, number in kinds.items())
    say(f"{args.out}: {len(data.wav)} windows: {said}")
    return 0


if __name__ == "__main__":
    run(main)
