"""Memory and time of stages 1 to 6 by the length of the manifest, without a GPU or real weights.

Makes Kaldi folders train, dev and test of N utterances in all (10:1:1), each with a file of its own
of 0.7 s, hard links to a few; with --segments each is a part of one of a few recordings instead,
dev and test in the same recordings as train, and stage 2 cuts each part into a file of its own.
Then come stage 1 (local/kaldi_dir.py), 2 (format_data, pack_windows), 4 (teacher_pass of the packed
windows), 5 (collect_shapes) and 6 (STEPS steps of ESPnet's trainer), each in a process of its own,
4 and 6 with toys for models. Stages 5 and 6 have a line for each utterance of train, as if each
filled a window. Adds a JSON line for each to --out: seconds on the clock, of the processor, the
peak memory of the largest process, and in training the share of the time that the trainer waited
for data.

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
import torch
import yaml
from whisper.model import ModelDimensions, Whisper

from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.data.kaldi import spk2utt, write_scp
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import WorkError, run
from espnet_dq.files import new_folder, remove
from espnet_dq.report import train_log
from espnet_dq.task.plan import complete
from lines import Lines

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/faults/results.jsonl"
MOST = 2048  # MiB of a process
CONFIG = ROOT / "egs2/dq_whisper/asr1/conf/train.yaml"
SHARE = {"train": 10, "dev": 1, "test": 1}
AUDIO = 4  # recordings
LINKS = 30_000  # of one file, of which file systems allow so many
PART = 0.7  # seconds of an utterance, in which six digits can be said
STEPS, BATCH = 5, 4
TOY = dict.fromkeys(("n_audio_head", "n_text_head", "n_audio_layer", "n_text_layer"), 1)
TOY |= {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64}
TOY |= {"n_vocab": 51865, "n_text_ctx": 448, "n_text_state": 64}
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
            wav = {u: str(folder / f"audio/{split}/{i % 1000}/{u}.wav") for u, i in utts.items()}
            for path in {Path(path).parent for path in wav.values()}:
                path.mkdir(parents=True)
            for i, path in enumerate(wav.values()):
                if i % LINKS == 0:
                    first_of = noise(Path(path), PART)
                else:
                    os.link(first_of, path)
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


def make_toy(path: Path) -> None:
    """Write a random Whisper of one small layer, which is both teacher and student."""
    torch.manual_seed(0)
    model = Whisper(ModelDimensions(**TOY))
    torch.nn.init.normal_(model.decoder.positional_embedding, std=0.02)
    torch.save({"dims": TOY, "model_state_dict": model.state_dict()}, path)


def commands(work: Path, nj: int) -> dict[str, list[str]]:
    """Stage -> arguments for Python; `work` has the manifest in `given` and the toy."""
    raw, packed, stats, init = (work / x for x in ("raw", "packed", "stats", "init"))
    toy, config, dims = work / "toy.pt", work / "train.yaml", json.dumps(TOY)
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    settings |= {"max_epoch": 1, "num_iters_per_epoch": STEPS, "batch_size": BATCH}
    settings, _ = complete(settings, str(CONFIG), STEPS * BATCH, BATCH)
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    training = ["-m", "espnet_dq", "espnet2.bin.asr_train", "--config", str(config)]
    for split, to in (("train", "train"), ("dev", "valid")):
        for table in ("wav.scp,speech,sound", "text,text,text", "utt2lang,lang,text"):
            training += [f"--{to}_data_path_and_name_and_type", str(raw / split / table)]
    training += [
        "--train_shape_file", str(stats / "train/speech_shape"),
        "--valid_shape_file", str(work / "few"), "--output_dir", str(work / "exp"),
        "--init_param", str(init / "student.pth"), "--token_list", str(init / "tokens.txt"),
        "--token_type", "bpe", "--bpemodel", "dq_whisper", "--model_conf", f"teacher={toy}",
        "--model_conf", f"teacher_dims={dims}", "--encoder_conf", f"dims={dims}",
        "--decoder_conf", f"dims={dims}", "--model_conf", "grid=ct2_int8", "--ngpu", "0",
        "--allow_variable_data_keys", "true",
    ]  # fmt: skip
    return {
        "1 kaldi_dir": [
            str(ROOT / "local/kaldi_dir.py"), "--data_root", str(work / "given"),
            "--out", str(work / "data"), "--nj", str(nj),
        ],
        "2 format_data": [
            "-m", "espnet_dq.bin.format_data", "--data", str(work / "data"), "--out", str(raw),
            "--nj", str(nj),
        ],
        "2 pack_windows": [
            "-m", "espnet_dq.bin.pack_windows", "--data", str(raw / "train"),
            "--out", str(packed), "--shared", str(work / "shared"),
        ],
        "3 init_student": [
            "-m", "espnet_dq.bin.init_student", "--from", str(toy), "--teacher", str(toy),
            "--grid", "ct2_int8", "--out", str(init),
        ],
        "4 teacher_pass": [
            "-m", "espnet_dq.bin.teacher_pass", "--data", str(packed), "--teacher", str(toy),
            "--out", str(work / "cache"), "--student", str(toy), "--grid", "ct2_int8",
            "--train_config", str(config),
        ],
        "5 collect_shapes": [
            "-m", "espnet_dq.bin.collect_shapes", "--data", str(raw / "train"),
            "--out", str(stats / "train"),
        ],
        "6 training": training,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure all lengths; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, nargs="+", required=True, help="in all splits")
    parser.add_argument("--segments", action="store_true", help="parts of recordings")
    parser.add_argument("--skip", action="append", default=[], help="a stage to leave out, as 4")
    parser.add_argument("--nj", type=int, default=1, help="processes that read audio (1)")
    parser.add_argument("--work", type=Path, required=True, help="NUMBER in it is made and removed")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="results, added to (those of docs/reliability.md)"
    )
    args = parser.parse_args(argv)
    options = " --segments" * args.segments + "".join(f" --skip {x}" for x in args.skip)
    lines = Lines(args.out)
    for utterances in args.utterances:
        about = {
            "command": f"benchmarks/manifest_size.py --utterances {utterances} --nj {args.nj}"
            f"{options} --work FOLDER",
        }
        work = args.work.resolve() / str(utterances)
        new_folder(work)
        make(work / "given", utterances, args.segments)
        make_toy(work / "toy.pt")
        for stage, command in commands(work, args.nj).items():
            if stage.split()[0] in args.skip:
                continue
            log = work / f"{stage.split()[1]}.log"
            if stage == "6 training":
                names = (work / "raw/dev/utt2num_samples").read_text().splitlines(True)[:BATCH]
                (work / "few").write_text("".join(names))
            number, name = stage.split()
            line = {"fault": f"{utterances} utterances{' in segments' * args.segments}"}
            line |= {"stage": int(number), "name": name, "utterances": utterances}
            line |= {"segments": args.segments, "tries": 1} | measure(command, log)
            line["ok"] = int(line["peak_mib"] < MOST)
            line["happened"] = (
                f"{name}: at most {line['peak_mib']} MiB, {line['cpu_seconds']} s of the processor"
            )
            if stage == "6 training":
                line["waiting"] = round(train_log.read(log).waiting() or 0.0, 4)
            print(json.dumps(line), flush=True)
            lines.add(line | about)
        remove(work)
    return 0


if __name__ == "__main__":
    run(main)
