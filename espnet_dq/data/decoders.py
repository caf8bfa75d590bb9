"""What FFmpeg and libsndfile make of a file, or of what can be read like one.

PyAV brings its own FFmpeg libraries: no system ffmpeg is needed.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile

from espnet_dq.data.clock import HOLE, TOLD, kind_of, on_time
from espnet_dq.data.faults import DAMAGED, LOW_RATE, AudioFault, Report
from espnet_dq.data.virtual import Part

SAMPLE_RATE = 16000  # Hz
BLOCK = 10 * SAMPLE_RATE  # samples that are read at a time
# Containers that FFmpeg may take a file for. Left out are lists of other files and addresses (hls,
# concat, sdp, ...), which it would open: a playlist in a corpus must not reach what is beside it.
CONTAINERS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,codec2,dsf,dss,dts,eac3,flac,flv,"
    "g722,g723_1,g726,g726le,g729,gsm,ilbc,ircam,lc3,loas,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,mulaw,mxf,nistsphere,nut,ogg,oma,pvf,qcp,rm,rso,shn,sln,sox,tak,truehd,tta,voc,vqf,"
    "w64,wav,wv,wve,xwma"
)
G711 = (".al", ".ul")  # headerless files by their names, of 8 kHz, which FFmpeg takes for 44.1 kHz
RESAMPLED = 64  # channels that FFmpeg's resampler takes
WIDE = 8  # channels of which `BLOCK` samples are read at once; of more, fewer
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count of samples where the header tells none: 2^63 - 1
WEAK = ("HTK", "MAT4", "MP3", "MPC2K")  # which libsndfile sees in many bytes that are no audio
SLOWEST = 4000  # Hz: below, vowels and all fricatives are gone; telephones have 8000


class Readable(Protocol):
    """An open file; without `seek` it is taken for a stream."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer, or none at the end."""


def check_rate(rate: int) -> None:
    """Raise an `AudioFault` for a rate at which speech is none any more."""
    if rate < SLOWEST:
        raise AudioFault(f"sampled at {rate} Hz", LOW_RATE)


def open_container(source: Path | Readable) -> av.container.InputContainer:
    """What FFmpeg makes of a file, or of a command's output, and of nothing else."""
    # A name with a colon would be taken for an address.
    file = f"file:{source}" if isinstance(source, Path) else source
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    if isinstance(source, Part) and not source.span.length_known:
        options["ignore_length"] = "1"
    if isinstance(source, Path) and source.suffix.lower() in G711:
        options["sample_rate"] = "8000"
    try:
        # Titles in other encodings than UTF-8 are no fault of the sound.
        return av.open(file, options=options, metadata_errors="replace")
    except av.ArgumentError as e:
        raise AudioFault("corrupt, or not one of the containers that are read") from e


def decode(source: Path | Readable, channel: int | None, report: Report) -> Iterator[np.ndarray]:
    """Decode anything FFmpeg knows, or else libsndfile; resample to 16 kHz mono."""
    try:
        container = open_container(source)
    except (AudioFault, av.FFmpegError):
        with suppress(soundfile.LibsndfileError), opened(source) as file:
            if hasattr(file, "seek") and soundfile.info(file).format not in WEAK:
                yield from by_soundfile(file, channel)
                return
        raise
    with container:
        if not container.streams.audio:
            raise AudioFault("no audio in this file")
        # Others are of a codec that this FFmpeg does not have.
        stream = next((x for x in container.streams.audio if x.codec_context), None)
        if stream is None:
            raise AudioFault("no decoder for its audio")
        check_rate(stream.rate)
        report.least = _least(stream)
        if stream.channels <= RESAMPLED:
            yield from _resampled(on_time(stream, report), channel)
            return
    with opened(source) as file:
        yield from by_soundfile(file, channel)


def _least(stream: av.AudioStream) -> float:
    """Seconds that a stream has at least, if all of it is there, by its container's header; or 0.

    Others tell none, or FFmpeg guesses them by the size of what is there.
    """
    container, kind = stream.container, kind_of(stream.container)
    if kind in ("aiff", "au", "nistsphere") and stream.duration:
        return float(stream.duration * stream.time_base) - HOLE
    if kind == "caf" and stream.codec_context.name.startswith("pcm_"):
        return stream.frames / stream.rate - HOLE
    if kind == "mov" and stream.duration:
        return float(stream.duration * stream.time_base) - TOLD
    if kind == "matroska" and container.duration and len(container.streams) == 1:
        return container.duration / av.time_base - TOLD
    return 0.0


def opened(source: Path | Readable) -> AbstractContextManager[Readable]:
    """The open file, at its beginning: for libsndfile, which would go by a path's suffix."""
    if isinstance(source, Path):
        return open(source, "rb")
    if hasattr(source, "seek"):
        source.seek(0)  # FFmpeg has read of it
    return nullcontext(source)


def _resampled(
    frames: Iterator[tuple[av.AudioFrame, float]], channel: int | None
) -> Iterator[np.ndarray]:
    """(samples,) of frames and of the silence between them, at 16 kHz."""
    # The channels stay apart: FFmpeg's own mix of two is louder than their mean. They are packed:
    # of eight planes and more PyAV reads beyond the last.
    resampler = before = None
    at, given = 0.0, 0  # seconds, samples
    for frame, hole in frames:
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if resampler and (hole or kind != before):  # broadcasts change from stereo to mono
            for part in resampler.resample(None):
                given += part.samples
                yield _mono(_packed(part), channel)
        if hole:
            silence = max(0, round((at + hole) * SAMPLE_RATE) - given)
            given += silence
            for first in range(0, silence, BLOCK):
                yield np.zeros(min(BLOCK, silence - first), np.float32)
        if hole or kind != before:
            check_rate(frame.sample_rate)
            resampler, before = av.AudioResampler(format="flt", rate=SAMPLE_RATE), kind
        at += hole + frame.samples / frame.sample_rate
        for part in resampler.resample(frame):
            given += part.samples
            yield _mono(_packed(part), channel)
    if resampler:
        yield from (_mono(_packed(part), channel) for part in resampler.resample(None))


def _packed(frame: av.AudioFrame) -> np.ndarray:
    """(samples, channels) of a frame of packed float32."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels)


def by_soundfile(source: Path | Readable, channel: int | None) -> Iterator[np.ndarray]:
    """Parts of audio at 16 kHz, all of it or an error, decoded by libsndfile."""
    if not isinstance(source, Path):
        if not hasattr(source, "seek"):
            raise AudioFault(f"more than {RESAMPLED} channels in a stream")
        source.seek(0)
    with soundfile.SoundFile(os.fsencode(source) if isinstance(source, Path) else source) as file:
        check_rate(file.samplerate)
        parts = _samples(file)
        mono = (_mono(part, channel) for part in parts)
        if file.samplerate == SAMPLE_RATE:
            yield from mono
        elif file.channels <= RESAMPLED:
            frames = (_as_frame(part, file.samplerate) for part in parts)
            yield from _resampled(frames, channel)
        else:  # more than FFmpeg resamples: mixed first
            frames = (_as_frame(part[:, None], file.samplerate) for part in mono)
            yield from _resampled(frames, None)


def _samples(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """(samples, channels) float32 of a file, so many at a time that their memory is bounded."""
    size, at = WIDE * BLOCK // max(WIDE, file.channels), 0
    try:
        while len(samples := file.read(size, dtype="float32", always_2d=True)):
            yield samples
            at += len(samples)
    except soundfile.LibsndfileError as e:
        first, last = (x / file.samplerate for x in (at, at + size))
        line = f"damaged between {first:.2f} and {last:.2f} s: {e.error_string}"
        raise AudioFault(line, DAMAGED) from e


def _as_frame(samples: np.ndarray, rate: int) -> tuple[av.AudioFrame, float]:
    """(samples, channels) as `_resampled` takes them."""
    layout = f"{samples.shape[1]} channels"
    packed = np.ascontiguousarray(samples).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate
    return frame, 0.0


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """(samples,) of (samples, channels): one of them, or their mean."""
    if channel is None:
        return samples.T.mean(axis=0, dtype=np.float32)
    if channel >= samples.shape[1]:
        raise AudioFault(f"no channel {channel}: it has {samples.shape[1]}, counted from 0")
    return samples[:, channel]
