"""Memory and time of `bin.transcribe` and `bin.decode` by the length of a file, with timestamps.

The clips of one language of a Kaldi folder are joined in a random order, again and again, with
pauses of 0.5 to 2 s of faint noise, to a file of each length; both commands hear it, each in a
process of its own. Adds a JSON line for each to --out: peak memory of the process, seconds on the
clock and of the processor, segments, and WER against the clips' texts.

    .venv/bin/python benchmarks/long_audio.py --minutes 10 120 --model export/student \\
        --speech egs2/dq_whisper/asr1/dump/asterisk/raw/test --language it --work /tmp/long
"""

import argparse
import json
import random
import re
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import KaldiDir, read_scp, write_scp
from espnet_dq.data.spelling import compared
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, run
from espnet_dq.files import new_folder
from lines import Lines
from manifest_size import ROOT, measure

RESULTS = ROOT / "benchmarks/results/long_audio.jsonl"
PAUSE = (0.5, 2.0)  # seconds
SEGMENT = re.compile(r"^\[[0-9:.]+ -> [0-9:.]+\] (.*)$", re.MULTILINE)


def make(speech: KaldiDir, language: str, minutes: float, path: Path) -> list[str]:
    """Write a file of at least so many minutes, block by block; returns the texts of its clips."""
    utts = sorted(u for u in speech.wav if speech.utt2lang[u] == language)
    if not utts:
        raise InputError(f"--language {language}: no clips of it")
    order, rng = random.Random(0), np.random.default_rng(0)
    left, texts = int(minutes * 60 * SAMPLE_RATE), []
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        while left > 0:
            order.shuffle(utts)
            for utt in utts:
                pause = rng.normal(0, 1e-4, int(order.uniform(*PAUSE) * SAMPLE_RATE))
                for part in (pause, load_audio(speech.wav[utt])):
                    file.write(part)
                    left -= len(part)
                texts.append(speech.text[utt])
                if left <= 0:
                    break
    return texts


def main(argv: list[str] | None = None) -> int:
    """Measure all lengths; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", required=True, help="lengths of files")
    parser.add_argument("--model", type=Path, required=True, help="folder of CTranslate2")
    parser.add_argument("--speech", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--language", required=True, help="whose clips are taken")
    parser.add_argument("--work", type=Path, required=True, help="folder; MINUTES in it is made")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    speech, work, model = KaldiDir.load(args.speech), args.work.resolve(), str(args.model.resolve())
    lines = Lines(args.out)
    for minutes in args.minutes:
        folder = work / f"{minutes:g}"
        new_folder(folder)
        data, out = folder / "data", folder / "out"
        data.mkdir(parents=True)
        texts = make(speech, args.language, minutes, data / "long.wav")
        write_scp(data / "wav.scp", {"long": str(data / "long.wav")})
        write_scp(data / "utt2lang", {"long": args.language})
        commands = {
            "transcribe": [str(data / "long.wav"), "--language", args.language],
            "decode": ["--runtime", "faster-whisper", "--data", str(data), "--out", str(out),
                       "--nj", "1"],
        }  # fmt: skip
        for name, options in commands.items():
            log = folder / f"{name}.log"
            command = ["-m", f"espnet_dq.bin.{name}", "--model", model, "--timestamps", *options]
            line = {
                "what": name,
                "minutes": round(soundfile.info(data / "long.wav").duration / 60, 1),
            }
            line |= measure(command, log)
            if name == "decode":
                heard, segments = read_scp(out / "text")["long"], validate(out / "timed").text
            else:
                segments = SEGMENT.findall(log.read_text(encoding="utf-8"))
                heard = " ".join(segments)
            said = " ".join(word for text in texts for word in compared(text, args.language))
            heard = " ".join(compared(heard, args.language))
            line |= {
                "segments": len(segments),
                "wer": round(100 * jiwer.wer(said, heard), 2),
            }
            line |= {"language": args.language, "runtime": "faster-whisper"}
            line["command"] = (
                f"benchmarks/long_audio.py --minutes {minutes:g} --model FOLDER --speech FOLDER "
                f"--language {args.language} --work FOLDER"
            )
            print(json.dumps(lines.add(line)), flush=True)
    return 0


if __name__ == "__main__":
    run(main)
