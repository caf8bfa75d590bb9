"""Decode a Kaldi data folder: resumable, with speed and memory beside the text."""

import hashlib
import json
import logging
import resource
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import batched
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import SAMPLE_RATE, at_16k, content_mark, read_audio
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import FOLDER, KaldiDir, Segment, read_scp, read_wav, write_scp
from espnet_dq.data.pieces import pieces
from espnet_dq.data.texts import join
from espnet_dq.decode import halves
from espnet_dq.decode.transcribe import transcribe_pieces
from espnet_dq.errors import InputError, WorkError, one_line
from espnet_dq.files import Folder, atomic, check_replaceable, remove, sha256
from espnet_dq.jobs import Part
from espnet_dq.runtimes import Runtime, load_runtime
from espnet_dq.runtimes.interface import LIMITS, Hypothesis, Limit, worst

PARTIAL = ".partial.jsonl"
TIMED = "timed"
# What of a folder is removed when a new result takes the place of an older one, whole.
_KALDI = tuple(f"{TIMED}/{name}" for name in FOLDER.files)
PARTS = Folder("parts", tuple(f"*/*/{name}" for name in ("text", "decode.json", PARTIAL, *_KALDI)))
SHORTEST = 0.01  # seconds of a segment


@dataclass(frozen=True)
class Decoded:
    """What became of one utterance: its text and length in seconds, or why it failed.

    `pieces`: in how many it was decoded. `call_seconds`: what the runtime took for the first one,
    from the samples in memory to the text. `segments`: start, end and text of each, in seconds
    from the beginning of the utterance, where timestamps were asked for. `limit`: what the
    decoder's last position did to the text. `audio`: what tells the file's content, kept so that a
    run that goes on takes nothing of another sound.
    """

    utt: str
    text: str = ""
    seconds: float = 0.0
    failed: str = ""
    pieces: int = 1
    call_seconds: float = 0.0
    segments: Sequence[tuple[float, float, str]] = ()
    limit: Limit = ""
    audio: str = ""


@dataclass
class Job:
    """Utterances of one language that the runtime takes in one call."""

    language: str
    wav: dict[str, str] = field(default_factory=dict)


def decode_folder(
    model: Path | str,
    runtime: str,
    data: Path | str,
    out: Path | str,
    *,
    beam_size: int = 1,
    threads: int = 0,
    nj: int = 0,
    part: Part | None = None,
    timestamps: bool = False,
) -> dict:
    """Decode every utterance of `data`, each in its language of utt2lang, into `out`.

    Writes `out/text` (Kaldi; an empty hypothesis for a clip that failed) and then
    `out/decode.json`, which is therefore the sign that the folder is finished. What is done is
    kept in `out/.partial.jsonl` until then: the same command goes on where a killed one ended,
    and tries clips that failed again. `rtf` (wall seconds of decoding by seconds of audio, the
    loading of the model not counted) is null after such a resumption. `first_word_seconds` (median
    from the samples in memory to the first word; no runtime here gives one before the text of the
    whole window) is null, too, with timestamps, and where several clips are decoded at a time.

    An utterance longer than the model's window is decoded in pieces, cut at pauses, and its text
    is theirs, joined; `cut` says how many such utterances and pieces there were. A piece with more
    text than the decoder has room for is decoded in two (`espnet_dq.decode.halves`): `token_limit`
    names the utterances that had one, and those whose text is cut all the same.

    Args:
        model: see `load_runtime`, as for `runtime`, `beam_size`, `threads` and `nj`.
        data: folder with wav.scp and utt2lang; a text is not needed.
        out: folder, made if needed; an older result in it stays until the new one is whole.
        timestamps: with the model's own timestamps, and what makes a model stop too early or go
            round in circles tried again at random (`Runtime.transcribe`). `out/timed` is then a
            Kaldi folder with a line of `segments` and `text` for each segment; empty if there are
            none.
        part: decode only these utterances, into a folder of their own within `out`, which
            `espnet_dq.decode.parts.join_parts` reads.

    Returns:
        What is in decode.json.

    Raises:
        InputError: a table, a language or the model is wrong.
        WorkError: not one utterance could be decoded (of a part: the join says it).
    """
    model, data, out = Path(model), Path(data), Path(out)
    check_out(out)
    wav, languages = read_wav(data), read_scp(data / "utt2lang")
    started = time.perf_counter()
    engine = load_runtime(runtime, model, threads, nj, beam_size)
    load_seconds = time.perf_counter() - started
    _check_languages(data / "utt2lang", wav, languages, engine.languages)

    options = engine.options
    if timestamps:  # all else is then the runtime's own way, as in bin.transcribe
        options = {"timestamps": True, "beam_size": beam_size}
    key = _key(runtime, options | {"most_tokens": engine.most_tokens}, model, wav, languages)
    if part:
        out = part_folder(out, part.number, part.count)
        wav = {utt: wav[utt] for utt in part.of(sorted(wav))}
    out.mkdir(parents=True, exist_ok=True)
    earlier = _read_partial(out / PARTIAL, key)
    done = {u: x for u, x in earlier.items() if u in wav and x.audio == _content(wav[u])}
    resumed = bool(done)
    jobs = _jobs({u: p for u, p in wav.items() if u not in done}, languages, engine.batch)
    failed = {}
    quiet = 0.5 if sys.stderr.isatty() else 30  # seconds: a log is no screen
    started = time.perf_counter()
    with (
        _Partial(out / PARTIAL, key, list(done.values())) as partial,
        tqdm(
            total=len(wav),
            initial=len(done),
            desc=one_line(out.name),
            unit="clip",
            mininterval=quiet,
        ) as bar,
    ):
        for result in _run(engine, jobs, _decode_timed if timestamps else _decode):
            bar.update()
            if result.failed:
                failed[result.utt] = result.failed
            else:
                done[result.utt] = result
                partial.add(replace(result, audio=_content(wav[result.utt])))
    wall = time.perf_counter() - started
    if not part:
        check_some(data, done, failed)
    for utt, reason in sorted(failed.items()):
        logging.warning("%s: not decoded: %s", one_line(utt), one_line(reason))

    seconds = sum(result.seconds for result in done.values())
    cut = [result.pieces for result in done.values() if result.pieces > 1]
    report = {
        "runtime": runtime,
        "model": str(model),
        "data": str(data),
        "utterances": len(wav),
        "failed": dict(sorted(failed.items())),
        "cut": {"utterances": len(cut), "pieces": sum(cut), "longest_seconds": engine.window},
        "token_limit": {"tokens": engine.most_tokens}
        | {limit: sorted(u for u, x in done.items() if x.limit == limit) for limit in LIMITS},
        "audio_seconds": round(seconds, 3),
        "wall_seconds": round(wall, 3),
        "load_seconds": round(load_seconds, 3),
        "rtf": None if resumed or not done else round(wall / seconds, 5),
        "first_word_seconds": None
        if resumed or not done or timestamps or engine.workers * engine.batch > 1
        else round(statistics.median(result.call_seconds for result in done.values()), 4),
        "peak_rss_bytes": peak_rss_bytes(),
        "threads": engine.threads,
        "options": options
        | {"compute_type": engine.compute_type, "workers": engine.workers, "batch": engine.batch},
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if part:
        report["key"] = key
    timed = None
    if timestamps:
        timed = _timed({u: wav[u] for u in done if u in wav}, languages, done)
    write_decoded(out, {u: done[u].text if u in done else "" for u in wav}, report, timed)
    (out / PARTIAL).unlink(missing_ok=True)
    return report


def check_out(out: Path) -> None:
    """Raise `InputError` if decoding into `out` would take something away but an older decoding."""
    if (out / "text").exists() and not any(
        (out / name).exists() for name in ("decode.json", PARTIAL, "parts")
    ):
        raise InputError(f"{out / 'text'}: not decoded: give another folder, or remove it")
    for name in ("text", "decode.json", PARTIAL):
        check_replaceable(out / name)
    check_replaceable(out / TIMED, FOLDER)


def part_folder(out: Path, number: int, count: int) -> Path:
    """Where one of `count` parts is decoded."""
    return out / "parts" / str(count) / str(number)


def check_some(data: Path, done: Collection[str], failed: Mapping[str, str]) -> None:
    """Raise `WorkError` if nothing is `done`; `failed` holds reasons."""
    if not done:
        utt, reason = next(iter(failed.items()))
        raise WorkError(f"{data}: no utterance could be decoded; {utt}: {reason}")


def write_decoded(out: Path, texts: dict[str, str], report: dict, timed: KaldiDir | None) -> None:
    """Write `out/text`, `out/timed` if there are segments, and then `out/decode.json`."""
    check_out(out)
    (out / "decode.json").unlink(missing_ok=True)
    write_scp(out / "text", texts)
    remove(out / TIMED)
    if timed is not None:
        timed.save(out / TIMED)
    with atomic(out / "decode.json") as tmp:
        tmp.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _timed(wav: dict[str, str], languages: dict[str, str], done: dict[str, Decoded]) -> KaldiDir:
    """The segments of what is done, each an utterance of `wav`, the recordings."""
    timed = KaldiDir()
    for utt, path in wav.items():
        for number, (start, end, text) in enumerate(done[utt].segments):
            name = f"{utt}-{number:05d}"
            # A model may give a segment no time at all; Kaldi knows no such thing.
            start = max(0.0, min(start, end - SHORTEST))
            part = Segment(utt, start, max(end, start + SHORTEST))
            timed.add(name, path, text, utt, languages[utt], part)
    return timed


def peak_rss_bytes() -> int:
    """Highest resident memory of this process so far, in bytes."""
    # Not getrusage where it can be helped: on Linux a child's value starts at its parent's.
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _check_languages(path: Path, wav: dict, languages: dict, known: frozenset[str]) -> None:
    for utt in wav:
        if utt not in languages:
            raise InputError(f"{path}: no line for '{utt}' of wav.scp")
        if languages[utt] not in known:
            raise InputError(f"{path}: '{utt}': the model knows no language '{languages[utt]}'")


def _jobs(wav: dict[str, str], languages: dict[str, str], batch: int) -> list[Job]:
    """Cut the utterances into jobs of at most `batch` of one language."""
    by_language: dict[str, list[str]] = {}
    for utt in sorted(wav):
        by_language.setdefault(languages[utt], []).append(utt)
    return [
        Job(language, {utt: wav[utt] for utt in part})
        for language, utts in sorted(by_language.items())
        for part in batched(utts, batch)
    ]


def _run(
    engine: Runtime, jobs: list[Job], decode: Callable[[Runtime, Job], list[Decoded]]
) -> Iterator[Decoded]:
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


def _decode(engine: Runtime, job: Job) -> list[Decoded]:
    """Decode one job, a batch of pieces at a time; a bad clip in it costs only itself."""
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
            said = halves.decode(engine, [clip for _, clip in batch], job.language)
            elapsed = time.perf_counter() - started
            for (utt, clip), hypothesis in zip(batch, said, strict=True):
                call_seconds[utt] = call_seconds[utt] or elapsed
                samples[utt] += len(clip)
                heard[utt].append(hypothesis)
    except (RuntimeError, ValueError, AssertionError) as e:
        if len(job.wav) > 1:
            alone = [Job(job.language, {utt: path}) for utt, path in job.wav.items()]
            return [result for each in alone for result in _decode(engine, each)]
        return [Decoded(utt, failed=_reason(e)) for utt in job.wav]
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
        )
        for utt in job.wav
    ]


def _decode_timed(engine: Runtime, job: Job) -> list[Decoded]:
    """Decode one job, an utterance at a time and a piece of it at a time, with timestamps."""
    return [_timed_utterance(engine, utt, path, job.language) for utt, path in job.wav.items()]


def _timed_utterance(engine: Runtime, utt: str, path: str, language: str) -> Decoded:
    lengths = []

    def heard() -> Iterator[tuple[int, np.ndarray]]:
        for start, audio in pieces(_read(path), engine.window):
            lengths.append(len(audio))
            yield start, audio

    try:
        found = list(transcribe_pieces(engine, heard(), language, timestamps=True))
    except AudioFault as e:
        return Decoded(utt, failed=str(e))
    except (RuntimeError, ValueError, AssertionError) as e:
        return Decoded(utt, failed=_reason(e))
    return Decoded(
        utt,
        join((segment.text for segment in found), language),
        sum(lengths) / SAMPLE_RATE,
        pieces=len(lengths),
        segments=[(s.start, s.end, join([s.text], language)) for s in found],
        limit=worst(s.limit for s in found),
    )


def _reason(error: Exception) -> str:
    """What a failure is called in the records, in one line."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


def _key(runtime: str, options: dict, model: Path, wav: dict, languages: dict) -> str:
    """Hash of all that decides the result but the audio, of which each result tells its own."""
    files = sorted(model.iterdir()) if model.is_dir() else [model]
    weights = [(f.name, sha256(f)) for f in files if f.is_file()]
    parts = [runtime, options, str(model), weights, wav, {u: languages[u] for u in wav}]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _content(path: str) -> str:
    """`content_mark`, or nothing of audio that is not there."""
    try:
        return content_mark(path)
    except AudioFault:
        return ""


def _read_partial(path: Path, key: str) -> dict[str, Decoded]:
    """Results of an earlier, unfinished run with the same key; a line cut short is dropped."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if not lines or lines[0] != json.dumps({"key": key}) + "\n":
        return {}
    results = [Decoded(**json.loads(line)) for line in lines[1:] if line.endswith("\n")]
    return {result.utt: result for result in results}


class _Partial:
    """Appends results to the partial file, each safe from a kill once it is added."""

    def __init__(self, path: Path, key: str, done: list[Decoded]) -> None:
        with atomic(path) as tmp:
            head = json.dumps({"key": key}) + "\n"
            tmp.write_text(head + "".join(map(self._line, done)), encoding="utf-8")
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)

    def __enter__(self) -> "_Partial":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def add(self, result: Decoded) -> None:
        self.file.write(self._line(result))
        self.file.flush()

    @staticmethod
    def _line(result: Decoded) -> str:
        names = ("utt", "text", "seconds", "pieces", "segments", "limit", "audio")
        return json.dumps({name: getattr(result, name) for name in names}) + "\n"
