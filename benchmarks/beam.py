"""WER of `bin.transcribe` against faster-whisper's own `transcribe` on files of minutes.

The clips of each language of a Kaldi folder are joined as in `long_audio.py`; the same CTranslate2
folder hears the file in both, the language given. Ours: pieces cut at pauses, no text from before,
greedy and with a beam. Theirs: all its defaults (a beam of 5, timestamps, windows that follow each
other, text from before as prompt), and the same greedy. Adds a JSON line for each to --out.

    .venv/bin/python benchmarks/beam.py --minutes 4 --model tiny_ct2 \\
        --speech egs2/dq_whisper/asr1/dump/asterisk/raw/train --languages it fr es --work /tmp/beam
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jiwer

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.spelling import compared
from espnet_dq.decode.transcribe import BEAM, transcribe
from espnet_dq.errors import run
from espnet_dq.runtimes import load_runtime
from lines import Lines
from long_audio import make
from manifest_size import ROOT

RESULTS = ROOT / "benchmarks/results/beam.jsonl"


def ours(runtime, path: Path, language: str) -> list[str]:
    """What the command's default prints, with the beam that the runtime was loaded with."""
    return [segment.text for segment in transcribe(runtime, path, language, timestamps=False)]


def theirs(model, options: dict, path: Path, language: str) -> list[str]:
    """faster-whisper's defaults, but for `options`."""
    segments, _ = model.transcribe(str(path), language=language, **options)
    return [segment.text for segment in segments]


def main(argv: list[str] | None = None) -> int:
    """Measure all languages; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="length of each file")
    parser.add_argument("--model", type=Path, required=True, help="folder of CTranslate2")
    parser.add_argument("--speech", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--languages", nargs="+", required=True, help="whose clips are taken")
    parser.add_argument("--systems", nargs="+", help="only these (all)")
    parser.add_argument("--work", type=Path, required=True, help="folder for the joined files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    from faster_whisper import WhisperModel

    model = WhisperModel(str(args.model), device="cpu", cpu_threads=1)
    loaded = partial(load_runtime, "faster-whisper", args.model, threads=1, nj=1)
    systems = {
        "ours": partial(ours, loaded(beam_size=BEAM)),
        "faster-whisper": partial(theirs, model, {}),
        "ours, greedy": partial(ours, loaded(beam_size=1)),
        "faster-whisper, greedy": partial(theirs, model, {"beam_size": 1}),
    }
    speech, results = KaldiDir.load(args.speech), Lines(args.out)
    args.work.mkdir(parents=True, exist_ok=True)
    for language in args.languages:
        path = args.work / f"{language}.wav"
        texts = make(speech, language, args.minutes, path)
        said = " ".join(word for text in texts for word in compared(text, language))
        for name in args.systems or systems:
            transcript = systems[name]
            started = time.process_time()
            heard = " ".join(compared(" ".join(transcript(path, language)), language))
            seconds = time.process_time() - started
            errors = jiwer.process_words(said, heard)
            line = {
                "language": language,
                "system": name,
                "minutes": args.minutes,
                "words": len(said.split()),
                "wer": round(100 * errors.wer, 2),
                "substitutions": errors.substitutions,
                "deletions": errors.deletions,
                "insertions": errors.insertions,
                "cpu_seconds": round(seconds, 1),
                "command": f"benchmarks/beam.py --minutes {args.minutes:g} --model FOLDER --speech "
                f"FOLDER --languages {' '.join(args.languages)} --work FOLDER",
            }
            print(json.dumps(results.add(line)), flush=True)
    return 0


if __name__ == "__main__":
    run(main)
