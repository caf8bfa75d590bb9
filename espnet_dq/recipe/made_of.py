"""Folders of an experiment that hold a note of what they are made of.

The note has a line of `cksum` for the windows, and one for each file.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError
from espnet_dq.files import discard, write_text

TABLES = ("utt2sha256", "text", "utt2lang")  # which decide about windows


def make_way(
    folder: Path, note: str, data: Path, files: Sequence[Path] = (), anew: bool = False
) -> None:
    """See to it that a folder is made of these windows and files, or of nothing yet.

    Args:
        folder: one that is made of something else goes; of one without a note it is assumed.
        note: the note's name in it.
        data: folder of windows, train and dev.
        files: what else it is made of.
        anew: whether it goes in any case.

    Raises:
        InputError: something of that cannot be read, which does not make it another, or the note is
            none of these: nothing goes.
    """
    tables = [data / part / table for part in ("train", "dev") for table in TABLES]
    said = "".join(_cksum(group) for group in (tables, *([file] for file in files)))
    for part in ("train", "dev"):
        _check(data / part)
    path = folder / note
    if path.exists():
        try:
            old = path.read_text(encoding="utf-8", errors="replace")
        except OSError as e:
            raise InputError(f"{path}: {e.strerror}") from e
        if not re.fullmatch(rf"(\d+ \d+\n){{{1 + len(files)}}}", old):
            raise InputError(f"{path}: is no note of a stage: remove {folder}, which is made again")
        if not anew and old == said:
            return
        discard(folder)
    write_text(path, said)


def _check(folder: Path) -> None:
    """Raise `InputError` unless tables are of the same windows: one that breaks off is no other."""
    tables = {folder / name: read_scp(folder / name, empty=True) for name in TABLES}
    known = {key for table in tables.values() for key in table}
    for path, table in tables.items():
        if known - table.keys():
            raise InputError(f"{path}: no line for {min(known - table.keys())}")


def _cksum(files: Iterable[Path]) -> str:
    """The line of `cksum` for the files' bytes, one behind the other."""
    with subprocess.Popen("cksum", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as summing:
        for file in files:
            try:
                with open(file, "rb") as content:
                    shutil.copyfileobj(content, summing.stdin)
            except OSError as e:
                raise InputError(f"{file}: {e.strerror}") from e
        return summing.communicate()[0].decode()
