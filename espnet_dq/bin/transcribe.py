"""Print what is said in audio files of any kind and length."""

import argparse
import sys

from espnet_dq.data.audio import load_audio
from espnet_dq.decode.runtimes import RUNTIMES, guess_runtime, load_runtime
from espnet_dq.errors import InputError, run


def main(argv: list[str] | None = None) -> int:
    """Run `python -m espnet_dq.bin.transcribe`.

    One file gives its text alone, several give `FILE<tab>text` lines. A bad file among several
    is named, the others are still transcribed, and the exit code is 2.
    """
    parser = argparse.ArgumentParser(prog="transcribe", description=__doc__)
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="audio file: wav, mp3, ogg, ...")
    parser.add_argument(
        "--model",
        required=True,
        help="a CTranslate2 folder (faster-whisper), a ggml .bin file (whisper.cpp), a .pt file or "
        "an experiment folder (torch)",
    )
    parser.add_argument("--language", help="code as in utt2lang, e.g. it (default: detected)")
    parser.add_argument("--runtime", choices=RUNTIMES, help="default: what the model needs")
    parser.add_argument("--timestamps", action="store_true", help="a line for each segment")
    args = parser.parse_args(argv)
    runtime = load_runtime(args.runtime or guess_runtime(args.model), args.model, nj=1)
    if args.language and args.language not in runtime.languages:
        raise InputError(f"--language {args.language}: the model knows no such language")
    code = 0
    for path in args.audio:
        try:
            audio = load_audio(path)
        except InputError as e:
            print(f"transcribe: {e}", file=sys.stderr)
            code = e.exit_code
            continue
        prefix = f"{path}\t" if len(args.audio) > 1 else ""
        _, segments = runtime.transcribe(audio, args.language, args.timestamps)
        if args.timestamps:
            lines = [f"[{_clock(s.start)} -> {_clock(s.end)}] {s.text}" for s in segments]
        else:
            lines = [" ".join(s.text for s in segments if s.text)]
        for line in lines:
            print(prefix + line, flush=True)
    return code


def _clock(seconds: float) -> str:
    """`h:mm:ss.hh`."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"


if __name__ == "__main__":
    run(main)
