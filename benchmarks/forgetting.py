"""What a student has forgotten: several models side by side on what they were not trained for.

Every model runs in faster-whisper; what is no CTranslate2 folder is made one first, with the same
values. Of each Kaldi folder, --clips of each language are drawn (seeded), and for each model,
folder and task one JSON line is appended to --out; what is there is not done again. In percent and
in seconds:

- errors: WER and CER (`espnet_dq.scoring`), greedy, language given, without timestamps.
- language: share of clips whose language is detected; `heard`: what each was taken for.
- long: the clips of a language, joined to a recording of up to --minutes, the silence at their
  ends cut off (10 ms that are 40 dB below a clip's loudest), 0.5 to 2 s of faint noise before each.
  It is decoded with faster-whisper's own default settings (beam of 5, timestamps, text from before,
  temperatures, no voice activity detection), only the language is given. WER and CER of the whole,
  errors of starts and ends of the segments, clips found, words placed: `benchmarks/timestamps.py`.
- translation: into English, greedy. The reference is the English text of the same prompt (the same
  id behind the speaker) in the same folder: only roughly a translation, so compare models and do
  not read it alone. `english_f1`: F1 of the words in common, each counted as often as both sides
  have it, over all clips of a language. `transcript_f1`: the same against the clip's own text; high
  where a model writes down what it hears instead of translating it. Folders without such prompts
  are passed over.

    .venv/bin/python benchmarks/forgetting.py --models tiny=tiny.pt student=export/student \\
        --data seen=dump/asterisk/raw/test russian=data/parts/festvox_ru fish=data/parts/fillets \\
        --work /tmp/forgetting --out /tmp/forgetting.jsonl
"""

import argparse
import hashlib
from collections import Counter
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import ctranslate2
import numpy as np
from tqdm import tqdm

from espnet_dq.api.models import convert
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.spelling import compared
from espnet_dq.data.texts import join
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError, run
from espnet_dq.files import bytes_on_disk, sha256
from espnet_dq.report.markdown import table
from espnet_dq.runtimes import guess_runtime, load_runtime
from espnet_dq.runtimes.interface import Segment
from espnet_dq.scoring.score import MAIN_RATES, MEAN, Texts, Utterance, rates, read_texts
from lines import Lines
from named import named
from timestamps import Times, measure

RUNTIME = "faster-whisper"
PAUSE = (0.5, 2.0)  # seconds
FRAME = SAMPLE_RATE // 100
QUIET = 1e-4  # -40 dB
# What a line must agree in to stand for what is asked for.
KEY = ("model", "weights", "task", "data", "sample", "seed", "recordings", "minutes")


def mark(path: Path) -> str:
    """Of what a file or folder holds."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()[:12]


class Model:
    """A model by its name, in faster-whisper's form."""

    def __init__(self, name: str, path: Path, work: Path, threads: int) -> None:
        if not path.exists():
            raise InputError(f"--models {name}={path}: no such file or folder")
        self.name, self.threads = name, threads
        self.weights, self.bytes = mark(path), bytes_on_disk(path)
        self.path = path
        if guess_runtime(path) != RUNTIME:
            self.path = work / "models" / f"{name}_{self.weights}"
            if not self.path.is_dir():
                convert(path, self.path, "ct2", "none")

    @cached_property
    def engine(self):
        return load_runtime(RUNTIME, self.path, self.threads, nj=1)


class Folder:
    """The clips that are drawn of a Kaldi folder, also written as one below `work`."""

    def __init__(self, name: str, path: Path, clips: int, seed: int, work: Path) -> None:
        data = KaldiDir.load(path)
        self.name = name
        spoken = data.select(u for u in data.wav if words(data, u))
        self.data = spoken.draw(clips or len(spoken.wav), seed)
        if not self.data.wav:
            raise InputError(f"{path}: no utterance with a text")
        self.by_language: dict[str, list[str]] = {
            x: [] for x in sorted(set(self.data.utt2lang.values()))
        }
        for utt in self.data.wav:
            self.by_language[self.data.utt2lang[utt]].append(utt)
        self.sample = self.data.fingerprint()[:12]
        self.path = work / "data" / name
        self.data.save(self.path)
        english = {prompt(data, u): data.text[u] for u in data.wav if data.utt2lang[u] == "en"}
        self.english = {
            u: english[prompt(data, u)]
            for u in self.data.wav
            if data.utt2lang[u] != "en" and compared(english.get(prompt(data, u), ""), "en")
        }


def prompt(data: KaldiDir, utt: str) -> str:
    """An id without the speaker before it."""
    return utt.removeprefix(f"{data.utt2spk[utt]}-")


def words(data: KaldiDir, utt: str) -> list[str]:
    return compared(data.text[utt], data.utt2lang[utt])


def errors(model: Model, folder: Folder, args: argparse.Namespace) -> dict:
    out = args.work / "decode" / model.name / folder.name
    report = decode_folder(model.path, RUNTIME, folder.path, out, threads=args.threads)
    found = rates(read_texts(folder.path, out))
    return {"scores": {k: found[k] for k in MAIN_RATES}, "failed": len(report["failed"])}


def language(model: Model, folder: Folder, _: argparse.Namespace) -> dict:
    heard, right = {}, {}
    for lang, utts in folder.by_language.items():
        shown = tqdm(utts, desc=f"{model.name} {folder.name} {lang}: language", unit="clip")
        audio = (load_audio(folder.data.wav[u]) for u in shown)
        counts = Counter(model.engine.model.detect_language(samples)[0] for samples in audio)
        heard[lang] = dict(counts.most_common())
        right[lang] = 100 * counts[lang] / len(utts)
    return {"scores": {"right": with_mean(right)}, "heard": heard}


def long(model: Model, folder: Folder, args: argparse.Namespace) -> dict:
    times, texts, seconds = {}, [], 0.0
    shown = tqdm(folder.by_language.items(), desc=f"{model.name} {folder.name}: long", unit="file")
    for lang, utts in shown:
        rng = np.random.default_rng([args.seed, 0, *lang.encode()])
        audio, truth = recording(folder.data, utts, args.minutes, rng)
        ctranslate2.set_random_seed(args.seed)  # the higher temperatures draw
        segments, _ = model.engine.model.transcribe(audio, language=lang)
        heard = [Segment(s.start, s.end, s.text) for s in segments]
        times[lang] = measure(truth, heard, lambda text, lang=lang: compared(text, lang))
        ref, hyp = (join((s.text for s in side), lang) for side in (truth, heard))
        texts.append(Utterance.of(f"{lang}-0", lang, ref, hyp))
        seconds += len(audio) / SAMPLE_RATE
    found = rates(Texts(texts, [], Counter()))
    scores = {k: found[k] for k in MAIN_RATES}
    for name in Times().scores():
        scores[name] = with_mean({lang: each.scores()[name] for lang, each in times.items()})
    return {"scores": scores, "audio_seconds": round(seconds, 1)}


def recording(
    data: KaldiDir, utts: list[str], minutes: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[Segment]]:
    """Clips in an order drawn by `rng`, joined until it is as long, and where each of them is."""
    parts, truth, length = [], [], 0
    for utt in rng.permutation(utts):
        if length > minutes * 60 * SAMPLE_RATE:
            break
        pause = rng.normal(0, 1e-4, int(rng.uniform(*PAUSE) * SAMPLE_RATE)).astype(np.float32)
        clip = trimmed(load_audio(data.wav[utt]))
        parts += [pause, clip]
        start, length = length + len(pause), length + len(pause) + len(clip)
        truth.append(Segment(start / SAMPLE_RATE, length / SAMPLE_RATE, data.text[utt]))
    return np.concatenate(parts), truth


def trimmed(audio: np.ndarray) -> np.ndarray:
    """A clip without the silence at its ends."""
    loudness = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME).var(axis=1)
    loud = np.flatnonzero(loudness > QUIET * loudness.max(initial=0))
    return audio[loud[0] * FRAME : (loud[-1] + 1) * FRAME] if len(loud) else audio


def translation(model: Model, folder: Folder, _: argparse.Namespace) -> dict:
    options = {**model.engine.options, "task": "translate"}
    english, transcript, counts = {}, {}, {}
    for lang in folder.by_language:
        utts = [u for u in folder.by_language[lang] if u in folder.english]
        if not utts:
            continue
        said = {}
        for utt in tqdm(utts, desc=f"{model.name} {folder.name} {lang}: translation", unit="clip"):
            audio = load_audio(folder.data.wav[utt])
            segments, _ = model.engine.model.transcribe(audio, language=lang, **options)
            said[utt] = compared(join((s.text for s in segments), "en"), "en")
        counts[lang] = len(utts)
        english[lang] = f1([(compared(folder.english[u], "en"), said[u]) for u in utts])
        transcript[lang] = f1([(words(folder.data, u), said[u]) for u in utts])
    scores = {"english_f1": with_mean(english), "transcript_f1": with_mean(transcript)}
    return {"scores": scores, "translated": counts}


def f1(pairs: list[tuple[list[str], list[str]]]) -> float:
    """Words in common, twice, by all words of both sides, in percent."""
    common = sum((Counter(ref) & Counter(hyp)).total() for ref, hyp in pairs)
    return 200 * common / sum(len(ref) + len(hyp) for ref, hyp in pairs)


def with_mean(values: dict[str, float | None]) -> dict[str, float | None]:
    known = [v for v in values.values() if v is not None]
    return {**values, MEAN: fmean(known) if known else None}


TASKS = {"errors": errors, "language": language, "long": long, "translation": translation}


def markdown(lines: list[dict]) -> str:
    """A table for each folder and task: models and measures, by language."""
    blocks = {}
    for line in lines:
        blocks.setdefault((line["data"], line["task"]), []).append(line)
    tables = []
    for (data, task), of in blocks.items():
        languages = dict.fromkeys(x for line in of for s in line["scores"].values() for x in s)
        languages = [MEAN, *(x for x in languages if x != MEAN)]
        rows = [
            [measure, line["model"], *(_cell(scores.get(x), measure) for x in languages)]
            for measure in of[0]["scores"]
            for line in of
            for scores in [line["scores"][measure]]
        ]
        tables.append(f"### {data}: {task}\n\n{table(['', 'model', *languages], rows)}\n")
    return "\n".join(tables)


def _cell(value: float | None, measure: str) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if measure.endswith(("median", "p90")) else f"{value:.1f}"


def main(argv: list[str] | None = None) -> int:
    """Measure all models on all folders; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=PATH")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=KALDI_FOLDER")
    parser.add_argument("--clips", type=int, default=0, help="of each language (0: all)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of a long recording (10)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and texts")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    args.work = args.work.resolve()
    models, data = named(args.models, "--models"), named(args.data, "--data")
    models = [Model(name, path, args.work, args.threads) for name, path in models.items()]
    folders = [Folder(name, path, args.clips, args.seed, args.work) for name, path in data.items()]
    lines, results = Lines(args.out), []
    done = lines.read()
    for model in models:
        for folder in folders:
            for task in TASKS:
                if task == "translation" and not folder.english:
                    continue
                line = {"model": model.name, "weights": model.weights, "task": task}
                line |= {"data": folder.name, "sample": folder.sample, "seed": args.seed}
                if task == "long":
                    line |= {"recordings": 1, "minutes": args.minutes}
                same = (x for x in done if all(x.get(k) == line.get(k) for k in KEY))
                if found := next(same, None):
                    results.append(found)
                    continue
                line["clips"] = {x: len(utts) for x, utts in folder.by_language.items()}
                line |= TASKS[task](model, folder, args)
                line["runtime"] = f"{RUNTIME} {version(RUNTIME)}, {model.engine.compute_type}"
                results.append(lines.add(line))
        vars(model).pop("engine", None)  # the next one needs its memory
    print(markdown(results))
    return 0


if __name__ == "__main__":
    run(main)
