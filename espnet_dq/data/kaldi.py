"""Kaldi data folders: read, check, and write them whole.

A folder holds `wav.scp text utt2spk spk2utt utt2lang`, one `KEY VALUE` a line, UTF-8, in the
byte order of the keys (`LC_ALL=C sort`). Relative paths in `wav.scp` are relative to the
current folder, as in Kaldi. Commands in `wav.scp` (lines that end in `|`) are refused: a data
folder must not be able to run programs.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.files import atomic, sha256

FILES = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2lang")


@cache
def whisper_languages() -> frozenset[str]:
    """Whisper's language codes (`en`, `yue`, ...), from openai-whisper's own table."""
    from whisper.tokenizer import LANGUAGES  # imports torch: not for the workers that decode

    return frozenset(LANGUAGES)


def scan(path: Path | str, empty: bool = False) -> tuple[dict[str, str], list[str]]:
    """Read a Kaldi table and list what is wrong in it.

    Args:
        path: A file with one `KEY VALUE` a line.
        empty: Allow a key without a value, as in the `text` of a decode that heard nothing.

    Returns:
        The entries of the good lines in file order, and one fault (`path:line: what`) for each
        bad line. The order of the keys is not looked at here.
    """
    try:
        raw = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}, [f"{path}: no such file"]
    entries: dict[str, str] = {}
    faults = []
    if raw.startswith(b"\xef\xbb\xbf"):
        faults.append(f"{path}:1: begins with a byte order mark")
        raw = raw[3:]
    lines = raw.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        fault = None
        try:
            key, _, value = re.sub(r"[ \t]+", " ", line.decode("utf-8"), count=1).partition(" ")
        except UnicodeDecodeError:
            faults.append(f"{path}:{number}: not UTF-8")
            continue
        value = value.strip(" \t")
        if line.endswith(b"\r"):
            fault = "ends in CR LF, not LF"
        elif not key:
            fault = "empty line or a space before the key"
        elif key in entries:
            fault = f"key '{key}' stands twice"
        elif not value and not empty:
            fault = f"nothing after the key '{key}'"
        if fault:
            faults.append(f"{path}:{number}: {fault}")
        else:
            entries[key] = value
    return entries, faults


def read_scp(path: Path | str, empty: bool = False) -> dict[str, str]:
    """Entries of a Kaldi table: key -> rest of the line, in file order.

    Args:
        path: A file with one `KEY VALUE` a line.
        empty: Allow a key without a value (an empty hypothesis).

    Raises:
        InputError: With `path:line`, on a missing file, a byte order mark, CR LF, bad UTF-8,
            an empty line, a key that stands twice, or an empty value.

    Example usage::

        wav = read_scp("data/test/wav.scp")
    """
    entries, faults = scan(path, empty)
    if faults:
        raise InputError(faults[0])
    return entries


def write_scp(path: Path | str, entries: dict[str, str]) -> None:
    """Write a Kaldi table, sorted by key in byte order, whole or not at all."""
    # Code point order is the byte order of UTF-8, so `sorted` is `LC_ALL=C sort`.
    lines = [f"{key} {entries[key]}".rstrip() + "\n" for key in sorted(entries)]
    with atomic(path) as tmp:
        tmp.write_text("".join(lines), encoding="utf-8", newline="\n")


def spk2utt(utt2spk: dict[str, str]) -> dict[str, str]:
    """`speaker -> "utt utt ..."` of an `utt2spk` table, utterances in byte order."""
    utts: dict[str, list[str]] = {}
    for utt in sorted(utt2spk):
        utts.setdefault(utt2spk[utt], []).append(utt)
    return {speaker: " ".join(of) for speaker, of in utts.items()}


@dataclass
class KaldiDir:
    """The tables of a data folder, each `utterance -> value`, all with the same keys.

    `wav` holds paths, `text` transcripts as written, `utt2lang` Whisper's language codes, and
    `extra` further tables by file name (`utt2num_samples`, ...).

    Example usage::

        data = KaldiDir.load("data/train")
        data.select(u for u in data.wav if data.utt2lang[u] == "ru").save("data/train_ru")
    """

    wav: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    utt2lang: dict[str, str] = field(default_factory=dict)
    extra: dict[str, dict[str, str]] = field(default_factory=dict)

    def tables(self) -> dict[str, dict[str, str]]:
        """File name -> table, of all that have one line an utterance."""
        core = {"wav.scp": self.wav, "text": self.text}
        return core | {"utt2spk": self.utt2spk, "utt2lang": self.utt2lang} | self.extra

    @classmethod
    def load(cls, path: Path | str, extra: Iterable[str] = ()) -> "KaldiDir":
        """Read a folder's tables, and the ones named in `extra`, without cross-checks.

        Raises:
            InputError: A file is missing or a line is broken (see `read_scp`).
        """
        path = Path(path)
        core = [read_scp(path / name) for name in ("wav.scp", "text", "utt2spk", "utt2lang")]
        return cls(*core, {name: read_scp(path / name) for name in extra})

    def save(self, path: Path | str) -> None:
        """Write the folder whole or not at all; it replaces an older one at `path`."""
        with atomic(path) as tmp:
            tmp.mkdir()
            for name, table in self.tables().items():
                if table.keys() != self.wav.keys():
                    raise ValueError(f"{name} and wav.scp have different keys")
                write_scp(tmp / name, table)
            write_scp(tmp / "spk2utt", spk2utt(self.utt2spk))

    def fingerprint(self) -> str:
        """SHA-256 of all tables, each audio file's bytes in the place of its path."""
        audio = {utt: sha256(path) for utt, path in self.wav.items()}
        text = json.dumps({**self.tables(), "wav.scp": audio}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def select(self, utts: Iterable[str]) -> "KaldiDir":
        """The same tables with only the utterances `utts`."""
        utts = list(utts)
        wav, text, utt2spk, utt2lang, *extra = (
            {utt: table[utt] for utt in utts} for table in self.tables().values()
        )
        return KaldiDir(wav, text, utt2spk, utt2lang, dict(zip(self.extra, extra, strict=True)))


def faults(path: Path | str) -> list[str]:
    """All that is wrong with a data folder, one line each; an empty list for a good one."""
    path = Path(path)
    if not path.is_dir():
        return [f"{path}: no such folder"]
    tables: dict[str, dict[str, str]] = {}
    found: list[str] = []
    for name in FILES:
        tables[name], broken = scan(path / name)
        found += broken
        for before, key in pairwise(tables[name]):
            if key < before:
                found.append(f"{path / name}: not sorted: '{key}' stands after '{before}'")
                break
    if found:  # further checks would only repeat the same faults in other words
        return found
    wav = tables["wav.scp"]
    if not wav:
        return [f"{path / 'wav.scp'}: no utterances"]
    for name in ("text", "utt2spk", "utt2lang"):
        other = tables[name]
        found += [f"{path / name}: no line for '{u}' of wav.scp" for u in wav if u not in other]
        found += [f"{path / name}: '{u}' is not in wav.scp" for u in other if u not in wav]
    for utt, audio in wav.items():
        if audio.endswith("|"):
            found.append(f"{path / 'wav.scp'}: '{utt}' is a command, which is not run: {audio}")
        elif not Path(audio).is_file():
            found.append(f"{path / 'wav.scp'}: '{utt}': no such file: {audio}")
    for utt, lang in tables["utt2lang"].items():
        if lang not in whisper_languages():
            found.append(f"{path / 'utt2lang'}: '{utt}': not a language code of Whisper: {lang}")
    derived = spk2utt(tables["utt2spk"])
    for speaker in sorted(derived.keys() | tables["spk2utt"].keys()):
        if derived.get(speaker) != tables["spk2utt"].get(speaker):
            found.append(f"{path / 'spk2utt'}: '{speaker}' does not agree with utt2spk")
    return found


def validate(path: Path | str) -> KaldiDir:
    """Load a data folder that is fit for use.

    Raises:
        InputError: The first fault found, naming file and line or utterance (see `faults`).
    """
    found = faults(path)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(found[0] + more)
    return KaldiDir.load(path)
