"""What is wrong with a Kaldi data folder."""

import os
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

from espnet_dq.data.kaldi import FILES, KaldiDir, absent, is_command, scan, spk2utt
from espnet_dq.data.languages import whisper_code
from espnet_dq.data.names import path_fault
from espnet_dq.data.segments import Segment
from espnet_dq.errors import InputError

Texts = Literal["needed", "may be empty", "none"]  # see `check`


@cache
def whisper_languages() -> frozenset[str]:
    """Whisper's language codes (`en`, `yue`, ...), from openai-whisper's own table."""
    from whisper.tokenizer import LANGUAGES  # imports torch: not for the workers that decode

    return frozenset(LANGUAGES)


def faults(path: Path | str, allow_pipes: bool = False) -> list[str]:
    """All that is wrong with a data folder, one line each; an empty list for a good one.

    Args:
        path: The folder.
        allow_pipes: Commands in `wav.scp` are no fault.
    """
    return check(Path(path), allow_pipes, None, "needed")[1]


def check(
    path: Path, allow_pipes: bool, lang: str | None, text: Texts, names: bool = False
) -> tuple[KaldiDir, list[str]]:
    """The folder, of use if there are no faults, and its `faults`.

    Args:
        path: The folder.
        allow_pipes: Commands in `wav.scp` are no fault.
        lang: The language of all utterances; `utt2lang` is then not looked at.
        text: `needed`; `may be empty`, of single utterances; `none`: it is not looked at and need
            not be there, all utterances have an empty text.
        names: Languages may have others than Whisper's codes, which they get (`whisper_code`).
    """
    if not path.is_dir():
        return KaldiDir(), [f"{path}: no such folder"]
    tables: dict[str, dict[str, str]] = {}
    segments: dict[str, Segment] = {}
    found: list[str] = []
    not_needed = {"utt2lang": lang is not None, "text": text == "none"}
    files = [name for name in FILES if not not_needed.get(name)]
    if (path / "segments").exists():
        files.insert(1, "segments")
    for name in files:
        if name == "segments":
            segments, broken = scan_segments(path / name)
            tables[name] = dict.fromkeys(segments, "")
        else:
            tables[name], broken = scan(path / name, text == "may be empty" and name == "text")
        if name == "utt2lang" and not (path / name).exists():
            broken = [f"{path / name}: no such file, and no --language is given"]
        found += broken
        for before, key in pairwise(tables[name]):
            if key < before:
                found.append(f"{path / name}: not sorted: '{key}' stands after '{before}'")
                break
    if found:  # further checks would only repeat the same faults in other words
        return KaldiDir(), found
    recordings = tables.pop("wav.scp")
    found += _audio_faults(path / "wav.scp", recordings, allow_pipes)
    keys, wav = "wav.scp", recordings
    if "segments" in tables:
        keys, wav = "segments", {}
        for utt, part in segments.items():
            if part.recording not in recordings:
                found.append(f"{path / keys}: '{utt}': '{part.recording}' is not in wav.scp")
            wav[utt] = recordings.get(part.recording, "")
    if not wav:
        return KaldiDir(), [*found, f"{path / keys}: no utterances"]
    languages = tables.setdefault("utt2lang", dict.fromkeys(wav, lang or ""))
    if names:
        languages |= {utt: whisper_code(name) or name for utt, name in languages.items()}
    tables.setdefault("text", dict.fromkeys(wav, ""))
    found += _table_faults(path, tables, keys, wav)
    data = KaldiDir(wav, tables["text"], tables["utt2spk"], languages, {}, segments)
    return data, found


def _audio_faults(table: Path, recordings: dict[str, str], allow_pipes: bool) -> Iterator[str]:
    """What cannot be heard of `wav.scp`."""
    for number, (key, audio) in enumerate(recordings.items(), 1):
        if is_command(audio):
            if not allow_pipes:
                why = f"'{key}' is a command, which is run only with --allow_pipes: {audio}"
                yield f"{table}:{number}: {why}"
        elif fault := path_fault(audio):
            yield f"{table}:{number}: '{key}': the path {fault}: {audio}"
        elif not os.path.isfile(audio):
            yield f"{table}:{number}: '{key}': {absent(audio)}"


def _table_faults(
    path: Path, tables: dict[str, dict[str, str]], keys: str, wav: dict[str, str]
) -> Iterator[str]:
    """Where the tables do not agree with each other, or Whisper does not know a language.

    `keys` is the table that says which utterances there are, and `wav` has these.
    """
    for name in ("text", "utt2spk", "utt2lang"):
        other = tables[name]
        yield from (f"{path / name}: no line for '{u}' of {keys}" for u in wav if u not in other)
        yield from (f"{path / name}: '{u}' is not in {keys}" for u in other if u not in wav)
    for utt, code in tables["utt2lang"].items():
        if code not in whisper_languages():
            yield f"{path / 'utt2lang'}: '{utt}': not a language code of Whisper: {code}"
    derived = spk2utt(tables["utt2spk"])
    for speaker in sorted(derived.keys() | tables["spk2utt"].keys()):
        if derived.get(speaker) != tables["spk2utt"].get(speaker):
            yield f"{path / 'spk2utt'}: '{speaker}' does not agree with utt2spk"


def validate(
    path: Path | str,
    allow_pipes: bool = False,
    lang: str | None = None,
    text: Texts = "needed",
    names: bool = False,
) -> KaldiDir:
    """Load a data folder that is fit for use; arguments as those of `check`.

    Raises:
        InputError: The first fault found, naming file and line or utterance.
    """
    data, found = check(Path(path), allow_pipes, lang, text, names)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(found[0] + more)
    return data


def scan_segments(path: Path) -> tuple[dict[str, Segment], list[str]]:
    """The entries of a `segments` file and its faults, as `scan` gives them."""
    lines, faults = scan(path)
    if faults:
        return {}, faults
    segments = {}
    for number, (utt, line) in enumerate(lines.items(), 1):
        try:
            segments[utt] = Segment.parse(line)
        except ValueError as e:
            faults.append(f"{path}:{number}: '{utt}': {e}")
    return segments, faults
