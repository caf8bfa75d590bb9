"""Do students hold for people, languages and noise that they never heard? Models side by side.

Every model runs in faster-whisper, greedy, the language given; what is no CTranslate2 folder is
made one first, with the same values. Of each Kaldi folder, windows of at most 30 s, each of one
speaker, are drawn (seeded) until each language has --words words. What is trained is what --seen
has; an --unseen folder's languages are either among these, "other voices", or "other languages".
The windows of other voices are also decoded with stationary noise and with babble, made of windows
in other languages, 10 and 0 dB below the speech.

A rate alone says how hard a set is, so each model's is divided by the first model's: 0.9 is a tenth
fewer errors. It is the word error rate, or where the first model's is above --hard percent that of
characters. A kind's ratio is the mean over its sets' languages; intervals of 95 % by a bootstrap
over speakers, where a language has six or more that are known, else over windows. Of sounds that
are no speech, the words that are said in a minute are counted, with faster-whisper's own default
settings (a beam of 5, temperatures), in each language that was trained.

    .venv/bin/python benchmarks/transfer.py --work /tmp/transfer --out /tmp/transfer.jsonl \\
        --models untouched=tiny.pt teacher=base.pt student=export/student \\
        --seen prompts=dump/asterisk/raw/test \\
        --unseen stamps=data/parts/tuxpaint_others fish=data/parts/fillets
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import ctranslate2
import numpy as np
import soundfile

from espnet_dq.bin.describe import commit
from espnet_dq.data import noise
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.pack import ROOM, pack, plan_windows
from espnet_dq.data.spelling import compared
from espnet_dq.data.texts import join
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError, run
from espnet_dq.report.markdown import table
from espnet_dq.scoring import sclite
from espnet_dq.scoring.bootstrap import ratios
from espnet_dq.scoring.score import MEAN, score
from espnet_dq.scoring.utterances import Aligned, read_aligned
from forgetting import RUNTIME, Model, named

LONGEST = 30 - ROOM
SEEN, VOICES, LANGUAGES = "seen voices", "other voices", "other languages"
NOISES = {"stationary": (10, 0), "babble": (10, 0)}  # dB
SECONDS = 30  # of each sound that is no speech


@dataclass(frozen=True)
class Set:
    """Windows of some languages: all of one kind."""

    kind: str
    name: str
    data: KaldiDir
    path: Path

    @property
    def mark(self) -> str:
        """What tells it from others of its name."""
        return f"{self.name}_{self.data.fingerprint()[:12]}"


def draw(data: KaldiDir, words: int, seed: int) -> KaldiDir:
    """Utterances that fill windows of one speaker each, so many words of each language."""
    seconds = {u: soundfile.info(path).duration for u, path in data.wav.items()}
    data.extra = {"utt2num_samples": {u: str(round(s * SAMPLE_RATE)) for u, s in seconds.items()}}
    windows = plan_windows(data, seconds, LONGEST, 0, seed, by_speaker=True)
    counts, chosen = dict.fromkeys(data.utt2lang.values(), 0), []
    for number in np.random.default_rng(seed).permutation(len(windows)):
        lang = data.utt2lang[windows[number][0]]
        if counts[lang] < words:
            counts[lang] += sum(len(compared(data.text[u], lang)) for u in windows[number])
            chosen += windows[number]
    return data.select(sorted(chosen))


def read(
    seen: Mapping[str, Path], unseen: Mapping[str, Path], args: argparse.Namespace
) -> list[Set]:
    """The clean sets, their windows written below `args.work`."""
    folders = [(name, path, True) for name, path in seen.items()]
    folders += [(name, path, False) for name, path in unseen.items()]
    loaded = {name: KaldiDir.load(path) for name, path, _ in folders}
    trained = {x for name in seen for x in loaded[name].utt2lang.values()}
    found = []
    for name, _, was_seen in folders:
        data = loaded[name]
        spoken = [u for u in data.wav if compared(data.text[u], data.utt2lang[u])]
        for kind in (SEEN, VOICES, LANGUAGES):
            of = [
                u for u in spoken
                if kind == (SEEN if was_seen else VOICES if data.utt2lang[u] in trained
                            else LANGUAGES)
            ]  # fmt: skip
            if of:
                own = f"{name}_{kind.replace(' ', '_')}"
                path = args.work / "sets" / own
                drawn = draw(data.select(of), args.words, args.seed)
                windows = pack(drawn, path, LONGEST, seed=args.seed, by_speaker=True)
                found.append(Set(kind, name, windows, path))
    return found


def noisy(clean: list[Set], args: argparse.Namespace) -> list[Set]:
    """The sets of other voices in each noise."""
    found = []
    voices = [s for s in clean if s.kind == VOICES]
    everything = [(s.data.utt2lang[u], s.data.wav[u]) for s in clean for u in sorted(s.data.wav)]
    for how, levels in NOISES.items():
        for of, snr in ((s, snr) for snr in levels for s in voices):
            name = f"{of.path.name}_{how}_{snr}"
            path, data = args.work / "sets" / name, KaldiDir()
            for number, utt in enumerate(sorted(of.data.wav)):
                rng = np.random.default_rng([args.seed, snr, number])
                speech, lang = load_audio(of.data.wav[utt]), of.data.utt2lang[utt]
                if how == "babble":
                    others = [wav for x, wav in everything if x != lang]
                    clips = [load_audio(wav) for wav in rng.choice(others, noise.TALKERS)]
                    sound = noise.babble(clips, len(speech), rng)
                else:
                    sound = noise.coloured(len(speech), 1, rng)
                wav = path.with_name(f"{name}_wav") / f"{number:06d}.wav"
                save_wav(wav, noise.mixed(speech, sound, snr))
                data.add(utt, wav.resolve(), of.data.text[utt], of.data.utt2spk[utt], lang)
            data.save(path)
            found.append(Set(f"{VOICES}, {how}, {snr} dB", of.name, data, path))
    return found


def heard(model: Model, of: Set, args: argparse.Namespace, chars: bool) -> dict[str, Aligned]:
    """What a model said, decoded and scored once."""
    out = args.work / "decode" / f"{model.name}_{model.weights}" / f"{of.path.name}_{of.mark}"
    if not (out / "decode.json").is_file():
        decode_folder(model.path, RUNTIME, of.path, out, threads=args.threads)
    scored = out / "score"
    if not scored.is_dir():
        score(of.path, out, scored, sclite.find())
    return read_aligned(scored / ("score_cer" if chars else "score_wer"), chars)


def rate(aligned: list[Aligned]) -> float:
    return 100 * sum(x.errors for x in aligned) / sum(x.tokens for x in aligned)


def compare(model: Model, first: Model, sets: list[Set], args: argparse.Namespace) -> dict:
    """Rates and ratios of a kind's sets, a column for each language of each of them."""
    ours, theirs, speakers, items = {}, {}, {}, {}
    for of in sets:
        for lang in sorted(set(of.data.utt2lang.values())):
            column = f"{of.name} {lang}"
            words, chars = (
                [
                    [x for x in heard(m, of, args, by).values() if x.lang == lang]
                    for m in (model, first)
                ]
                for by in (False, True)
            )
            hard = rate(words[1]) > args.hard
            for to, side in zip((ours, theirs), chars if hard else words, strict=True):
                to |= {f"{column} {x.utt}": replace(x, lang=column) for x in side}
            said = {x.utt for x in words[0]}
            speakers |= {f"{column} {u}": of.data.utt2spk[u] for u in said}
            known = {of.data.speaker(u) for u in said} - {""}
            items[column] = {
                "wer": rate(words[0]),
                "cer": rate(chars[0]),
                "by": "cer" if hard else "wer",
                "words": sum(x.tokens for x in words[0]),
                "windows": len(said),
                "speakers": len(known) or None,
            }
    found = ratios(ours, theirs, speakers)
    for column, each in found.items():
        items.setdefault(column, {}).update(
            ratio=round(each.ratio, 4), low=round(each.low, 4), high=round(each.high, 4),
            over=each.over,
        )  # fmt: skip
    return items


def sounds(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """What is no speech, by name."""
    rng, samples = np.random.default_rng(args.seed), SECONDS * SAMPLE_RATE
    made = {
        "silence": np.zeros(samples, np.float32),
        "faint noise": 1e-3 * noise.coloured(samples, 0, rng),
        "noise": 0.05 * noise.coloured(samples, 1, rng),
        "hum": noise.hum(samples),
        "ringing": noise.ringing(samples),
    }
    for name, path in named(args.sounds, "--sounds").items():
        made[name] = load_audio(path)[:samples]
    return made


def words_a_minute(model: Model, languages: list[str], args: argparse.Namespace) -> dict:
    """Of each sound, the mean over languages."""
    found = {}
    for name, audio in sounds(args).items():
        said = 0
        for lang in languages:
            ctranslate2.set_random_seed(args.seed)  # the higher temperatures draw
            segments, _ = model.engine.model.transcribe(audio, language=lang)
            said += len(compared(join((s.text for s in segments), lang), lang))
        found[name] = said / len(languages) / (len(audio) / SAMPLE_RATE / 60)
    return {name: round(each, 2) for name, each in found.items()}


def markdown(lines: list[dict]) -> str:
    """A row for each model, a column for each kind; then each kind's own columns."""
    models = list(dict.fromkeys(line["model"] for line in lines))
    kinds = list(dict.fromkeys(line["kind"] for line in lines if "items" in line))
    of = {(line["model"], line["kind"]): line for line in lines}
    head = [[m, *(_ratio(of[m, kind]["items"][MEAN]) for kind in kinds)] for m in models]
    parts = [table(["errors by those of the first", *kinds], head)]
    for kind in kinds:
        columns = [c for c in of[models[0], kind]["items"] if c != MEAN]
        rows = []
        for m in models:
            items = of[m, kind]["items"]
            rows.append([m, *(f"{items[c][items[c]['by']]:.1f}" for c in columns)])
        names = [f"{c}{' (CER)' if items[c]['by'] == 'cer' else ''}" for c in columns]
        parts.append(f"### {kind}\n\n{table(['', *names], rows)}")
    quiet = [line for line in lines if line["kind"] == "no speech"]
    columns = list(quiet[0]["words_a_minute"])
    rows = [[x["model"], *(f"{x['words_a_minute'][c]:.1f}" for c in columns)] for x in quiet]
    return "\n\n".join([*parts, f"### words a minute, no speech\n\n{table(['', *columns], rows)}"])


def _ratio(item: dict) -> str:
    return f"{item['ratio']:.2f} ({item['low']:.2f} to {item['high']:.2f})"


def main(argv: list[str] | None = None) -> int:
    """Measure all models on all sets; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=PATH", help="untouched student first")
    add("--seen", nargs="+", required=True, metavar="NAME=KALDI_FOLDER", help="voices of train")
    add("--unseen", nargs="+", required=True, metavar="NAME=KALDI_FOLDER", help="all others")
    add("--sounds", nargs="*", default=[], metavar="NAME=FILE", help="more that is no speech")
    add("--words", type=int, default=1000, help="of each language of each set (1000)")
    add("--hard", type=float, default=80, help="percent of WER above which CER counts (80)")
    add("--seed", type=int, default=0, help="of all that is drawn (0)")
    add("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    add("--work", type=Path, required=True, help="folder for models, windows and texts")
    add("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    args.work = args.work.resolve()
    paths = named(args.models, "--models")
    seen, unseen = named(args.seen, "--seen"), named(args.unseen, "--unseen")
    if both := seen.keys() & unseen.keys():
        raise InputError(f"--unseen {min(both)}: that name stands in --seen, too")
    models = [Model(name, path, args.work, args.threads) for name, path in paths.items()]
    clean = read(seen, unseen, args)
    if not any(s.kind == VOICES for s in clean):
        raise InputError("--unseen: no language of --seen is in it, so no other voices")
    sets = clean + noisy(clean, args)
    trained = sorted({x for s in clean if s.kind == SEEN for x in s.data.utt2lang.values()})
    # Once: the file that is written may make the tree differ from its commit.
    made_at, lines = commit(), []
    for model in models:
        line = {"model": model.name, "weights": model.weights, "first": models[0].weights}
        line |= {"seed": args.seed, "words": args.words, "hard": args.hard}
        line |= {"runtime": f"{RUNTIME} {version(RUNTIME)}"}
        line |= {"date": date.today().isoformat(), "commit": made_at}
        for kind in dict.fromkeys(s.kind for s in sets):
            of = [s for s in sets if s.kind == kind]
            lines.append(
                {"kind": kind, **line, "sets": [s.mark for s in of],
                 "items": compare(model, models[0], of, args)}
            )  # fmt: skip
        said = words_a_minute(model, trained, args)
        lines.append({"kind": "no speech", **line, "words_a_minute": said})
        vars(model).pop("engine", None)  # the next one needs its memory
    with open(args.out, "a", encoding="utf-8") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    run(main)
