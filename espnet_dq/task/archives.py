"""Kaldi archives as ESPnet reads them (`kaldi_ark`), without the commands that may stand for them.

To ESPnet's reader a name in an scp file that begins or ends with `|` is a command for the shell,
and there is no option against it. The teacher's answers are read so in training, from folders that
several people may share.
"""

import re

from espnet2.train import dataset, iterable_dataset

from espnet_dq.errors import InputError


def check(name: str, where: object) -> None:
    """Raise `InputError` unless `name` is FILE.ark:OFFSET; `where` names it."""
    if not re.fullmatch(r"[^|].*:[0-9]+", name.strip(), re.DOTALL):
        raise InputError(f"{where}: no place in an archive, as FILE.ark:123: {name}")


def read_scp(path: str, **options):
    """ESPnet's loader of an scp file, all of whose entries are places in archives."""
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            _, *name = line.split(None, 1) or [""]  # as ESPnet's reader splits it
            check("".join(name), f"{path}:{number}")
    return dataset.kaldi_loader(path, **options)


def read_entry(name: str):
    """ESPnet's reader of one entry."""
    check(name, "kaldi_ark")
    return iterable_dataset.load_kaldi(name)


def register() -> None:
    """Put these in the place of ESPnet's own."""
    dataset.DATA_TYPES["kaldi_ark"]["func"] = read_scp
    iterable_dataset.DATA_TYPES["kaldi_ark"] = read_entry
