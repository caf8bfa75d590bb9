"""Break some clips of a corpus in ten ways, and see that the recipe leaves out exactly those.

    .venv/bin/python -m benchmarks.faults.bad_data --speech dump/asterisk/raw/train --work FOLDER

Makes Kaldi folders of real speech: each utterance has a file of its own, a hard link to one of the
clips of --speech, and some of the good ones are 8 kHz FLAC or 44.1 kHz WAV. Runs the recipe to
its end with toys for models, two clips of each language for a test, without the teacher pass, and
compares `left_out.tsv`, utterance by utterance, with what was planted; then stage 2 again with a
smaller --max_left_out, which has to stop it. A line for each way goes to --out.
"""

import argparse
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from benchmarks.faults.recipe import make_toys
from benchmarks.faults.results import RESULTS, put, result
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.left_out import LEFT_OUT
from espnet_dq.data.tables import rows
from espnet_dq.errors import InputError, WorkError, run

ROOT = Path(__file__).parents[2]
SPLITS = {"train": 8, "dev": 1, "test": 1}
OTHER_TEXT = {"ru": "good afternoon, ladies and gentlemen"}  # else:
CYRILLIC = "добрый день, дамы и господа"


@dataclass
class Clip:
    """Good speech of 16 kHz."""

    wav: Path
    language: str
    text: str

    def fluent(self) -> bool:
        """Whether the text would be too much for a third of the time."""
        seconds = soundfile.info(self.wav).duration
        return sum(map(str.isalnum, self.text)) > 11 * seconds + 12


def _cut(clip: Clip, path: Path) -> None:
    content = clip.wav.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _nothing(clip: Clip, path: Path) -> None:
    path.write_bytes(b"")


def _header(clip: Clip, path: Path) -> None:
    path.write_bytes(b"JUNK" + clip.wav.read_bytes()[4:])


def _silent(clip: Clip, path: Path) -> None:
    soundfile.write(path, np.zeros(2 * SAMPLE_RATE, np.int16), SAMPLE_RATE)


def _clipped(clip: Clip, path: Path) -> None:
    audio = load_audio(clip.wav)
    soundfile.write(path, np.clip(audio / np.abs(audio).max() * 30, -1, 1), SAMPLE_RATE)


def _nan(clip: Clip, path: Path) -> None:
    audio = load_audio(clip.wav)
    audio[len(audio) // 2] = np.nan
    soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")


def _rate(clip: Clip, path: Path) -> None:
    soundfile.write(path, load_audio(clip.wav), 3 * SAMPLE_RATE)


def _long(clip: Clip, path: Path) -> None:
    soundfile.write(path, np.resize(load_audio(clip.wav), 40 * SAMPLE_RATE), SAMPLE_RATE)


def _good(clip: Clip, path: Path) -> None:
    os.link(clip.wav, path)


# What is wrong -> how to make the audio, and the cause that it is to be counted as.
WAYS: dict[str, tuple[Callable[[Clip, Path], None], str]] = {
    "truncated": (_cut, "truncated audio"),
    "zero length": (_nothing, "empty audio"),
    "wrong header": (_header, "unreadable audio"),
    "silence": (_silent, "silence"),
    "clipped": (_clipped, "clipped"),
    "NaN": (_nan, "samples that are not numbers"),
    "wrong rate": (_rate, "more text than can be said in its time"),
    "text empty": (_good, "empty text"),
    "text in the wrong script": (_good, "text in another script"),
    "40 s long": (_long, "longer than 30 s"),
}


def speech_of(folder: Path, scratch: Path) -> list[Clip]:
    """The clips of a formatted Kaldi folder, copied to `scratch` so that they can be linked to."""
    data = KaldiDir.load(folder)
    clips = []
    for number, (utt, wav) in enumerate(data.wav.items()):
        copy = scratch / f"{number}.wav"
        shutil.copyfile(wav, copy)
        clips.append(Clip(copy, data.utt2lang[utt], data.text[utt]))
    return clips


def make(folder: Path, speech: list[Clip], utterances: int, broken: int) -> dict[str, str]:
    """Write train, dev and test below `folder`; returns utterance -> way of the broken ones.

    Args:
        folder: Empty, on the disk of the clips.
        speech: Good clips; at least one must be `fluent`.
        utterances: In all splits.
        broken: In each way.
    """
    draw = random.Random(0)
    names = [f"spk{i % 40:02d}-{i:07d}" for i in range(utterances)]
    ways = [way for way in WAYS for _ in range(broken)]
    planted = dict(zip(draw.sample(names, len(ways)), ways, strict=True))
    fluent = [clip for clip in speech if clip.fluent()]
    if not fluent:
        raise InputError("no clip of the speech is fast enough to show a wrong rate")
    (folder / "audio").mkdir(parents=True)
    of = draw.choices(list(SPLITS), list(SPLITS.values()), k=utterances)
    splits = {name: KaldiDir() for name in SPLITS}
    for number, (utt, split) in enumerate(zip(names, of, strict=True)):
        way = planted.get(utt)
        clip = draw.choice(fluent if way == "wrong rate" else speech)
        text = clip.text
        if way == "text empty":
            text = ""
        elif way == "text in the wrong script":
            text = OTHER_TEXT.get(clip.language, CYRILLIC)
        path = folder / "audio" / f"{utt}.wav"
        if way:
            WAYS[way][0](clip, path)
        elif number % 50 == 0:  # other rates and formats are no fault
            up, down, ending = (1, 2, "flac") if number % 100 else (441, 160, "wav")
            path = path.with_suffix(f".{ending}")
            audio = resample_poly(load_audio(clip.wav), up, down)
            soundfile.write(path, 0.9 * audio / np.abs(audio).max(), SAMPLE_RATE * up // down)
        else:
            _good(clip, path)
        splits[split].add(utt, path, text, utt[:5], clip.language)
    for name, data in splits.items():
        data.save(folder / name)
    return planted


def judge(listed: Path, planted: dict[str, str]) -> tuple[Counter[str], list[str]]:
    """How many of each way are listed under their cause, and what else is wrong with the list."""
    found = {row["utterance"]: row["cause"] for _, row in rows(listed) if row}
    right = Counter(w for utt, w in planted.items() if found.get(utt) == WAYS[w][1])
    wrong = [f"{utt}: {cause}" for utt, cause in found.items() if utt not in planted]
    wrong += [
        f"{utt}: {way} is {found.get(utt)}"
        for utt, way in planted.items()
        if found.get(utt) != WAYS[way][1]
    ]
    return right, wrong


def recipe(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe with the toys and the corpus in `work`."""
    return subprocess.run(
        [str(ROOT / "egs2/dq_whisper/asr1/run.sh"), "--corpus", "kaldi",
         "--data_root", str(work / "corpus"), "--expdir", str(work / "exp"),
         "--dumpdir", str(work / "dump"), "--nj", "1", "--teacher", str(work / "toys/teacher.pt"),
         "--student", str(work / "toys/student.pt"), "--skip_teacher_pass", "true",
         "--train_config", str(work / "toys/train.yaml"), "--systems", "student untouched",
         "--qat_config", str(work / "toys/qat.yaml"), "--test_clips", "2", *options],
        capture_output=True, text=True,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run both; returns 0 if all was as it was to be."""
    parser = argparse.ArgumentParser(prog="bad_data", description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--utterances", type=int, default=10_000, help="in all (10000)")
    parser.add_argument("--share", type=float, default=1.0, help="percent that are broken (1)")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    broken = max(1, round(args.utterances * args.share / 100 / len(WAYS)))
    args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        work = Path(name).resolve()
        (work / "speech").mkdir()
        speech = speech_of(args.speech, work / "speech")
        planted = make(work / "corpus", speech, args.utterances, broken)
        share = 100 * len(planted) / args.utterances
        make_toys(work / "toys")
        done = recipe(work, "--max_left_out", f"{1.5 * share:g}")
        ended = done.returncode == 0 and bool(list((work / "exp").glob("*/RESULTS.md")))
        listed = list((work / "dump").rglob(f"raw/{LEFT_OUT}"))
        if not listed:
            raise WorkError(f"the recipe has left no list: {done.stderr.splitlines()[-1:]}")
        right, wrong = judge(listed[0], planted)
        stopped = recipe(
            work, "--stage", "2", "--stop_stage", "2", "--max_left_out", f"{share / 2:g}"
        )
    command = f"python -m benchmarks.faults.bad_data --utterances {args.utterances} "
    command += f"--share {args.share:g} --speech FOLDER --work FOLDER"
    happened = f"left out and counted; {len(wrong)} of {args.utterances} judged wrongly"
    results = [
        result(f"bad data: {way}", "1, 2", broken, right[way], command, happened) for way in WAYS
    ]
    happened = "the recipe came to its end" if ended else "".join(done.stderr.splitlines()[-1:])
    results.append(result("bad data: all of it", "1 to 13", 1, int(ended), command, happened))
    said = stopped.stderr.splitlines()[-1:]
    ok = stopped.returncode == 2 and "more than --max_left_out" in "".join(said)
    happened = "exit code 2, a line with causes and counts" if ok else "".join(said)
    results.append(result("more bad data than is stated", 2, 1, int(ok), command, happened))
    put(args.out, command, results)
    print(*(wrong or ["every one as planted"]), *said, sep="\n")
    if not ended:
        print(done.stderr[-2000:])
    return int(bool(wrong) or not ended or not ok)


if __name__ == "__main__":
    run(main)
