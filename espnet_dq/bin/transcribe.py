"""Print what is said in audio files of any kind and length."""

import functools
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event

from espnet_dq.bin.arguments import Parser, add_context, add_model
from espnet_dq.data.languages import known_language
from espnet_dq.data.texts import gap
from espnet_dq.decode.live import arriving, last_columns, transcribe_live
from espnet_dq.decode.subtitles import HEAD, cue, json_line
from espnet_dq.decode.transcribe import BEAM, SURE, transcribe
from espnet_dq.errors import DQError, InputError, one_line, run, say, shortened
from espnet_dq.files import atomic, check_replaceable
from espnet_dq.runtimes import RUNTIMES, Runtime, Segment, load_runtime
from espnet_dq.runtimes.interface import TASKS, Guard, check_times, sets_times
from espnet_dq.student.checkpoint import check_written
from espnet_dq.values import count, whole

SHOWN = 5  # damaged spots of a file
JSON = "json"
FORMATS = ("text", *HEAD, JSON)
# What is told of a text that cannot have been said.
_GUARDED: dict[Guard, str] = {
    "": "",
    "again": "another attempt's text in the place of one that cannot have been said",
    "cut": "text cut that cannot have been said",
}


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="audio file: wav, mp3, ogg, ...")
    parser.add_argument(
        "--live",
        action="store_true",
        help="hear a microphone instead: samples of 16 bits at 16 kHz, mono, on standard input",
    )
    add_model(parser)
    parser.add_argument("--language", help="code or name, e.g. it (default: detected and named)")
    parser.add_argument("--runtime", choices=RUNTIMES, help="default: the one that reads the model")
    parser.add_argument(
        "--timestamps", action="store_true", help="in text: a line for each segment"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="text (default), subtitles, or json"
    )
    parser.add_argument(
        "--words", action="store_true", help="in json: times and probability of each word"
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEXT", help="names and words, as they are to be spelled"
    )
    parser.add_argument(
        "--channel", type=whole, metavar="N", help="hear this one only, from 0 (default: the mean)"
    )
    parser.add_argument(
        "--vad", action="store_true", help="leave out pieces in which nobody speaks (Silero)"
    )
    parser.add_argument(
        "--no_guard",
        action="store_true",
        help="leave what cannot have been said as the model says it (loops, too many letters)",
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="translate: into English")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write DIR/NAME.txt, .srt, .vtt or .json of each AUDIO (default: print; subtitles of "
        "one)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="write such files also where there are some"
    )
    parser.add_argument(
        "--beam_size", type=count, default=BEAM, help="1 is greedy, and faster (%(default)s)"
    )
    add_context(parser, "auto")
    parser.add_argument(
        "--threads", type=count, default=0, help="CPU threads (all cores, or OMP_NUM_THREADS)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -Pm espnet_dq.bin.transcribe`.

    One file gives its text alone, several give `FILE<tab>text` lines, with `--out` each a file of
    its own, whole or not at all. Text is printed as it comes, and memory is that of one window
    however long a file is. Silence says nothing; what goes round in circles, or cannot have been
    said in its time, is tried again at random, in the same way each time, and cut if need be.
    Damaged spots of a file are named and passed over. A bad file among several is named, the others
    are still transcribed, and the exit code is 2; 1 for one on which the runtime failed.
    """
    args = get_parser().parse_args(argv)
    if args.live:
        _check_live(args)
    elif not args.audio:
        raise InputError("AUDIO is needed, or --live")
    if args.words and args.format != JSON:
        raise InputError("--words: only with --format json")
    if args.timestamps and args.format != "text":
        raise InputError(f"--timestamps: --format {args.format} has times without it")
    places = _places(args.audio, args.model, args.out, args.format, args.replace)
    runtime = load_runtime(
        args.runtime, args.model, args.threads, nj=1, beam_size=args.beam_size,
        context=args.context, task=args.task, words=args.words, prompt=args.prompt,
    )  # fmt: skip
    asked = args.language  # of an unset variable it is "", and no language
    if asked is not None:
        asked = known_language(asked, runtime.languages)
    timestamps = args.timestamps or args.format in HEAD
    if timestamps and not args.live:  # there they are those of pauses
        check_times(runtime)
    timestamps |= args.format == JSON and sets_times(runtime)
    if args.live:
        _live(runtime, asked, args.timestamps, not args.no_guard)
    code = 0
    for path, place in zip(args.audio, places, strict=True):
        prefix = f"{one_line(path)}\t" if len(args.audio) > 1 and not place else ""
        try:
            detected = functools.partial(_name_language, path, args.vad)
            segments = transcribe(
                runtime, path, asked, timestamps, _warner(), detected,
                args.channel, args.vad, not args.no_guard,
            )  # fmt: skip
            segments = _told(segments, path)
            if args.format == JSON:
                parts = iter([json_line(path, segments)])
            else:
                parts = _parts(segments, args.format, args.timestamps, prefix)
            if place:
                with atomic(place) as tmp, open(tmp, "w", encoding="utf-8") as file:
                    file.writelines(parts)
                say(place)
            else:
                for part in parts:
                    print(part, end="", flush=True)
        except DQError as e:
            say(shortened(f"transcribe: {e}"), sys.stderr)
            code = max(code, e.exit_code)
    return code


def _check_live(args: Namespace) -> None:
    """Raise `InputError` for what is of files, and for a standard input that nothing comes from."""
    if args.audio:
        raise InputError(f"{args.audio[0]}: --live hears standard input, and no file")
    for name in ("format", "words", "channel", "vad", "out", "replace"):
        if getattr(args, name) != get_parser().get_default(name):
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
    audio: list[str], model: str, out: Path | None, kind: str, replace: bool
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


if __name__ == "__main__":
    run(main)
