"""Decode a Kaldi data folder: resumable, with speed and memory beside the text."""

import functools
import hashlib
import json
import logging
import resource
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from espnet_dq.config import CHECKPOINT, QuantConfig, read_config, read_section
from espnet_dq.data.audio import content_mark
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import FOLDER, KaldiDir, read_scp, read_wav, write_scp
from espnet_dq.data.languages import OWN_LANGUAGES, codes, own_languages
from espnet_dq.data.segments import Segment
from espnet_dq.decode.utterances import Decoded, Job, decode, decode_timed, jobs_of, run
from espnet_dq.errors import InputError, WorkError, one_line
from espnet_dq.fetch.names import source_path
from espnet_dq.files import (
    Folder,
    atomic,
    check_apart,
    check_replaceable,
    remove,
    sha256,
    write_text,
)
from espnet_dq.jobs import Part
from espnet_dq.runtimes import Runtime, load_runtime
from espnet_dq.runtimes.interface import GUARD, LIMITS, check_times

PARTIAL = ".partial.jsonl"
TIMED = "timed"
# What of a folder is removed when a new result takes the place of an older one, whole.
_KALDI = tuple(f"{TIMED}/{name}" for name in FOLDER.files)
PARTS = Folder("parts", tuple(f"*/*/{name}" for name in ("text", "decode.json", PARTIAL, *_KALDI)))
SHORTEST = 0.01  # seconds of a segment


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
    guard: bool = False,
    context: str = "full",
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
        model: see `load_runtime`, as for `runtime`, `beam_size`, `threads`, `nj` and `context`.
        data: folder with wav.scp and utt2lang; a text is not needed.
        out: folder, made if needed; an older result in it stays until the new one is whole.
        timestamps: with the model's own timestamps, and what makes a model stop too early or go
            round in circles tried again at random (`Runtime.transcribe`). `out/timed` is then a
            Kaldi folder with a line of `segments` and `text` for each segment; empty if there are
            none.
        guard: what cannot have been said is tried again or cut (`espnet_dq.decode.guard`). What
            it did stands under `guard` in decode.json.
        part: decode only these utterances, into a folder of their own within `out`, which
            `espnet_dq.decode.parts.join_parts` reads.

    Returns:
        What is in decode.json.

    Raises:
        InputError: a table, a language or the model is wrong.
        WorkError: not one utterance could be decoded (of a part: the join says it).
    """
    model, data, out = source_path(model), Path(data), Path(out)
    check_out(out)
    check_apart(out / TIMED, data)
    wav, languages = read_wav(data), read_scp(data / "utt2lang")
    started = time.perf_counter()
    engine = load_runtime(runtime, model, threads, nj, beam_size, context=context)
    load_seconds = time.perf_counter() - started
    if timestamps:
        check_times(engine)
    languages = _known_languages(data / "utt2lang", wav, languages, engine.languages)

    options = _deciding(engine, beam_size, timestamps, guard, context)
    # Not the audio: each result tells of which it is.
    heard = [wav, {utt: languages[utt] for utt in wav}]
    key = decoding_key(runtime, model, options | {"most_tokens": engine.most_tokens}, heard)
    if part:
        out = part_folder(out, part.number, part.count)
        wav = {utt: wav[utt] for utt in part.of(sorted(wav))}
    partial = _Partial(out / PARTIAL, key, wav)
    way = functools.partial(decode_timed if timestamps else decode, guarded=guard)
    wall = _decode_rest(engine, way, languages, partial)
    done, failed = partial.done, partial.failed
    if not part:
        check_some(data, done, failed)
    for utt, reason in sorted(failed.items()):
        logging.warning("%s: not decoded: %s", one_line(utt), one_line(reason))

    report = {
        "runtime": runtime,
        "model": str(model),
        "data": str(data),
        **_measured(engine, partial, wall, one_by_one=not timestamps),
        **({"guard": _named(done, "guard", GUARD)} if guard else {}),
        "options": options
        | {"compute_type": engine.compute_type, "workers": engine.workers, "batch": engine.batch},
        **({OWN_LANGUAGES: own} if (own := own_languages(languages.values())) else {}),
        "load_seconds": round(load_seconds, 3),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        **({"key": key} if part else {}),
    }
    timed = _timed({u: wav[u] for u in done}, languages, done) if timestamps else None
    write_decoded(out, {u: done[u].text if u in done else "" for u in wav}, report, timed)
    (out / PARTIAL).unlink(missing_ok=True)
    return report


def _deciding(
    engine: Runtime, beam_size: int, timestamps: bool, guard: bool, context: str
) -> dict[str, object]:
    """The options that decide the texts, for the records and the key."""
    options = engine.options
    if timestamps:  # all else is then the runtime's own way, as in bin.transcribe
        options = {"timestamps": True, "beam_size": beam_size}
    if guard:
        options = options | {"guard": True}
    if context != "full":
        options = options | {"short_windows": bool(getattr(engine, "short", False))}
    return options


def _decode_rest(
    engine: Runtime,
    way: Callable[[Runtime, Job], list[Decoded]],
    languages: dict[str, str],
    partial: "_Partial",
) -> float:
    """Decode what is not done yet, and add it; returns the seconds that this took."""
    wav, done = partial.wav, partial.done
    jobs = jobs_of({u: p for u, p in wav.items() if u not in done}, languages, engine.batch)
    quiet = 0.5 if sys.stderr.isatty() else 30  # seconds: a log is no screen
    started = time.perf_counter()
    with (
        partial,
        tqdm(
            total=len(wav),
            initial=len(done),
            desc=one_line(partial.path.parent.name),
            unit="clip",
            mininterval=quiet,
        ) as bar,
    ):
        for result in run(engine, jobs, way):
            bar.update()
            partial.add(result)
    return time.perf_counter() - started


def _measured(engine: Runtime, partial: "_Partial", wall: float, one_by_one: bool) -> dict:
    """What decode.json says of failures, lengths, limits and times; `rtf` only if all was timed."""
    done, timed = partial.done, not partial.resumed
    seconds, first = sum(result.seconds for result in done.values()), None
    if timed and done and one_by_one and engine.workers * engine.batch == 1:
        first = round(statistics.median(result.call_seconds for result in done.values()), 4)
    cut = [result.pieces for result in done.values() if result.pieces > 1]
    return {
        "utterances": len(partial.wav),
        "failed": dict(sorted(partial.failed.items())),
        "cut": {"utterances": len(cut), "pieces": sum(cut), "longest_seconds": engine.window},
        "token_limit": {"tokens": engine.most_tokens} | _named(done, "limit", LIMITS),
        "audio_seconds": round(seconds, 3),
        "wall_seconds": round(wall, 3),
        "rtf": round(wall / seconds, 5) if timed and done else None,
        "first_word_seconds": first,
        "peak_rss_bytes": peak_rss_bytes(),
        "threads": engine.threads,
    }


def _named(done: Mapping[str, Decoded], field: str, values: Iterable[str]) -> dict[str, list[str]]:
    """For each value the utterances whose `field` has it."""
    return {v: sorted(u for u, x in done.items() if getattr(x, field) == v) for v in values}


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
    write_text(out / "decode.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")


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


def _known_languages(path: Path, wav: dict, read: dict, known: frozenset[str]) -> dict[str, str]:
    """The codes of what was `read` of utt2lang, each of an utterance one that the model knows."""
    languages = codes(read, path, known)
    for utt in wav:
        if utt not in languages:
            raise InputError(f"{path}: no line for '{utt}' of wav.scp")
        if languages[utt] not in known:
            raise InputError(f"{path}: '{utt}': the model knows no language '{languages[utt]}'")
    return languages


def decoding_key(runtime: str, model: Path, options: Mapping, heard: object) -> str:
    """Hash of what decides a decoding's texts: what a model holds, wherever it lies, and the rest.

    Args:
        options: of the runtime, or those that it is asked for with.
        heard: what tells the data, for JSON.
    """
    files = _model_files(runtime, model)
    weights = {name: sha256(path) for name, path in files.items() if path.is_file()}
    parts = [runtime, weights, options, heard]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _model_files(runtime: str, model: Path) -> dict[str, Path]:
    """What a runtime reads of a model, and maybe more: files of a folder, and its graphs' below it.

    Of an experiment, which others may be writing to, that is the checkpoint, its configuration and
    the ranges of activations that this names.
    """
    if runtime == "torch" and (model.is_dir() or model.suffix == ".pth"):
        from espnet_dq.student.checkpoint import training_folder  # imports torch

        folder = training_folder(model if model.is_dir() else model.parent)
        source = folder / "config.yaml"
        found = {"config": source, "checkpoint": folder / CHECKPOINT if model.is_dir() else model}
        ranges = read_section(read_config(source), QuantConfig.SECTION, source)
        ranges = ranges.get("activation_ranges")
        return found | ({"ranges": Path(ranges)} if isinstance(ranges, str) else {})
    if model.is_dir():
        files = sorted([*model.iterdir(), *model.glob("onnx/*")])
        return {file.relative_to(model).as_posix(): file for file in files}
    return {"": model}


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
    """What is `done` of `wav`, safe from a kill once it is added, and why which utterances failed.

    What an earlier, unfinished run with the same key has done of the same audio is there from the
    beginning.
    """

    def __init__(self, path: Path, key: str, wav: dict[str, str]) -> None:
        self.path, self.key, self.wav = path, key, wav
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = _read_partial(path, key)
        self.done = {u: x for u, x in earlier.items() if u in wav and x.audio == _content(wav[u])}
        self.resumed = bool(self.done)
        self.failed: dict[str, str] = {}

    def __enter__(self) -> "_Partial":
        with atomic(self.path) as tmp:
            head = json.dumps({"key": self.key}) + "\n"
            tmp.write_text(head + "".join(map(self._line, self.done.values())), encoding="utf-8")
        self.file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def add(self, result: Decoded) -> None:
        if result.failed:
            self.failed[result.utt] = result.failed
            return
        self.done[result.utt] = result
        self.file.write(self._line(replace(result, audio=_content(self.wav[result.utt]))))
        self.file.flush()

    @staticmethod
    def _line(result: Decoded) -> str:
        names = ("utt", "text", "seconds", "pieces", "segments", "limit", "guard", "audio")
        return json.dumps({name: getattr(result, name) for name in names}) + "\n"
