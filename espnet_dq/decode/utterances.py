"""Decode utterances, several at a time; one that is bad costs only itself."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path

import numpy as np

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import SAMPLE_RATE, at_16k, read_audio
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.pieces import pieces
from espnet_dq.data.texts import join
from espnet_dq.decode import guard, halves
from espnet_dq.decode.transcribe import transcribe_pieces
from espnet_dq.errors import InputError, WorkError, no_memory
from espnet_dq.runtimes import Runtime
from espnet_dq.runtimes.interface import Guard, Hypothesis, Limit, worst


@dataclass(frozen=True)
class Decoded:
    """What became of one utterance: its text and length in seconds, or why it failed.

    `pieces`: in how many it was decoded. `call_seconds`: what the runtime took for the first one,
    from the samples in memory to the text. `segments`: start, end and text of each, in seconds
    from the beginning of the utterance, where timestamps were asked for. `limit`: what the
    decoder's last position did to the text, `guard`: what the guard did. `audio`: what tells the
    file's content, kept so that a run that goes on takes nothing of another sound.
    """

    utt: str
    text: str = ""
    seconds: float = 0.0
    failed: str = ""
    pieces: int = 1
    call_seconds: float = 0.0
    segments: Sequence[tuple[float, float, str]] = ()
    limit: Limit = ""
    guard: Guard = ""
    audio: str = ""


@dataclass
class Job:
    """Utterances of one language that the runtime takes in one call."""

    language: str
    wav: dict[str, str] = field(default_factory=dict)


def jobs_of(wav: dict[str, str], languages: dict[str, str], batch: int) -> list[Job]:
    """Cut the utterances into jobs of at most `batch` of one language."""
    by_language: dict[str, list[str]] = {}
    for utt in sorted(wav):
        by_language.setdefault(languages[utt], []).append(utt)
    return [
        Job(language, {utt: wav[utt] for utt in part})
        for language, utts in sorted(by_language.items())
        for part in batched(utts, batch)
    ]


def run(
    engine: Runtime, jobs: list[Job], decode: Callable[[Runtime, Job], list[Decoded]]
) -> Iterator[Decoded]:
    """What `decode` makes of the jobs, in order; as many at a time as there are workers."""
    with ThreadPoolExecutor(engine.workers) as pool:
        futures = [pool.submit(decode, engine, job) for job in jobs]
        try:
            for future in futures:
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(path: str) -> Iterator[np.ndarray]:
    """`read_audio`, and what is for FFmpeg in another process: a crash costs only that."""
    return read_audio(path) if at_16k(Path(path)) else read_apart(path)


def decode(engine: Runtime, job: Job, guarded: bool = False) -> list[Decoded]:
    """Decode one job, a batch of pieces at a time; a bad clip in it costs only itself."""
    said_in = guard.decode if guarded else halves.decode
    failed: dict[str, str] = {}
    heard: dict[str, list[Hypothesis]] = {utt: [] for utt in job.wav}
    samples, call_seconds = dict.fromkeys(job.wav, 0), dict.fromkeys(job.wav, 0.0)

    def clips() -> Iterator[tuple[str, np.ndarray]]:
        for utt, path in job.wav.items():
            try:
                yield from ((utt, piece) for _, piece in pieces(_read(path), engine.window))
            except InputError as e:
                failed[utt] = str(e)

    try:
        for batch in batched(clips(), engine.batch):
            started = time.perf_counter()
            said = said_in(engine, [clip for _, clip in batch], job.language)
            elapsed = time.perf_counter() - started
            for (utt, clip), hypothesis in zip(batch, said, strict=True):
                call_seconds[utt] = call_seconds[utt] or elapsed
                samples[utt] += len(clip)
                heard[utt].append(hypothesis)
    except (WorkError, RuntimeError) as e:
        if no_memory(e) and len(job.wav) == 1:  # of the machine, not of the model's making
            raise
        if len(job.wav) > 1:
            alone = [Job(job.language, {utt: path}) for utt, path in job.wav.items()]
            return [result for each in alone for result in decode(engine, each, guarded)]
        return [Decoded(utt, failed=str(e)) for utt in job.wav]
    return [
        Decoded(utt, failed=failed[utt])
        if utt in failed
        else Decoded(
            utt,
            join((hypothesis.text for hypothesis in heard[utt]), job.language),
            samples[utt] / SAMPLE_RATE,
            pieces=len(heard[utt]),
            call_seconds=call_seconds[utt],
            limit=worst(hypothesis.limit for hypothesis in heard[utt]),
            guard=max((hypothesis.guard for hypothesis in heard[utt]), default=""),
        )
        for utt in job.wav
    ]


def decode_timed(engine: Runtime, job: Job, guarded: bool = False) -> list[Decoded]:
    """Decode one job, an utterance at a time and a piece of it at a time, with timestamps."""
    return [
        _timed_utterance(engine, utt, path, job.language, guarded) for utt, path in job.wav.items()
    ]


def _timed_utterance(engine: Runtime, utt: str, path: str, language: str, guarded: bool) -> Decoded:
    lengths = []

    def heard() -> Iterator[tuple[int, np.ndarray]]:
        for start, audio in pieces(_read(path), engine.window):
            lengths.append(len(audio))
            yield start, audio

    try:
        found = list(transcribe_pieces(engine, heard(), language, True, guarded))
    except AudioFault as e:
        return Decoded(utt, failed=str(e))
    except WorkError as e:
        return Decoded(utt, failed=str(e))
    return Decoded(
        utt,
        join((segment.text for segment in found), language),
        sum(lengths) / SAMPLE_RATE,
        pieces=len(lengths),
        segments=[(s.start, s.end, join([s.text], language)) for s in found if s.text],
        limit=worst(s.limit for s in found),
        guard=max((s.guard for s in found), default=""),
    )
