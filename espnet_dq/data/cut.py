"""One 16 kHz WAV for each utterance: decoded, cut out of a recording, or from a command's output.

A recording is decoded once for all of its utterances.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile

from espnet_dq.data.audio import (
    SAMPLE_RATE,
    at_16k,
    is_made_of,
    load_audio,
    load_command,
    mark,
    read_audio,
    save_wav,
)
from espnet_dq.data.kaldi import KaldiDir, Segment, is_command
from espnet_dq.errors import InputError

OVERSHOOT = 0.5  # seconds by which a segment may end behind its recording, as in Kaldi


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of a file or of a command's output, and the utterances in it."""

    wav: str  # as in wav.scp
    channel: int | None
    parts: list[tuple[str, Segment]]  # utterance, where it is


@dataclass(frozen=True, slots=True)
class Piece:
    """An utterance's own audio, or why there is none."""

    utt: str
    path: str  # its file; of a fault, what is wrong
    samples: int = 0
    fault: str | None = None


def jobs(data: KaldiDir) -> list[Recording]:
    """What there is to decode, each file, command and channel once."""
    found: dict[tuple[str, int | None], Recording] = {}
    for utt, wav in data.wav.items():
        part = data.segments.get(utt, Segment(utt))
        key = wav, part.channel
        found.setdefault(key, Recording(*key, [])).parts.append((utt, part))
    return list(found.values())


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
            load, source = load_audio, str(Path(wav).resolve())
            whole = all(part.start == 0 and part.end is None for _, part in parts)
            if (
                whole
                and not channel
                and Path(source).is_file()
                and at_16k(Path(source), channels=1)
            ):
                samples = sum(map(len, read_audio(source)))
                return [Piece(utt, source, samples) for utt, _ in parts]
        paths = {utt: _path(wav_dir, source, utt, part) for utt, part in parts}
        if not all(_fresh(path, source) for path in paths.values()):
            sound = load(source, channel)
            for utt, part in parts:
                _write(paths[utt], sound, part)
                if paths[utt].exists() and Path(source).is_file():
                    mark(paths[utt], Path(source))
    except InputError as e:
        first, *others = (utt for utt, _ in parts)
        more = f" ({len(others)} more utterances in it)" if others else ""
        return [
            Piece(first, f"{e}{more}", fault="unreadable audio"),
            *(Piece(utt, "", fault="unreadable audio") for utt in others),
        ]
    return list(_pieces(wav, paths))


def _pieces(wav: str, paths: dict[str, Path]) -> Iterator[Piece]:
    """The utterances with their lengths; those without a file lie outside their recording."""
    for utt, path in paths.items():
        if path.exists():
            yield Piece(utt, str(path), soundfile.info(path).frames)
        else:
            yield Piece(utt, f"{utt}: not in {wav}", fault="segment outside its recording")


def _path(wav_dir: Path, source: str, utt: str, part: Segment) -> Path:
    """Where an utterance's audio goes: another file if it comes from elsewhere."""
    origin = hashlib.sha256(f"{source} {part}".encode()).hexdigest()[:8]
    return wav_dir / f"{quote(utt, safe='')[:200]}.{origin}.wav"  # names have at most 255 bytes


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
