"""Run stage 1 and note what it read, or compare the source with what it read (stage 1).

The command is local/data.sh and its options, without --out. Published corpora are pinned: of them
nothing is noted.
"""

import argparse
import subprocess
import sys
from os.path import realpath
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.changes import RECORD, Record, differences, first_change, is_gone, look, take
from espnet_dq.data.kaldi import read_scp
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_replaceable, scratch
from espnet_dq.values import count

SOURCES = ("--data_root", "--train", "--dev", "--test")  # of local/data.sh
AGAIN = "--tag NAME makes a new experiment of it, --stage 1 makes this one again"


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where train, dev and test go")
    parser.add_argument("--exp", type=Path, help="compare what this experiment was made of")
    parser.add_argument(
        "--warn", action="store_true", help="only warn of a change, and read nothing"
    )
    parser.add_argument("--student", help="a Whisper's name or .pt, which knows all languages")
    parser.add_argument("--apart", action="append", default=[], help="a folder that is no source")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    parser.add_argument("command", nargs="+", help="local/data.sh and its options, behind --")
    return parser


def stage_1(args: argparse.Namespace, out: Path, **how) -> subprocess.CompletedProcess:
    """Run local/data.sh into `out`; `how` as of `subprocess.run`."""
    command = [*args.command, "--out", str(out), "--nj", str(args.nj)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, **how)


def check_languages(data: Path, student: str) -> None:
    """Raise `InputError` for a language of the data that a student's vocabulary does not have."""
    from espnet_dq.formats.openai import read as openai  # imports torch
    from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer

    tokenizer = vocabulary_tokenizer(SIZES.get(student) or openai.load(Path(student)).dims)
    for split in SPLITS:
        path = data / split / "utt2lang"
        for utt, language in read_scp(path).items():
            if f"<|{language}|>" not in tokenizer.special_tokens:
                raise InputError(
                    f"{path}: '{utt}': --student {student} knows no language '{language}': leave "
                    "it out (published corpora: --languages), or take one that does"
                )


def compare(args: argparse.Namespace) -> None:
    """Say how the source differs from what the experiment was made of.

    Raises:
        InputError: It does, and `--warn` was not given.
    """
    mine, shared = args.exp / RECORD, args.out / RECORD
    record, root = mine if mine.exists() else shared, args.roots[0]
    if not record.exists():
        say(f"{root}: no record of what stage 1 read: not compared with it", sys.stderr)
        return
    change = first_change(record, args.roots)
    if change and is_gone(record, args.roots):
        say(f"warning: {root}: is not there: the data stay as stage 1 read them", sys.stderr)
    elif change and args.warn:
        say(f"warning: {root}: has changed since stage 1 read it ({change}): {AGAIN}", sys.stderr)
    elif change:
        say(f"{root}: {change} has another time or size: compared with what was read", sys.stderr)
        _compare_again(args, record, root)
    if mine.exists() and shared.exists() and mine.read_bytes() != shared.read_bytes():
        words = differences(Record.load(mine), Record.load(shared))
        line = f"{args.out}: another experiment has made these data again: {words}: {AGAIN}"
        if words and args.warn:
            say(f"warning: {line}", sys.stderr)
        elif words:
            raise InputError(line)


def _compare_again(args: argparse.Namespace, record: Path, root: str) -> None:
    """Read the source again; if it holds the same, note its new sizes and times."""
    old, before = Record.load(record), look(args.roots, args.apart)
    with scratch(record) as folder:
        done = stage_1(args, folder, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(
                f"{root}: has changed since stage 1 read it, which now says: {said}: {AGAIN}"
            )
        new = take(folder, before, args.nj, old.files)
    if words := differences(old, new):
        raise InputError(f"{root}: has changed since stage 1 read it: {words}: {AGAIN}")
    for path in {record, args.out / RECORD}:
        if path.exists() and not differences(Record.load(path), new):
            new.save(path)


def main(argv: list[str] | None = None) -> int:
    """Make the data, or compare; returns what stage 1 does."""
    args = get_parser().parse_args(argv)
    pairs = zip(args.command, args.command[1:], strict=False)
    args.roots = [realpath(value) for option, value in pairs if option in SOURCES]
    if args.exp:
        check_replaceable(args.exp / RECORD)
        compare(args)
        return 0
    record = args.out / RECORD
    check_replaceable(record)
    known = Record.load(record).files if record.exists() else {}
    record.unlink(missing_ok=True)
    before = look(args.roots, [*args.apart, args.out])
    code = stage_1(args, args.out).returncode
    if args.student and not code:
        check_languages(args.out, args.student)
    if args.roots and not code:
        take(args.out, before, args.nj, known).save(record)
    return code


if __name__ == "__main__":
    run(main)
