"""What is said in audio files or at a microphone, printed as it comes or written to files."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

from espnet_dq.data.languages import known_language
from espnet_dq.data.texts import gap
from espnet_dq.decode.live import arriving, last_columns, transcribe_live
from espnet_dq.decode.subtitles import HEAD, cue, json_line
from espnet_dq.decode.transcribe import BEAM, SURE, transcribe
from espnet_dq.errors import DQError, InputError, one_line, say, shortened
from espnet_dq.files import atomic, check_replaceable
from espnet_dq.runtimes import Runtime, Segment, load_runtime
from espnet_dq.runtimes.interface import TASKS, Guard, check_times, sets_times
from espnet_dq.student.checkpoint import check_written

SHOWN = 5  # damaged spots of a file
JSON = "json"
FORMATS = ("text", *HEAD, JSON)
# What is told of a text that cannot have been said.
_GUARDED: dict[Guard, str] = {
    "": "",
    "again": "another attempt's text in the place of one that cannot have been said",
    "cut": "text cut that cannot have been said",
}


def print_transcripts(
    audio: Sequence[str],
    model: str,
    *,
    runtime: str | None = None,
    language: str | None = None,
    live: bool = False,
    format: str = "text",
    timestamps: bool = False,
    words: bool = False,
    prompt: str = "",
    channel: int | None = None,
    vad: bool = False,
    no_guard: bool = False,
    task: str = TASKS[0],
    out: Path | None = None,
    replace: bool = False,
    beam_size: int = BEAM,
    context: str = "auto",
    threads: int = 0,
) -> int:
    """Print, or write, what is said.

    One file gives its text alone, several give `FILE<tab>text` lines, with `out` each a file of
    its own, whole or not at all. Text is printed as it comes, and memory is that of one window
    however long a file is. Silence says nothing; what goes round in circles, or cannot have been
    said in its time, is tried again at random, in the same way each time, and cut if need be.
    Damaged spots of a file are named and passed over. A bad file among several is named, and the
    others are still transcribed.

    Args:
        audio: Files.
        model, runtime, beam_size, context, task, words, prompt, threads: See `load_runtime`.
        language: Code or name; None: detected, and named.
        live: Hear standard input instead of files: 16 bits at 16 kHz, mono.
        format: One of `FORMATS`.
        timestamps: In text: a line for each segment.
        channel: This one only; None: the mean.
        vad: Leave out pieces in which nobody speaks.
        no_guard: Leave what cannot have been said as the model says it.
        out: A folder for DIR/NAME.txt, .srt, .vtt or .json of each file; None: they are printed.
        replace: Write such files also where there are some.

    Returns:
        The exit code: 2 if a file is bad, 1 for one on which the runtime failed, else 0.

    Raises:
        InputError: Options that do not go together, no such model, or a place that cannot be
            written.
    """
    if live:
        of_files = {
            "format": format != "text", "words": words, "channel": channel is not None,
            "vad": vad, "out": out, "replace": replace,
        }  # fmt: skip
        _check_live(audio, [name for name, given in of_files.items() if given])
    elif not audio:
        raise InputError("AUDIO is needed, or --live")
    if words and format != JSON:
        raise InputError("--words: only with --format json")
    if timestamps and format != "text":
        raise InputError(f"--timestamps: --format {format} has times without it")
    places = _places(audio, model, out, format, replace)
    loaded = load_runtime(
        runtime, model, threads, nj=1, beam_size=beam_size, context=context, task=task,
        words=words, prompt=prompt,
    )  # fmt: skip
    if language is not None:  # of an unset variable it is "", and no language
        language = known_language(language, loaded.languages)
    timed = timestamps or format in HEAD
    if timed and not live:  # there they are those of pauses
        check_times(loaded)
    timed |= format == JSON and sets_times(loaded)
    if live:
        _live(loaded, language, timestamps, not no_guard)
    code = 0
    for path, place in zip(audio, places, strict=True):
        prefix = f"{one_line(path)}\t" if len(audio) > 1 and not place else ""
        try:
            detected = functools.partial(_name_language, path, vad)
            segments = transcribe(
                loaded, path, language, timed, _warner(), detected, channel, vad, not no_guard
            )
            _write(_told(segments, path), path, place, format, timestamps, prefix)
        except DQError as e:
            say(shortened(f"transcribe: {e}"), sys.stderr)
            code = max(code, e.exit_code)
    return code


def _write(
    segments: Iterator[Segment],
    path: str,
    place: Path | None,
    kind: str,
    timestamps: bool,
    prefix: str,
) -> None:
    """Write a file's segments to its place, or print them as they come."""
    if kind == JSON:
        parts = iter([json_line(path, segments)])
    else:
        parts = _parts(segments, kind, timestamps, prefix)
    if place:
        with atomic(place) as tmp, open(tmp, "w", encoding="utf-8") as file:
            file.writelines(parts)
        say(place)
    else:
        for part in parts:
            print(part, end="", flush=True)


def _check_live(audio: Sequence[str], of_files: Sequence[str]) -> None:
    """Raise `InputError` for what is of files, and for a standard input that nothing comes from."""
    if audio:
        raise InputError(f"{audio[0]}: --live hears standard input, and no file")
    for name in of_files:
        raise InputError(f"--{name}: not with --live")
    if os.isatty(0):
        raise InputError("--live: nothing comes in: arecord -f S16_LE -r 16000 -t raw | ...")


def _live(runtime: Runtime, language: str | None, timestamps: bool, guarded: bool) -> None:
    """Print a line for each utterance until the input ends, or Ctrl-C does.

    On a terminal standard error shows what is heard of one that goes on.
    """
    ended, shown = Event(), sys.stderr.isatty()

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ended.set()

    def partial(text: str) -> None:
        if shown:
            print(f"\r\x1b[K{last_columns(text)}", end="", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, end)
    with open(0, "rb", buffering=0, closefd=False) as stream:
        blocks = arriving(stream, ended)
        detected = functools.partial(_name_language, "stdin", True)
        segments = transcribe_live(runtime, blocks, language, partial, detected, guarded)
        for segment in _told(segments, "stdin"):
            partial("")
            print("".join(_parts([segment], "text", timestamps, "")), end="", flush=True)


def _places(
    audio: Sequence[str], model: str, out: Path | None, kind: str, replace: bool
) -> list[Path | None]:
    """The file that the text of each AUDIO is written to; none where it is printed.

    Whatever is wrong with them is said before hours of work; the folder is made.
    """
    if out is None:
        if replace:
            raise InputError("--replace: only with --out")
        if kind in HEAD and len(audio) > 1:
            raise InputError(
                f"--format {kind}: of several AUDIO only with --out, a folder for them"
            )
        return [None] * len(audio)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is no folder")
    suffix, read, of = "txt" if kind == "text" else kind, {*map(os.path.realpath, audio)}, {}
    for path in audio:
        place = out / f"{Path(path).stem}.{suffix}"
        if place in of:
            raise InputError(f"--out {out}: {place.name} would be of {of[place]} and of {path}")
        if os.path.realpath(place) in read:
            raise InputError(f"{place}: is what is read: give another --out")
        try:
            there = place.is_file()
        except OSError as e:  # a name that is too long with another suffix
            raise InputError(f"{path}: {place.name}: {e.strerror}") from e
        check_written(place, model, "*")  # one file more would be read, or be a difference
        if there and not replace:
            raise InputError(
                f"{place}: is there, and may be your own text: another --out, or --replace"
            )
        check_replaceable(place)
        of[place] = path
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: nothing may be written there")
    return [*of]


def _warner() -> Callable[[str], None]:
    """What says where a file is damaged, of the first spots."""
    count = 0

    def warn(line: str) -> None:
        nonlocal count
        count += 1
        if count <= SHOWN:
            more = " (more of these are not shown)" if count == SHOWN else ""
            say(f"transcribe: warning: {line}{more}", sys.stderr)

    return warn


def _name_language(path: str, vad: bool, language: str | None, probability: float) -> None:
    """Tell whoever waits what was detected."""
    unsure = "" if probability >= SURE else ", which is not sure (--language)"
    nothing = "no speech (--vad)" if vad else "no sound above -70 dB"
    heard = f"language {language}{unsure}" if language else f"{nothing}, so no language"
    say(f"transcribe: {path}: {heard}", sys.stderr)


def _told(segments: Iterable[Segment], path: str) -> Iterator[Segment]:
    """The segments that say something, with a warning for each that the model did not say so."""
    for segment in segments:
        reasons = [_GUARDED[segment.guard]] if segment.guard else []
        if segment.limit == "cut" and segment.guard != "cut":
            reasons.append("text cut at the decoder's end")
        if why := " and ".join(reasons):
            where = f"{_clock(segment.start)} to {_clock(segment.end)}"
            say(f"transcribe: warning: {path}: {why}, {where}", sys.stderr)
        if segment.text:
            yield segment


def _parts(segments: Iterable[Segment], kind: str, timestamps: bool, prefix: str) -> Iterator[str]:
    """What is printed of a file, whole lines in the end, also if the segments break off."""
    if kind in HEAD:
        yield HEAD[kind]
        yield from (cue(kind, number, s) for number, s in enumerate(segments, 1))
    elif timestamps:
        yield from (f"{prefix}[{_clock(s.start)} -> {_clock(s.end)}] {s.text}\n" for s in segments)
    else:
        before = ""
        try:
            for segment in segments:
                if text := segment.text:
                    yield (gap(before, text, segment.language) if before else prefix) + text
                    before = text
        except DQError:
            if before:
                yield "\n"
            raise
        yield "\n" if before else f"{prefix}\n"


def _clock(seconds: float) -> str:
    """`h:mm:ss.hh`."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"
