"""A user's first afternoon: one voice reading Russian sentences, as a table of recordings.

Draws clips of Debian's festvox-ru (one speaker): the last TEST of a shuffle for test, and of the
others as many as fit into --minutes for train and dev, a tenth of them for dev. Then run

    egs2/dq_whisper/asr1/run.sh --corpus csv --data_root OUT/metadata.csv \\
        --language ru --tag MINUTES

Example usage::

    .venv/bin/python benchmarks/one_voice.py --minutes 25 --out /tmp/voice25
"""

import csv
import random
import sys
from itertools import accumulate
from pathlib import Path

import soundfile

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.fetch.debian import fetch
from espnet_dq.files import atomic, new_folder
from espnet_dq.values import positive, whole

sys.path.append(str(Path(__file__).resolve().parents[1] / "local"))
from festvox_ru import PACKAGE, VOICE, read_texts

TEST, DEV = 100, 0.1  # clips, and the share of the others that is dev


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--minutes", type=positive, required=True, help="of train and dev")
    parser.add_argument("--out", type=Path, required=True, help="new folder for metadata.csv")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="kept packages")
    parser.add_argument("--seed", type=whole, default=0, help="of the draw (0)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the table; returns 0."""
    args = get_parser().parse_args(argv)
    new_folder(args.out)
    voice = fetch(PACKAGE, args.downloads) / VOICE
    texts = read_texts(voice / "etc/txt.done.data")
    clips = sorted(path for path in (voice / "wav").glob("*.wav") if path.stem in texts)
    random.Random(args.seed).shuffle(clips)
    lengths = [soundfile.info(path).duration / 60 for path in clips[:-TEST]]
    count = sum(minutes <= args.minutes for minutes in accumulate(lengths))
    dev = round(DEV * count)
    splits = ["dev"] * dev + ["train"] * (count - dev) + ["test"] * TEST
    with atomic(args.out / "metadata.csv") as tmp, open(tmp, "w", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text", "split"])
        for path, split in zip(clips[:count] + clips[-TEST:], splits, strict=True):
            rows.writerow([path.resolve(), texts[path.stem], split])
    minutes = sum(lengths[:count])
    say(f"{args.out}: {count} clips for train and dev, {minutes:.1f} minutes; {TEST} for test")
    return 0


if __name__ == "__main__":
    run(main)
