"""Memory and time of the data stages by the length of the manifest, without a model or a GPU.

Makes Kaldi folders train, dev and test of N utterances in all (10:1:1) that share a few audio files
of 2 s; with --segments each is a part of one of a few recordings instead, dev and test in the same
recordings as train, and stage 2 cuts each part into a file of its own. Then stage 1
(local/kaldi_dir.py), 2 (format_data, pack_windows) and 5 (collect_shapes) run, each in a process of
its own; what the teacher says (4) and training (6) are not measured here. Prints a JSON line for
each: seconds on the clock, of the processor, and the peak memory of the largest process.

    .venv/bin/python benchmarks/manifest_size.py --utterances 1000 10000 --work /tmp/sizes
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from espnet_dq.bin.describe import commit
from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.data.kaldi import spk2utt, write_scp
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import WorkError, run
from espnet_dq.files import remove

ROOT = Path(__file__).resolve().parents[1]
SHARE = {"train": 10, "dev": 1, "test": 1}
AUDIO = 4  # files of each split, or recordings of all
SECONDS, PART = 2.0, 0.2  # of a file; of a part of a recording
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# By a small process between: a new one's peak begins with that of the one that started it.
MEASURED = """
import json, resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[1:]], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = round(used.ru_utime + used.ru_stime, 1)
print(json.dumps({"cpu_seconds": cpu, "peak_mib": round(used.ru_maxrss / 1024)}))
sys.exit(code)
"""


def make(folder: Path, utterances: int, segments: bool) -> None:
    """Write the manifest and its audio."""
    rng = np.random.default_rng(0)

    def noise(path: Path, seconds: float) -> str:
        save_wav(path, rng.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32))
        return str(path)

    names = [f"{i:09d}" for i in range(utterances)]
    random.Random(0).shuffle(names)
    length = PART * (utterances // AUDIO + 1)
    shared = {f"r{i}": folder / "audio" / f"r{i}.wav" for i in range(AUDIO if segments else 0)}
    recordings = {name: noise(path, length) for name, path in shared.items()}
    first = 0
    for split in SPLITS:
        last = first + utterances * SHARE[split] // sum(SHARE.values())
        last = utterances if split == SPLITS[-1] else last
        utts = {f"speaker{int(x) % 50:02d}-{x}": int(x) for x in names[first:last]}
        out, first = folder / split, last
        out.mkdir(parents=True)
        wav = recordings
        if segments:
            part = {u: (f"r{i % AUDIO}", PART * (i // AUDIO)) for u, i in utts.items()}
            lines = {u: f"{name} {at:.2f} {at + PART:.2f}" for u, (name, at) in part.items()}
            write_scp(out / "segments", lines)
        else:
            own = [noise(folder / "audio" / f"{split}{i}.wav", SECONDS) for i in range(AUDIO)]
            wav = {u: own[i % AUDIO] for u, i in utts.items()}
        write_scp(out / "wav.scp", wav)
        # A number that occurs once, in words, so that no text stands in two splits.
        said = {u: " ".join(WORDS[int(x)] for x in str(i)) for u, i in utts.items()}
        write_scp(out / "text", said)
        speakers = {u: u.partition("-")[0] for u in utts}
        write_scp(out / "utt2spk", speakers)
        write_scp(out / "spk2utt", spk2utt(speakers))
        write_scp(out / "utt2lang", dict.fromkeys(utts, "en"))


def measure(command: list[str], log: Path) -> dict:
    """Run Python with a command and wait for it: seconds, and MiB of its largest process.

    Raises `WorkError` when it fails.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with open(log, "w", encoding="utf-8") as err:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *command],
            stdout=subprocess.PIPE, stderr=err, text=True, env=env,
        )  # fmt: skip
    if done.returncode:
        raise WorkError(f"{' '.join(command)} failed: see {log}")
    return {"seconds": round(time.perf_counter() - started, 1)} | json.loads(done.stdout)


def main(argv: list[str] | None = None) -> int:
    """Measure all lengths; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, nargs="+", required=True, help="in all splits")
    parser.add_argument("--segments", action="store_true", help="parts of recordings")
    parser.add_argument("--nj", type=int, default=1, help="processes that read audio (1)")
    parser.add_argument("--work", type=Path, required=True, help="folder, emptied before each")
    args = parser.parse_args(argv)
    made_at, nj = commit(), ["--nj", str(args.nj)]
    for utterances in args.utterances:
        work = args.work.resolve() / str(utterances)
        remove(work)
        make(work / "given", utterances, args.segments)
        data, raw, packed = work / "data", work / "raw", work / "packed"
        stages = {
            "1 kaldi_dir": [
                str(ROOT / "local/kaldi_dir.py"), "--data_root", str(work / "given"),
                "--out", str(data), *nj,
            ],
            "2 format_data": [
                "-m", "espnet_dq.bin.format_data", "--data", str(data), "--out", str(raw), *nj,
            ],
            "2 pack_windows": [
                "-m", "espnet_dq.bin.pack_windows", "--data", str(raw / "train"),
                "--out", str(packed), "--shared", str(work / "shared"),
            ],
            "5 collect_shapes": [
                "-m", "espnet_dq.bin.collect_shapes", "--data", str(raw / "train"),
                "--out", str(work / "stats"),
            ],
        }  # fmt: skip
        for stage, command in stages.items():
            line = {"utterances": utterances, "segments": args.segments, "stage": stage}
            line |= measure(command, work / f"{stage.split()[1]}.log")
            print(json.dumps({**line, "commit": made_at}), flush=True)
        remove(work)
    return 0


if __name__ == "__main__":
    run(main)
