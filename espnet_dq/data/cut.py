"""One 16 kHz WAV for each utterance: decoded, cut out of a recording, or from a command's output.

A recording is decoded once for all of its utterances.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_dq.data.audio import (
    SAMPLE_RATE,
    AudioFault,
    at_16k,
    is_made_of,
    load_audio,
    load_command,
    mark,
    read_audio,
    save_wav,
)
from espnet_dq.data.kaldi import KaldiDir, Segment, absolute, is_command
from espnet_dq.data.unfit import sound_fault
from espnet_dq.files import file_name

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


def cut(wav_dir: Path, recording: Recording) -> list[Piece]:
    """Write the utterances of a recording into `wav_dir`; runs in a worker.

    A file that is fit for use already, 16 kHz and mono, is used where it is if the utterance is
    all of it, and so is the audio of an earlier run.
    """
    wav, channel, parts = recording.wav, recording.channel, recording.parts
    try:
        if is_command(wav):
            load, source = load_command, wav.removesuffix("|")
        else:
            load, source = load_audio, absolute(wav)
            whole = all(part.start == 0 and part.end is None for _, part in parts)
            if whole and not channel and at_16k(Path(source), channels=1):
                samples, fault = sound_fault(read_audio(source))
                return [Piece(utt, source, samples, fault) for utt, _ in parts]
        paths = {utt: _path(wav_dir, source, utt, part) for utt, part in parts}
        if not all(_fresh(path, source) for path in paths.values()):
            sound = load(source, channel)
            for utt, part in parts:
                _write(paths[utt], sound, part)
                if paths[utt].exists() and Path(source).is_file():
                    mark(paths[utt], Path(source))
    except AudioFault as e:
        return [Piece(utt, str(e), fault=e.cause) for utt, _ in parts]
    return list(_pieces(wav, paths))


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


def _path(wav_dir: Path, source: str, utt: str, part: Segment) -> Path:
    """Where an utterance's audio goes: another file if it comes from elsewhere."""
    origin = hashlib.sha256(f"{source} {part}".encode()).hexdigest()[:8]
    return wav_dir / f"{file_name(utt)}.{origin}.wav"


def _fresh(path: Path, source: str) -> bool:
    """Whether an earlier run wrote the audio, of its source as it is now (if it is a file)."""
    return is_made_of(path, Path(source)) if Path(source).is_file() else path.exists()


def _write(path: Path, sound: np.ndarray, part: Segment) -> None:
    """Write a part of (samples,), unless it lies outside."""
    first = round(part.start * SAMPLE_RATE)
    last = len(sound) if part.end is None else round(part.end * SAMPLE_RATE)
    if first < len(sound) and last <= len(sound) + OVERSHOOT * SAMPLE_RATE:
        save_wav(path, sound[first:last])
    else:
        path.unlink(missing_ok=True)
