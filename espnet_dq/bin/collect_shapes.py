"""Write the shape file that ESPnet batches by (stage 5), from tables alone.

ESPnet's own collect-stats stage reads all audio to learn its length, which stage 2 knows.
OUT/speech_shape holds samples, in the order of the names' hashes: ESPnet cuts an unsorted list
into batches as it stands, and sorted names would make every batch one speaker's.
"""

import hashlib
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import run
from espnet_dq.files import atomic, check_replaceable


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the file; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out / "speech_shape")
    samples = read_scp(args.data / "utt2num_samples")
    names = sorted(samples, key=lambda utt: hashlib.sha256(utt.encode()).digest())
    with atomic(args.out / "speech_shape") as tmp:
        tmp.write_text("".join(f"{u} {samples[u]}\n" for u in names), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
