"""One 16 kHz WAV for each utterance: decoded, cut out of a recording, or from a command's output.

A recording is decoded once for all of its utterances, a damaged one twice.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from espnet_dq.data.audio import (
    SAMPLE_RATE,
    at_16k,
    content_mark,
    limited,
    load_around,
    load_audio,
    naming,
    read_audio,
    save_wav,
    to_wav,
)
from espnet_dq.data.command import load_command
from espnet_dq.data.faults import CRASH, AudioFault
from espnet_dq.data.kaldi import KaldiDir, absolute, is_command, named_files
from espnet_dq.data.parallel import DIED
from espnet_dq.data.segments import Segment
from espnet_dq.data.unfit import sound_fault
from espnet_dq.files import file_name, sha256

CLEAR = 1.0  # seconds between damage and a segment that is kept
OVERSHOOT = 0.5  # seconds by which a segment may end behind its recording, as in Kaldi


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of a file or of a command's output, and the utterances in it."""

    wav: str  # as in wav.scp
    channel: int | None
    parts: list[tuple[str, Segment]]  # utterance, where it is


@dataclass(frozen=True, slots=True)
class Piece:
    """An utterance's own audio, or why there is none of use."""

    utt: str
    path: str  # its file; of a fault, what is wrong with which
    samples: int = 0
    fault: str | None = None  # the cause, in a few words


def jobs(data: KaldiDir) -> tuple[Iterator[Recording], int]:
    """What there is to decode, each file, command and channel once, and how many they are."""
    found: dict[str | tuple[str, int], str | list[str]] = {}
    for utt, wav in data.wav.items():
        part = data.segments.get(utt)
        key = wav if part is None or part.channel is None else (wav, part.channel)
        # Most have one utterance, and there may be millions.
        others = found.setdefault(key, utt)
        if isinstance(others, list):
            others.append(utt)
        elif others != utt:
            found[key] = [others, utt]

    def recordings() -> Iterator[Recording]:
        for key, utts in found.items():
            utts = [utts] if isinstance(utts, str) else utts
            wav, channel = (key, None) if isinstance(key, str) else key
            parts = [(utt, data.segments.get(utt, Segment(utt))) for utt in utts]
            yield Recording(wav, channel, parts)

    return recordings(), len(found)


def cut(wav_dir: Path, recording: Recording, most: float = inf) -> list[Piece]:
    """Write the utterances of a recording into `wav_dir`; runs in a worker.

    Of a file that is one utterance of more than `most` seconds no more is decoded.

    A file that is fit for use already, 16 kHz and mono, is used where it is if the utterance is
    all of it, and so is the audio of an earlier run, if it was made of the same.
    """
    try:
        return _cut_command(wav_dir, recording) or _cut_file(wav_dir, most, recording)
    except AudioFault as e:
        return [Piece(utt, str(e), fault=e.cause) for utt, _ in recording.parts]


def died(recording: Recording) -> list[Piece]:
    """What becomes of the utterances of a recording that ends its worker."""
    return [Piece(utt, f"{recording.wav}: {DIED}", fault=CRASH) for utt, _ in recording.parts]


def _cut_command(wav_dir: Path, recording: Recording) -> list[Piece]:
    """Those of a command's output; of a file, none."""
    if not is_command(recording.wav):
        return []
    command = recording.wav.removesuffix("|")
    # What a command writes is not known before it has run, but most read a file that they name.
    with naming(f"'{command}'"):
        read = [sha256(path) for path in named_files(recording.wav)]
    paths = _paths(wav_dir, recording, " ".join([command, *read]))
    if not all(path.exists() for path in paths.values()):
        _write(recording, paths, load_command(command, recording.channel))
    return list(_pieces(recording.wav, paths))


def _cut_file(wav_dir: Path, most: float, recording: Recording) -> list[Piece]:
    source = absolute(recording.wav)
    whole = all(part.start == 0 and part.end is None for _, part in recording.parts)
    if whole and not recording.channel and at_16k(Path(source), channels=1):
        samples, fault = sound_fault(limited(source, read_audio(source), most))
        return [Piece(utt, source, samples, fault) for utt, _ in recording.parts]
    paths = _paths(wav_dir, recording, content_mark(source))
    if whole:
        for path in paths.values():
            to_wav(Path(source), path, recording.channel, most)  # block by block
    elif not all(path.exists() for path in paths.values()):
        fault = None
        try:
            _write(recording, paths, load_audio(source, recording.channel))
        except AudioFault as e:
            fault = AudioFault(str(e), e.cause)  # which does not hold what was decoded
        if fault:
            return _around(recording, paths, fault)
    return list(_pieces(recording.wav, paths))


def _around(recording: Recording, paths: dict[str, Path], fault: AudioFault) -> list[Piece]:
    """The utterances of a damaged recording: those clear of all damage, and of others the fault."""
    try:
        sound, first, last = load_around(absolute(recording.wav), recording.channel)
    except AudioFault:
        raise fault from None
    clear = [
        (utt, part)
        for utt, part in recording.parts
        if (part.end or inf) < first - CLEAR or part.start > last + CLEAR
    ]
    _write(replace(recording, parts=clear), paths, sound)
    kept = {utt: paths.pop(utt) for utt, _ in clear}
    lost = (Piece(utt, str(fault), fault=fault.cause) for utt in paths)
    return [*_pieces(recording.wav, kept), *lost]


def _pieces(wav: str, paths: dict[str, Path]) -> Iterator[Piece]:
    """The utterances as they are; those without a file lie outside their recording."""
    for utt, path in paths.items():
        if not path.exists():
            yield Piece(utt, f"not in {wav}", fault="segment outside its recording")
            continue
        try:
            yield Piece(utt, str(path), *sound_fault(read_audio(path)))
        except AudioFault as e:  # without a sample
            yield Piece(utt, str(e), fault=e.cause)


def _paths(wav_dir: Path, recording: Recording, mark: str) -> dict[str, Path]:
    """Where each utterance's audio goes: another file if it is of another sound."""
    paths = {}
    for utt, part in recording.parts:
        origin = f"{mark} {recording.channel} {part.start} {part.end}"
        origin = hashlib.sha256(origin.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        paths[utt] = wav_dir / f"{file_name(utt)}.{origin}.wav"
    return paths


def _write(recording: Recording, paths: dict[str, Path], sound: np.ndarray) -> None:
    """Write the parts of (samples,), but for those outside."""
    for utt, part in recording.parts:
        first = round(part.start * SAMPLE_RATE)
        last = len(sound) if part.end is None else round(part.end * SAMPLE_RATE)
        inside = first < len(sound) and last <= len(sound) + OVERSHOOT * SAMPLE_RATE
        if inside and not paths[utt].exists():
            save_wav(paths[utt], sound[first:last])
