"""Folders of an experiment that hold a note of what they are made of.

The note has a line of `cksum` for the windows, and one for each file. Behind them is the number of
texts that begin without a space (`espnet_dq.whisper.encoding.unspaced`), if there are any.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, discard
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import unspaced

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
    said = "\n".join(_cksum(group) for group in (tables, *([file] for file in files)))
    texts = chain(*(_said(data / part) for part in ("train", "dev")))
    for count in unspaced(vocabulary_tokenizer(SIZES["tiny"]), texts).values():
        said += f"\n{count} 0"
    path = folder / note
    if path.exists():
        try:
            old = path.read_text(encoding="utf-8", errors="replace")
        except OSError as e:
            raise InputError(f"{path}: {e.strerror}") from e
        if not re.fullmatch(r"(\d+ \d+\n?)+", old):
            raise InputError(f"{path}: is no note of a stage: remove {folder}, which is made again")
        if not anew and old.rstrip("\n") == said:
            return
        discard(folder)
    with atomic(path) as tmp:
        tmp.write_text(f"{said}\n", encoding="utf-8")


def _said(folder: Path) -> Iterator[tuple[str, str]]:
    """Each text with its language; tables that do not match are no other windows."""
    texts, languages = read_scp(folder / "text"), read_scp(folder / "utt2lang")
    for here, table, there in ((texts, "utt2lang", languages), (languages, "text", texts)):
        if missing := next((utt for utt in here if utt not in there), None):
            raise InputError(f"{folder / table}: no line for {missing}")
    return ((text, languages[utt]) for utt, text in texts.items())


def _cksum(files: Iterable[Path]) -> str:
    """What `cksum` says of the files' bytes, one behind the other."""
    with subprocess.Popen("cksum", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as summing:
        for file in files:
            try:
                with open(file, "rb") as content:
                    shutil.copyfileobj(content, summing.stdin)
            except OSError as e:
                raise InputError(f"{file}: {e.strerror}") from e
        return summing.communicate()[0].decode().strip()
