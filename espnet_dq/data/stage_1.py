"""Stage 1: run local/data.sh and note what it read, or compare the source with what it read.

Published corpora are pinned: of them nothing is noted.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import realpath
from pathlib import Path

from espnet_dq.data.changes import RECORD, Record, differences, first_change, is_gone, look, take
from espnet_dq.data.kaldi import read_scp
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import InputError, say
from espnet_dq.files import check_replaceable, scratch

SOURCES = ("--data_root", "--train", "--dev", "--test")  # of local/data.sh
AGAIN = "--tag NAME makes a new experiment of it, --stage 1 makes this one again"


@dataclass(frozen=True)
class Stage1:
    """A run of local/data.sh.

    Attributes:
        command: local/data.sh and its options, without --out and --nj.
        out: where train, dev and test go.
        apart: folders that are no source.
        nj: processes that read audio.
    """

    command: Sequence[str]
    out: Path
    apart: Sequence[str] = ()
    nj: int = 1

    @cached_property
    def roots(self) -> list[str]:
        """What is read."""
        pairs = zip(self.command, self.command[1:], strict=False)
        return [realpath(value) for option, value in pairs if option in SOURCES]

    def run(self, student: str | None = None) -> int:
        """Make the data, and note what was read; returns the exit code of local/data.sh.

        Args:
            student: A Whisper's name or `.pt`, which has to know all languages.

        Raises:
            InputError: It does not, or the note may not be replaced.
        """
        record = self.out / RECORD
        check_replaceable(record)
        known = Record.load(record).files if record.exists() else {}
        record.unlink(missing_ok=True)
        before = look(self.roots, [*self.apart, self.out])
        code = _stage_1(self, self.out).returncode
        if student and not code:
            _check_languages(self.out, student)
        if self.roots and not code:
            take(self.out, before, self.nj, known).save(record)
        return code

    def compare(self, exp: Path, warn: bool = False) -> None:
        """Say how the source differs from what an experiment was made of.

        Args:
            exp: The experiment.
            warn: Only warn of a change, and read nothing.

        Raises:
            InputError: It differs, and `warn` is false.
        """
        check_replaceable(exp / RECORD)
        _compare(self, exp, warn)


def _stage_1(source: Stage1, out: Path, **how) -> subprocess.CompletedProcess:
    """Run local/data.sh into `out`; `how` as of `subprocess.run`."""
    command = [*source.command, "--out", str(out), "--nj", str(source.nj)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, **how)


def _check_languages(data: Path, student: str) -> None:
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


def _compare(source: Stage1, exp: Path, warn: bool) -> None:
    """Say how the source differs from what the experiment was made of.

    Raises:
        InputError: It does, and `warn` is false.
    """
    mine, shared = exp / RECORD, source.out / RECORD
    record, root = mine if mine.exists() else shared, source.roots[0]
    if not record.exists():
        say(f"{root}: no record of what stage 1 read: not compared with it", sys.stderr)
        return
    change = first_change(record, source.roots)
    if change and is_gone(record, source.roots):
        say(f"warning: {root}: is not there: the data stay as stage 1 read them", sys.stderr)
    elif change and warn:
        say(f"warning: {root}: has changed since stage 1 read it ({change}): {AGAIN}", sys.stderr)
    elif change:
        say(f"{root}: {change} has another time or size: compared with what was read", sys.stderr)
        _compare_again(source, record, root)
    if mine.exists() and shared.exists() and mine.read_bytes() != shared.read_bytes():
        words = differences(Record.load(mine), Record.load(shared))
        line = f"{source.out}: another experiment has made these data again: {words}: {AGAIN}"
        if words and warn:
            say(f"warning: {line}", sys.stderr)
        elif words:
            raise InputError(line)


def _compare_again(source: Stage1, record: Path, root: str) -> None:
    """Read the source again; if it holds the same, note its new sizes and times."""
    old, before = Record.load(record), look(source.roots, source.apart)
    with scratch(record) as folder:
        done = _stage_1(source, folder, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(
                f"{root}: has changed since stage 1 read it, which now says: {said}: {AGAIN}"
            )
        new = take(folder, before, source.nj, old.files)
    if words := differences(old, new):
        raise InputError(f"{root}: has changed since stage 1 read it: {words}: {AGAIN}")
    for path in {record, source.out / RECORD}:
        if path.exists() and not differences(Record.load(path), new):
            new.save(path)
