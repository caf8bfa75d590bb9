"""Do students hold for people, languages and noise that they never heard? Models side by side.

Every model runs in faster-whisper, greedy, the language given; what is no CTranslate2 folder is
made one first, with the same values. Of each Kaldi folder, windows of one speaker each are drawn
until each language has --words words (`espnet_dq.data.canary`). What is trained is what --seen has;
an --unseen folder's languages are either among these, other voices, or other languages. The windows
of other voices are also decoded in noise. Ratios are those to the first model, with intervals
(`espnet_dq.scoring.transfer`). Of sounds that are no speech, the words that are said in a minute
are counted: greedy as all else in each language that was trained, and in the first of these with
faster-whisper's own default settings (a beam of 5, temperatures).

    .venv/bin/python benchmarks/transfer.py --work /tmp/transfer --out /tmp/transfer.jsonl \\
        --models untouched=tiny.pt teacher=base.pt student=export/student \\
        --seen prompts=dump/asterisk/raw/test \\
        --unseen stamps=data/parts/tuxpaint_others fish=data/parts/fillets
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import ctranslate2
import soundfile

from espnet_dq.data import canary
from espnet_dq.data.audio import load_audio
from espnet_dq.data.canary import NO_SPEECH, VOICES
from espnet_dq.data.kaldi import KIND, KaldiDir, read_scp
from espnet_dq.data.texts import join
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError, run
from espnet_dq.report.headline import ratio
from espnet_dq.report.markdown import table
from espnet_dq.scoring import transfer
from espnet_dq.scoring.score import MEAN
from forgetting import RUNTIME, Model
from lines import Lines
from named import named

SECONDS = 30.0  # of each sound that is no speech


def make(args: argparse.Namespace) -> tuple[Path, KaldiDir]:
    """The canary of all sets, and its folder."""
    sets, seen = read_sets(args)
    trained = sorted({x for name in seen for x in sets[name].utt2lang.values()})
    voices = {x for name in seen for x in sets[name].utt2spk.values()}
    windows = list(canary.speech(sets, voices, trained, args.words, args.seed))
    if not any(w.kind == VOICES for w in windows):
        raise InputError("--unseen: no language of --seen is in it, so no other voices")
    windows += canary.in_noise(windows, args.snr, args.seed)
    more = named(args.sounds, "--sounds")
    windows += canary.no_speech(trained, SECONDS, args.seed, more)
    folder = args.work / "canary"
    return folder, canary.save(windows, folder)


def by_default(model: Model, data: KaldiDir, seed: int) -> dict[str, str]:
    """What is said where nobody speaks, in one language, with faster-whisper's own settings.

    One, since it takes up to six temperatures, most of them of five samples.
    """
    found = {}
    nobody = [u for u, kind in data.extra[KIND].items() if kind == NO_SPEECH]
    for utt in (u for u in nobody if data.utt2lang[u] == data.utt2lang[min(nobody)]):
        ctranslate2.set_random_seed(seed)  # the higher temperatures draw
        lang = data.utt2lang[utt]
        segments, _ = model.engine.model.transcribe(load_audio(data.wav[utt]), language=lang)
        found[utt] = join((s.text for s in segments), lang)
    return found


def markdown(lines: list[dict]) -> str:
    """A row for each model, a column for each kind; then each kind's own columns."""
    kinds = list(lines[0]["kinds"])
    means = [(x["model"], [x["kinds"][kind][MEAN] for kind in kinds]) for x in lines]
    rows = [[model, *map(ratio, each)] for model, each in means]
    parts = [table(["errors by those of the first", *kinds], rows)]
    rows = [[model, *(ratio(of["capped"]) for of in each)] for model, each in means]
    parts.append(table(["of a window at most as many errors as words", *kinds], rows))
    for kind in kinds:
        columns = {c: of["by"] for c, of in lines[0]["kinds"][kind].items() if c != MEAN}
        rows = [
            [x["model"], *(f"{x['kinds'][kind][c][by]:.1f}" for c, by in columns.items())]
            for x in lines
        ]
        names = [f"{c}{' (CER)' if by == 'cer' else ''}" for c, by in columns.items()]
        parts.append(f"### {kind}\n\n{table(['', *names], rows)}")
    for key, how in (("words_a_minute", "greedy"), ("words_a_minute_default", "by default")):
        rows = [[x["model"], *(f"{each:.1f}" for each in x[key].values())] for x in lines]
        title = f"### {NO_SPEECH}: words a minute, {how}"
        parts.append(f"{title}\n\n{table(['', *lines[0][key]], rows)}")
    return "\n\n".join(parts)


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Models, and the speech that they hear."""
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=PATH", help="untouched student first")
    add("--seen", nargs="+", required=True, metavar="NAME=KALDI_FOLDER", help="voices of train")
    add("--unseen", nargs="+", required=True, metavar="NAME=KALDI_FOLDER", help="all others")
    add("--words", type=int, default=1000, help="of each language of each set (1000)")
    add("--seed", type=int, default=0, help="of all that is drawn (0)")
    add("--work", type=Path, required=True, help="folder for models, audio and texts")


def read_sets(args: argparse.Namespace) -> tuple[dict[str, KaldiDir], set[str]]:
    """The folders of --seen and --unseen by their names, and the names of those seen."""
    seen, unseen = named(args.seen, "--seen"), named(args.unseen, "--unseen")
    if both := seen.keys() & unseen.keys():
        raise InputError(f"--unseen {min(both)}: that name stands in --seen, too")
    return {name: KaldiDir.load(path) for name, path in (seen | unseen).items()}, {*seen}


def get_parser(description: str) -> argparse.ArgumentParser:
    """Models, and what they hear."""
    parser = argparse.ArgumentParser(description=description)
    add_sets(parser)
    add = parser.add_argument
    add("--sounds", nargs="*", default=[], metavar="NAME=FILE", help="more that is no speech")
    add("--snr", type=int, nargs="*", default=[10, 0], help="dB, of noise (10 0)")
    add("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    add("--out", type=Path, required=True, help="JSON lines, appended to")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure all models on all sets; returns 0."""
    args = get_parser(__doc__.splitlines()[0]).parse_args(argv)
    args.work = args.work.resolve()
    paths = named(args.models, "--models")
    models = [Model(name, path, args.work, args.threads) for name, path in paths.items()]
    folder, data = make(args)
    sample = data.fingerprint()[:12]
    seconds = {utt: soundfile.info(path).duration for utt, path in data.wav.items()}
    results, lines, first = Lines(args.out), [], None
    for model in models:
        out = args.work / "decode" / f"{model.name}_{model.weights}_{sample}"
        if not (out / "decode.json").is_file():
            decode_folder(model.path, RUNTIME, folder, out, threads=args.threads)
        heard = transfer.heard(folder, out)
        first = first or heard
        said = read_scp(out / "text", empty=True)
        lines.append(results.add({
            "model": model.name, "weights": model.weights, "bytes": model.bytes,
            "first": models[0].weights,
            "sample": sample, "seed": args.seed, "words": args.words,
            "kinds": transfer.compare(data, heard, first),
            "words_a_minute": transfer.words_a_minute(data, said, seconds),
            "words_a_minute_default": transfer.words_a_minute(
                data, by_default(model, data, args.seed), seconds
            ),
            "runtime": f"{RUNTIME} {version(RUNTIME)}, {model.engine.compute_type}",
        }))  # fmt: skip
        vars(model).pop("engine", None)  # the next one needs its memory
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    run(main)
