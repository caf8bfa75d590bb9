"""What stage 1 read of a corpus that the user has, and whether that is still so.

A record has a line for each file and folder of the source (size, time, and of audio its SHA-256)
and one for each utterance that came of them. To look whether anything has changed, files are only
asked for their size and time. If one differs, stage 1 reads the source again beside its old
result, and the utterances are compared: a time alone changes nothing.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espnet_dq.data.kaldi import is_command, named_files, scan
from espnet_dq.data.left_out import LEFT_OUT
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, sha256
from espnet_dq.reading import file_size, loads

RECORD = "source.jsonl"
NOTHING = (-1, -1)  # the stamp of a file that is not there


class File(NamedTuple):
    """A file, folder or missing file of the source: size, time of the last change, content."""

    size: int  # of a folder 0
    mtime_ns: int
    sha256: str | None = None  # of audio

    @property
    def stamp(self) -> tuple[int, int]:
        """By which it is seen whether it has changed, most likely."""
        return self.size, self.mtime_ns


class Utterance(NamedTuple):
    """What is compared of an utterance: its split, and hashes of the rest."""

    split: str
    text: str
    audio: str  # path and content
    about: str  # speaker, language, part of the recording


# What two utterances of one id may differ in, and how that is said of several.
KINDS = {
    "text": "with another text",
    "audio": "with other audio",
    "about": "with another speaker, language or segment",
    "split": "in another split",
}


@dataclass
class Record:
    """What stage 1 has read, by path, and what came of it, by id."""

    files: dict[str, File] = field(default_factory=dict)
    utterances: dict[str, Utterance] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with atomic(path) as tmp, open(tmp, "w", encoding="ascii") as out:
            for kind, table in (("file", self.files), ("utterance", self.utterances)):
                out.writelines(json.dumps([kind, k, *v]) + "\n" for k, v in table.items())

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read what `save` wrote; raises `InputError`."""
        record = cls()
        for kind, key, values in _lines(path):
            if kind == "file":
                record.files[key] = File(*values)
            else:
                record.utterances[key] = Utterance(*values)
        return record


def _lines(path: Path) -> Iterator[tuple[str, str, list]]:
    file_size(path)
    with open(path, encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            try:
                kind, key, *values = loads(line)
                if len(values) != {"file": 3, "utterance": 4}[kind]:
                    raise ValueError
            except (ValueError, TypeError, KeyError) as e:
                raise InputError(f"{path}:{number}: no record of a source: remove it") from e
            yield kind, key, values


def stamp(path: str) -> tuple[int, int]:
    """Size and time of a file; of a folder, whose size says nothing, the time."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return NOTHING
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns


def look(roots: Iterable[str], apart: Iterable[str]) -> dict[str, File]:
    """Every file and folder of a source as it stands, links followed; nothing is read.

    Args:
        roots: files and folders, without links (`os.path.realpath`).
        apart: folders that are none of it, wherever they lie.
    """
    found: dict[str, File] = {}
    seen = {os.path.realpath(folder) for folder in apart}
    for root in roots:
        found[root] = File(*stamp(root))
        for folder, inner, names in os.walk(root, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:  # or a link leads round in circles
                inner.clear()
                continue
            seen.add(place)
            for path in (place, *(os.path.join(place, name) for name in names)):
                found[path] = File(*stamp(path))
                if os.path.islink(path):
                    real = os.path.realpath(path)
                    found[real] = File(*stamp(real))
    return found


def first_change(path: Path, roots: Iterable[str]) -> str | None:
    """The first file of a record with another size or time, or root that it lacks, if any."""
    left = set(roots)
    for kind, key, values in _lines(path):
        if kind == "file":
            left.discard(key)
            if stamp(key) != tuple(values[:2]):
                return key
    return min(left, default=None)


def is_gone(path: Path, roots: Iterable[str]) -> bool:
    """Whether the source of a record is out of reach, as on a disk that is not there.

    No file is in its place, or all tables are as they were and none of the audio is there.
    """
    if not any(os.path.isfile(root) or any(x[2] for x in os.walk(root)) for root in roots):
        return True
    audio = False
    for kind, key, (size, *rest) in _lines(path):
        if kind == "file" and rest[-1] is not None:
            audio = True
            if os.path.lexists(key):
                return False
        elif kind == "file" and size > 0 and stamp(key) != (size, rest[0]):
            return False
    return audio


def take(data: Path, before: Mapping[str, File], nj: int, known: Mapping[str, File]) -> Record:
    """The record of what stage 1 has just made.

    Args:
        data: its folders of train, dev and test.
        before: the source as it was seen before (`look`), so that a change meanwhile is found.
        nj: files that are read at a time.
        known: an older record's; a file as large and as old as there is not read again.
    """
    record = Record(dict(before))
    audio: dict[str, str] = {}  # by what stands in wav.scp: what tells one from another
    tables = {split: _tables(data / split) for split in SPLITS}
    wanted = dict.fromkeys(w for wav, *_ in tables.values() for w in wav.values())
    files = dict.fromkeys(p for w in wanted for p in (named_files(w) if is_command(w) else [w]))
    root = f"{os.path.realpath(data)}/"

    def read(path: str) -> File:
        old, now = known.get(path), before.get(path) or File(*stamp(path))
        if old and old.sha256 and old.stamp == now.stamp:
            return old
        try:
            return File(*now.stamp, sha256(path))
        except OSError:
            return File(*now.stamp, "unreadable")

    with ThreadPoolExecutor(nj) as pool:
        contents = dict(zip(files, pool.map(read, files), strict=True))
    for path, file in contents.items():
        if not path.startswith(root):  # else it is our own
            record.files[path] = file
    for wav in wanted:
        if is_command(wav):
            audio[wav] = _hash(wav, *(contents[p].sha256 for p in named_files(wav)))
        else:
            where = "" if wav.startswith(root) else wav
            audio[wav] = _hash(where, contents[wav].sha256)
    for split, (wav, text, *about) in tables.items():
        for utt, source in wav.items():
            rest = _hash(*(table.get(utt, "") for table in about))
            said = _hash(text.get(utt, ""))
            record.utterances[utt] = Utterance(split, said, audio[source], rest)
    for path in _left_out(data / LEFT_OUT):
        record.files.setdefault(path, File(*stamp(path)))
    return record


def _tables(folder: Path) -> tuple[dict[str, str], ...]:
    """Audio, text, speaker, language and segment of a split's utterances, as they are written."""
    names = ("wav.scp", "text", "utt2spk", "utt2lang", "segments")
    wav, text, speaker, language, segments = (scan(folder / name, empty=True)[0] for name in names)
    if segments:
        wav = {utt: wav[part.split()[0]] for utt, part in segments.items()}
    return wav, text, speaker, language, segments


def _left_out(path: Path) -> Iterator[str]:
    """Files whose audio stage 1 could not read: another day they may be whole, or there."""
    with open(path, encoding="utf-8") as rows:
        for row in rows:
            file = row.rstrip("\n").split("\t")[-1].partition(": ")[0]
            if os.path.isabs(file):
                yield file


def _hash(*values: str | None) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def differences(old: Record, new: Record) -> str:
    """How the utterances of one record differ from those of another, in words; "" if not at all."""
    before, now = old.utterances, new.utterances
    added, removed = now.keys() - before.keys(), before.keys() - now.keys()
    words = [
        _counted(utts, what) for utts, what in ((added, "added"), (removed, "removed")) if utts
    ]
    both = before.keys() & now.keys()
    for kind, what in KINDS.items():
        changed = {utt for utt in both if getattr(before[utt], kind) != getattr(now[utt], kind)}
        if changed:
            words.append(_counted(changed, what))
    return ", ".join(words)


def _counted(utts: set[str], what: str) -> str:
    return f"{len(utts)} recording{'s' * (len(utts) > 1)} {what} (such as {min(utts)})"
