"""Kaldi data folders: read and write them whole; `espnet_dq.data.validation` checks them.

A folder holds `wav.scp text utt2spk spk2utt utt2lang`, one `KEY VALUE` a line, UTF-8, in the
byte order of the keys (`LC_ALL=C sort`). Relative paths in `wav.scp` are relative to the
current folder, as in Kaldi. With `segments` beside it, `wav.scp` holds recordings and each
utterance is a part of one; stage 2 cuts them. Commands in `wav.scp` (lines that end in `|`) are
refused unless they are asked for: a data folder must not be able to run programs.
"""

import hashlib
import json
import os
import random
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from espnet_dq.data.names import key_fault, text_fault
from espnet_dq.data.segments import NUMBER, Segment
from espnet_dq.errors import InputError, shown
from espnet_dq.files import Folder, atomic, sha256

FILES = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2lang")
AUDIO = "utt2sha256"  # a table with the hash of each utterance's audio file
CATEGORY = "utt2category"  # a table by which ESPnet's `folded` batches are of one kind each
KIND, SET = "utt2kind", "utt2set"  # tables of a canary
# A Kaldi folder of ours: its tables, and the reports that its writers put beside them.
FOLDER = Folder(
    "Kaldi",
    (
        *FILES,
        "segments",
        "utt2num_samples",
        "utt2dur",
        "utt2prompt",
        AUDIO,
        CATEGORY,
        KIND,
        SET,
        "labels.json",
        "left_out.json",
        "sources.json",
    ),
)
FEW = 1000  # values of a table that are kept once, however often they occur
# Tables of numbers; Python's own reading takes more for one.
_NUMBERS = {"utt2num_samples": re.compile("[0-9]{1,12}"), "utt2dur": NUMBER}


def scan(path: Path | str, empty: bool = False) -> tuple[dict[str, str], list[str]]:
    """Read a Kaldi table and list what is wrong in it.

    Args:
        path: A file with one `KEY VALUE` a line.
        empty: Allow a key without a value, as in the `text` of a decode that heard nothing.

    Returns:
        The entries of the good lines in file order, and one fault (`path:line: what`) for each
        bad line. The order of the keys is not looked at here.
    """
    if not os.path.isfile(path):  # of a pipe or a device there may be no end
        return {}, [f"{path}: no such file"]
    with open(path, "rb") as file:
        return _scan(file, path, empty)


def _scan(file: BinaryIO, path: Path | str, empty: bool) -> tuple[dict[str, str], list[str]]:
    """`scan` of an open file, line by line: a table may have millions of them."""
    entries: dict[str, str] = {}
    faults = []
    few: dict[str, str] = {}  # languages, speakers: values that occur again and again
    for number, line in enumerate(file, 1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            faults.append(f"{path}:1: begins with a byte order mark")
            line = line[3:]
        line = line.removesuffix(b"\n")
        fault = None
        try:
            key, _, value = re.sub(r"[ \t]+", " ", line.decode("utf-8"), count=1).partition(" ")
        except UnicodeDecodeError:
            faults.append(f"{path}:{number}: not UTF-8")
            continue
        value = value.strip(" \t")
        if line.endswith(b"\r"):
            fault = "ends in CR LF, not LF"
        elif b"\r" in line:
            fault = "holds a CR, which ends a line for ESPnet"
        elif not key:
            fault = "empty line or a space before the key"
        elif odd := key_fault(key):
            fault = f"the key {key!r} {odd}"
        elif odd := text_fault(value):
            fault = f"what stands after the key '{key}' {odd}"
        elif key in entries:
            fault = f"key '{key}' stands twice"
        elif not value and not empty:
            fault = f"nothing after the key '{key}'"
        if fault:
            faults.append(f"{path}:{number}: {fault}")
        else:
            value = few.get(value, value) if len(few) == FEW else few.setdefault(value, value)
            entries[sys.intern(key)] = value  # which the other tables have, too
    return entries, faults


def read_scp(path: Path | str, empty: bool = False) -> dict[str, str]:
    """Entries of a Kaldi table: key -> rest of the line, in file order.

    Args:
        path: A file with one `KEY VALUE` a line.
        empty: Allow a key without a value (an empty hypothesis).

    Raises:
        InputError: With `path:line`, on a missing file, a byte order mark, CR LF, bad UTF-8,
            an empty line, a key that stands twice, or an empty value; of a count of samples or
            a duration, what is no such number.

    Example usage::

        wav = read_scp("data/test/wav.scp")
    """
    entries, faults = scan(path, empty)
    if faults:
        raise InputError(faults[0])
    if kind := _NUMBERS.get(os.path.basename(path)):
        for key, value in entries.items():
            if not kind.fullmatch(value):
                raise InputError(f"{path}: '{key}': {shown(value)} is no number")
    return entries


def write_scp(path: Path | str, entries: dict[str, str]) -> None:
    """Write a Kaldi table, sorted by key in byte order, whole or not at all.

    Raises:
        InputError: A line break is in it: what follows would be a line of its own.
    """
    for key, value in entries.items():
        line = f"{key} {value}"
        if re.search(r"[\r\n]", line):
            raise InputError(f"{path}: a line break in {key!r}: {value!r}")
        if fault := text_fault(line):
            raise InputError(f"{path}: {line!r} {fault}")
    # Code point order is the byte order of UTF-8, so `sorted` is `LC_ALL=C sort`.
    with atomic(path) as tmp, open(tmp, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{key} {entries[key]}".rstrip() + "\n" for key in sorted(entries))


def spk2utt(utt2spk: dict[str, str]) -> dict[str, str]:
    """`speaker -> "utt utt ..."` of an `utt2spk` table, utterances in byte order."""
    utts: dict[str, list[str]] = {}
    for utt in sorted(utt2spk):
        utts.setdefault(utt2spk[utt], []).append(utt)
    return {speaker: " ".join(of) for speaker, of in utts.items()}


def absent(path: str) -> str:
    """What to say of an entry of `wav.scp` that is no file."""
    if re.search(r"\.ark:\d+$", path):
        return f"parts of Kaldi archives are not read, copy them to files: {path}"
    return f"no such file: {path}"


def is_command(wav: str) -> bool:
    """Whether an entry of `wav.scp` is a command whose output is the audio, not a file."""
    return wav.endswith("|")


def named_files(wav: str) -> list[str]:
    """The files that a command in `wav.scp` names, which it most likely reads."""
    command = wav.removesuffix("|")
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)  # of `<x.wav`, too
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:  # quotes that only the shell understands
        words = command.split()
    return [word for word in words if os.path.isfile(word)]


def absolute(wav: str) -> str:
    """The path of an audio file with all links followed; the same object if it is so already.

    It may be of no file, as where links go round in circles.
    """
    place = os.path.realpath(wav)
    return wav if wav == place else place  # millions of them are in memory once, not twice


def read_wav(folder: Path | str) -> dict[str, str]:
    """The `wav.scp` of a folder with one file an utterance, as stage 2 leaves it.

    Raises:
        InputError: It has `segments`, which are to be cut first; or see `read_scp`.
    """
    folder = Path(folder)
    if (folder / "segments").exists():
        raise InputError(f"{folder / 'segments'}: cut it first, with espnet_dq.bin.format_data")
    return read_scp(folder / "wav.scp")


@dataclass
class KaldiDir:
    """The tables of a data folder, each `utterance -> value`, all with the same keys.

    `wav` holds paths (or commands), `text` transcripts as written, `utt2lang` Whisper's language
    codes, and `extra` further tables by file name (`utt2num_samples`, ...). `segments` is empty,
    or says of every utterance which part of `wav` it is; `wav` is then the recording's.

    Example usage::

        data = KaldiDir.load("data/train")
        data.select(u for u in data.wav if data.utt2lang[u] == "ru").save("data/train_ru")
    """

    wav: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    utt2lang: dict[str, str] = field(default_factory=dict)
    extra: dict[str, dict[str, str]] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)

    def tables(self) -> dict[str, dict[str, str]]:
        """File name -> table, of all that have one line an utterance."""
        core = {"wav.scp": self.wav, "text": self.text}
        return core | {"utt2spk": self.utt2spk, "utt2lang": self.utt2lang} | self.extra

    @classmethod
    def load(cls, path: Path | str, extra: Iterable[str] = ()) -> "KaldiDir":
        """Read the tables of a folder without segments, and the ones in `extra`.

        Raises:
            InputError: A file is missing or a line is broken (see `read_scp`, `read_wav`), or the
                tables are not of the same utterances.
        """
        path = Path(path)
        core = [read_wav(path), *(read_scp(path / x) for x in ("text", "utt2spk", "utt2lang"))]
        return cls(*core, {name: read_scp(path / name) for name in extra}).check(path)

    def check(self, path: Path | str) -> "KaldiDir":
        """Itself; raises `InputError`, naming the table in `path`, if one has other utterances."""
        for name, table in self.tables().items():
            if missing := self.wav.keys() - table.keys():
                raise InputError(f"{path}/{name}: no line for '{min(missing)}' of wav.scp")
            if more := table.keys() - self.wav.keys():
                raise InputError(f"{path}/{name}: '{min(more)}' is not in wav.scp")
        return self

    def save(self, path: Path | str) -> None:
        """Write the folder whole or not at all; it replaces an older one at `path`.

        Raises:
            InputError: Two files are given as the recording of one name, or something else than
                such a folder is at `path`.
        """
        with atomic(path, FOLDER) as tmp:
            tmp.mkdir()
            tables = self.tables()
            if self.segments:
                tables["segments"] = {utt: str(part) for utt, part in self.segments.items()}
            for name, table in tables.items():
                if table.keys() != self.wav.keys():
                    raise ValueError(f"{name} and wav.scp have different keys")
                write_scp(tmp / name, table)
            if self.segments:
                recordings: dict[str, str] = {}
                for utt, wav in self.wav.items():
                    name = self.segments[utt].recording
                    if recordings.setdefault(name, wav) != wav:
                        files = f"{recordings[name]} and {wav}"
                        raise InputError(f"{path}: recording '{name}' is both {files}")
                write_scp(tmp / "wav.scp", recordings)
            write_scp(tmp / "spk2utt", spk2utt(self.utt2spk))

    def audio(self) -> dict[str, str]:
        """SHA-256 of each utterance's file: of the table that says so, or else of its bytes."""
        if AUDIO in self.extra:
            return self.extra[AUDIO]
        for utt, path in self.wav.items():
            if not os.path.isfile(path):
                raise InputError(f"'{utt}': {absent(path)}")
        files = {path: sha256(path) for path in set(self.wav.values())}
        return {utt: files[path] for utt, path in self.wav.items()}

    def fingerprint(self) -> str:
        """SHA-256 of all tables, each audio file's bytes in the place of its path."""
        tables = {**self.tables(), "wav.scp": self.audio()}
        # The JSON of all of them, of which only one table's is ever in memory.
        found = hashlib.sha256()
        for number, name in enumerate(sorted(tables)):
            text = f"{', ' if number else '{'}{json.dumps(name)}: "
            found.update((text + json.dumps(tables[name], sort_keys=True)).encode())
        found.update(b"}")
        return found.hexdigest()

    def add(
        self,
        utt: str,
        wav: Path | str,
        text: str,
        speaker: str,
        language: str,
        segment: Segment | None = None,
        **extra: object,
    ) -> None:
        """Put an utterance into all tables, or another in its place; `extra` by file name."""
        self.wav[utt], self.text[utt] = str(wav), text
        self.utt2spk[utt], self.utt2lang[utt] = speaker, language
        if segment:
            self.segments[utt] = segment
        for name, value in extra.items():
            self.extra.setdefault(name, {})[utt] = str(value)

    def speaker(self, utt: str) -> str:
        """Who says an utterance; empty if nobody knows: Kaldi then has the utterance's own name."""
        return "" if self.utt2spk[utt] == utt else self.utt2spk[utt]

    def update(self, other: "KaldiDir") -> None:
        """Take in the utterances of a folder with the same tables; of one id, those."""
        others = other.tables()
        for name, table in self.tables().items():
            table.update(others[name])
        self.segments.update(other.segments)

    def remove(self, utts: Iterable[str]) -> None:
        """Take utterances out of all tables, in place."""
        for utt in utts:
            for table in self.tables().values():
                del table[utt]
            self.segments.pop(utt, None)

    def select(self, utts: Iterable[str]) -> "KaldiDir":
        """The same tables with only the utterances `utts`."""
        utts = list(utts)
        wav, text, utt2spk, utt2lang, *extra = (
            {utt: table[utt] for utt in utts} for table in self.tables().values()
        )
        extra = dict(zip(self.extra, extra, strict=True))
        segments = {utt: self.segments[utt] for utt in utts if utt in self.segments}
        return KaldiDir(wav, text, utt2spk, utt2lang, extra, segments)

    def draw(self, per_language: int, seed: int = 0) -> "KaldiDir":
        """At most so many utterances of each language, drawn by `seed` and their ids alone."""
        by_language: dict[str, list[str]] = {}
        for utt in sorted(self.utt2lang):
            by_language.setdefault(self.utt2lang[utt], []).append(utt)
        drawn: list[str] = []
        for lang, utts in by_language.items():
            count = min(per_language, len(utts))
            drawn += random.Random(f"{seed} {lang}").sample(utts, count)
        return self.select(sorted(drawn))
