"""Bring audio to 16 kHz, leave out what cannot be used, check that splits are apart (stage 2).

Left out, each for a cause that is counted and listed: audio that cannot be read, silence, clipped
speech (`espnet_dq.data.unfit`), text in another script or too much of it, clips too long or short.

Instead of being left out, long utterances of train and dev can be split at pauses (`--long split`),
with their text, by a Whisper (`--aligner`). Those of test then stay whole: they are decoded in
pieces anyway, and no model should decide what another is scored on.
Audio that is WAV or FLAC at 16 kHz with one channel is used where it is; all else is decoded
into OUT/wav, parts of recordings (`segments`) are cut out there, and what commands in `wav.scp`
write is kept there. Writes OUT/{train,dev,test}, one file an utterance, with `utt2num_samples`,
OUT/format.json, and OUT/left_out.tsv: all that was left out, by stage 1, too, which lists it
beside its folders.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.formatting import (
    MOST_LEFT_OUT,
    SECONDS,
    check_disjoint,
    check_share,
    format_split,
    shared_texts,
)
from espnet_dq.data.kaldi import FOLDER, KaldiDir
from espnet_dq.data.left_out import COLUMNS, LEFT_OUT, LeftOut, Row
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.tables import rows
from espnet_dq.data.validation import validate
from espnet_dq.data.voices import Voices
from espnet_dq.errors import InputError, one_line, run, say
from espnet_dq.files import check_replaceable, write_text
from espnet_dq.values import count, percentage


def split_long(
    data: KaldiDir,
    wav_dir: Path,
    max_seconds: float,
    aligner: Path,
    threads: int,
    left_out: LeftOut,
) -> tuple[KaldiDir, dict[str, int]]:
    """The same utterances, those longer than `max_seconds` in pieces with their text.

    Args:
        data: A split with `utt2num_samples`; a piece of UTT is called UTT-NNNN.
        wav_dir: Where the pieces go; those of an earlier run are used again.
        max_seconds: What a piece has at most.
        aligner: A Whisper's `.pt` file.
        threads: CPU threads.
        left_out: What is left out so far; pieces without use are added, under their utterance.

    Returns:
        The utterances, and the counts of `utterances` that were split and of their good `pieces`.

    Raises:
        InputError: The file is no Whisper or does not know a language, or a name is there already.
    """
    samples = data.extra["utt2num_samples"]
    long = [utt for utt, n in samples.items() if int(n) > max_seconds * SAMPLE_RATE]
    made = KaldiDir(extra={"utt2num_samples": {}})
    if long:
        from espnet_dq.labels.split import Splitter  # imports torch

        splitter = Splitter(aligner, max_seconds, threads)
        for utt in tqdm(long, desc="split", unit="utterance"):
            good, faults = splitter.split(
                utt, Path(data.wav[utt]), data.text[utt], data.utt2lang[utt], wav_dir
            )
            for fault in faults.elements():
                left_out.add(utt, data.utt2lang[utt], fault, f"a piece of {utt}")
            for wav, length, text in good:
                key = f"{utt}-{Path(wav).stem[-4:]}"
                of = data.utt2spk[utt], data.utt2lang[utt]
                made.add(key, wav, text, *of, utt2num_samples=length)
    rest = data.select(samples.keys() - set(long))
    if both := rest.wav.keys() & made.wav.keys():
        raise InputError(f"'{min(both)}' is an utterance and a piece")
    rest.update(made)
    return rest, {"utterances": len(long), "pieces": len(made.wav)}


def _format(args: argparse.Namespace, splits: dict[str, KaldiDir], left_out: LeftOut) -> dict:
    """Format all splits, in place; the report of each."""
    report = {}
    for name, data in splits.items():
        longest = math.inf if args.long == "split" else args.max_seconds
        wav_dir = args.out.resolve() / "wav" / name
        first, counts = len(left_out.rows), {}
        data = format_split(data, wav_dir, args.min_seconds, longest, args.nj, left_out)
        if args.long == "split" and name != "test":
            data, counts["split"] = split_long(
                data, wav_dir, args.max_seconds, args.aligner, args.nj, left_out
            )
        splits[name] = data
        samples = sum(int(n) for n in data.extra["utt2num_samples"].values())
        causes = Counter(row.cause for row in left_out.rows[first:])
        report[name] = {
            "utterances": len(data.wav),
            "minutes": round(samples / SAMPLE_RATE / 60, 2),
            "left_out": dict(sorted(causes.items())),
            **counts,
        }
    return report


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds train, dev and test")
    parser.add_argument("--out", type=Path, required=True, help="where the same folders go")
    parser.add_argument("--max_seconds", type=float, default=SECONDS[1], help="longest utterance")
    parser.add_argument("--min_seconds", type=float, default=SECONDS[0], help="shortest utterance")
    parser.add_argument(
        "--long", choices=("drop", "split"), default="drop", help="what to do with longer ones"
    )
    parser.add_argument("--aligner", type=Path, help="for --long split: a Whisper's .pt file")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    parser.add_argument(
        "--untranscribed", action="store_true", help="train and dev are audio without text"
    )
    parser.add_argument(
        "--allow_pipes", action="store_true", help="run the commands that stand in wav.scp"
    )
    parser.add_argument(
        "--allow_shared_text",
        action="store_true",
        help="only warn when a sentence is in two splits, as it may be in a corpus of your own",
    )
    parser.add_argument(
        "--max_left_out",
        type=percentage,
        default=MOST_LEFT_OUT,
        metavar="PERCENT",
        help="stop if more of the utterances are left out, in percent (%(default)g)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check, format and write the three splits."""
    args = get_parser().parse_args(argv)
    if args.out.resolve() == args.data.resolve():
        raise InputError(f"--out {args.out}: is the folder of --data")
    if not 0 <= args.min_seconds < args.max_seconds:
        raise InputError("--min_seconds must be less than --max_seconds, and not negative")
    if (args.long == "split") != (args.aligner is not None):
        raise InputError("--long split and --aligner FILE go together")
    for name in (LEFT_OUT, "format.json"):
        check_replaceable(args.out / name)
    splits = {}
    for name in SPLITS:
        check_replaceable(args.out / name, FOLDER)
        text = "none" if args.untranscribed and name != "test" else "needed"
        splits[name] = validate(args.data / name, args.allow_pipes, text=text)
    check_disjoint(splits)
    texts = shared_texts(splits)
    if texts:
        line = f"{len(texts)} texts stand in two splits, as in {texts[0]}"
        if not args.allow_shared_text:
            raise InputError(f"{args.data}: {line} (--allow_shared_text to go on)")
        tqdm.write(one_line(f"warning: {args.data}: {line}"))
    voices = Voices.of(splits["train"], splits["test"])
    tqdm.write(f"voices: {voices}")
    out = args.out.resolve()
    left_out = LeftOut()
    before = args.data / LEFT_OUT
    if before.exists():
        earlier = rows(before, needed=COLUMNS)
        left_out.rows += [Row(*(row[name] for name in COLUMNS)) for _, row in earlier if row]
        check_share(left_out, splits, args.max_left_out, args.data)
    report = {"shared_texts": len(texts)} | _format(args, splits, left_out)
    said = {"label": voices.label, "said": str(voices)}
    left_out.write(out / LEFT_OUT)
    for name, data in splits.items():
        if not data.wav:
            why = report[name]["left_out"]
            raise InputError(f"{args.data / name}: no utterance is left: {why}")
    words = check_share(left_out, splits, args.max_left_out, out)
    for name, data in splits.items():
        data.save(out / name)
        say(f"{name}: {json.dumps(report[name])}")
    say(words)
    write_text(out / "format.json", json.dumps(report | {"voices": said}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
