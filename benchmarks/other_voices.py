"""Which training holds for people that it never heard? Many short ones, on one GPU.

Each run of a plan trains a student in float, then on a grid, from shares of what was learned, as
the recipe does, but within this process, so that a training of the default's length takes seconds.
Of every student a JSON line tells, for each window of --eval (`transfer.py`'s canary), the
cross-entropy of its text and what is said there, greedy; `other_voices_table.py` reads them. What
is chosen by them is trained by the recipe afterwards. Files are read as they are: mono, 16 kHz.

    .venv/bin/python benchmarks/other_voices.py benchmarks/other_voices.yaml \\
        --data asterisk=exp/mine/data/train --eval /tmp/transfer/canary --teacher base.pt \\
        --student tiny.pt --device cuda --out /tmp/other_voices.jsonl
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from whisper.model import Whisper

from espnet_dq.api.nets import prepare
from espnet_dq.config import DistillConfig
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.distill.distiller import Distiller
from espnet_dq.distill.teacher import Teacher
from espnet_dq.errors import InputError, run
from espnet_dq.formats.openai import read as openai
from espnet_dq.reading import read_yaml
from espnet_dq.whisper.dims import language_token, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits, own_window
from espnet_dq.whisper.sequences import build_sequences
from named import named

SAMPLE_RATE = 16000
NOBODY = "nobody"  # a source without speech: noise of any loudness, and no text
BATCH = 48  # windows that are heard at once when a student is examined


@dataclass(frozen=True)
class Window:
    """What is heard at once."""

    utt: str
    audio: np.ndarray
    text: str
    lang: str


def read(path: Path) -> list[Window]:
    """The windows of a Kaldi folder of mono files at 16 kHz."""
    data, found = KaldiDir.load(path), []
    for utt in sorted(data.wav):
        audio, rate = soundfile.read(data.wav[utt], dtype="float32")
        if rate != SAMPLE_RATE or audio.ndim != 1:
            raise InputError(f"{data.wav[utt]}: not mono at 16 kHz")
        found.append(Window(utt, audio, data.text[utt], data.utt2lang[utt]))
    return found


def nobody(languages: list[str], rng: np.random.Generator) -> Window:
    """Up to 30 s without speech: noise, white to brown, or a hum, or nothing at all."""
    seconds, loud = rng.uniform(1, 29.5), 10 ** rng.uniform(-4.5, -1)
    samples = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** rng.uniform(0, 1)
    audio = np.fft.irfft(spectrum, samples)
    if rng.random() < 0.3:
        times = np.arange(samples) / SAMPLE_RATE
        audio = sum(np.sin(2 * np.pi * rng.uniform(40, 2000) * times) for _ in range(3))
    if rng.random() < 0.2:
        audio = np.zeros(samples)
    audio = loud * audio / max(float(np.std(audio)), 1e-9)
    return Window("", audio.astype(np.float32), "", str(rng.choice(languages)))


class Source:
    """Windows, some of which are in every step, and who teaches them."""

    def __init__(self, conf: dict, net: Whisper, shared: Mapping, keys: dict) -> None:
        self.count, self.weight = conf.get("windows", 4), conf.get("weight", 1.0)
        self.tongue = conf.get("tongue", "own")
        of = [conf["data"]] if isinstance(conf["data"], str) else conf["data"]
        self.windows = None if of == [NOBODY] else [w for name in of for w in shared["data"][name]]
        teacher = conf.get("teacher", "teacher")
        keys = keys | conf.get("keys", {}) | ({"alpha": 0.0} if teacher == "none" else {})
        self.distiller = Distiller(net, None, DistillConfig(**(keys | {"alpha": 0.0})))
        self.distiller.settings = DistillConfig(**keys)
        if teacher != "none":
            self.distiller.teacher = shared[teacher]
            dims = shared[teacher].model(net.device).dims
            self.distiller.build_terms(dims, net.dims)
            self.distiller.to(net.device)
        self.languages = shared["languages"]
        self.left: list[int] = []

    def batch(self, rng: np.random.Generator) -> dict:
        """The next windows, each once before any is heard again."""
        if self.windows is None:
            chosen = [nobody(self.languages, rng) for _ in range(self.count)]
        else:
            while len(self.left) < self.count:
                self.left += rng.permutation(len(self.windows)).tolist()
            chosen = [self.windows[self.left.pop(0)] for _ in range(self.count)]
        tongue = [w.lang for w in chosen]
        if self.tongue == "any":
            tongue = [str(rng.choice(self.languages)) for _ in chosen]
        return self.distiller.batch(
            [(w.audio, w.text, lang) for w, lang in zip(chosen, tongue, strict=True)]
        )


def rate(step: int, steps: int) -> float:
    """ESPnet's tristagelr, as the recipe has it, by its highest."""
    warm, hold = 0.1 * steps, 0.4 * steps
    if step < warm:
        return 0.01 + 0.99 * step / max(warm, 1)
    decay = max(step - warm - hold, 0) / (0.5 * steps)
    return math.exp(math.log(0.01) * decay)


def train(net: Whisper, spec: dict, conf: dict, shared: Mapping, seed: int) -> list[float]:
    """In place; the losses. `conf`: of the stage; `spec`: of the run."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sources = [Source(each, net, shared, conf["keys"]) for each in spec["sources"]]
    params = {n: p for n, p in net.named_parameters() if p.requires_grad}
    for name, p in params.items():
        if any(name.startswith(prefix) for prefix in spec.get("freeze", [])):
            p.requires_grad_(False)
    more = [p for s in sources for p in s.distiller.parameters() if p.requires_grad]
    trained = list({id(p): p for p in more}.values())
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.01, fused=True)
    pull = spec.get("pull", 0.0)
    start = [p.detach().clone() for p in trained] if pull else []
    net.train()
    steps, losses = conf["steps"], []
    for step in range(steps):
        now = conf["lr"] * rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = now
        optimizer.zero_grad()
        total = 0.0
        for source in sources:
            loss, _ = source.distiller(source.batch(rng))
            (source.weight * loss).backward()
            total += source.weight * float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if pull:
            with torch.no_grad():
                for p, before in zip(trained, start, strict=True):
                    p.lerp_(before, min(now * pull, 1.0))
        losses.append(total)
    return losses


class Examination:
    """The windows of --eval, on the device."""

    def __init__(self, windows: list[Window], dims, device: str) -> None:
        self.windows, self.device, self.dims = windows, device, dims
        self.tokenizer = vocabulary_tokenizer(dims)
        self.mel = torch.cat([
            log_mel(
                torch.from_numpy(w.audio)[None].to(device), torch.tensor([len(w.audio)]),
                dims.n_mels, own_window(dims),
            )
            for w in windows
        ])  # fmt: skip
        self.language = torch.tensor(
            [language_token(self.tokenizer, w.lang) for w in windows], device=device
        )
        special = range(self.tokenizer.eot + 1, dims.n_vocab)
        self.never = torch.tensor([*special, *self.tokenizer.non_speech_tokens], device=device)

    @torch.inference_mode()
    def __call__(self, net: Whisper) -> dict:
        """Of each window, [tokens, nats] and what is said."""
        net.eval()
        nats, said = {}, {}
        for start in range(0, len(self.windows), BATCH):
            part = slice(start, start + BATCH)
            audio = encode(net.encoder, self.mel[part])
            utts = [window.utt for window in self.windows[part]]
            nats |= zip(utts, self._nats(net, audio, part), strict=True)
            said |= zip(utts, self._said(net, audio, part), strict=True)
        return {"nats": nats, "said": said}

    def _nats(self, net: Whisper, audio: Tensor, part: slice) -> list[list[float]]:
        texts = [encode_text(self.tokenizer, w.text, w.lang) for w in self.windows[part]]
        lengths = torch.tensor([len(t) for t in texts])
        padded = torch.full((len(texts), int(lengths.max())), -1)
        for row, ids in zip(padded, texts, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        none = torch.full((len(texts),), -1)
        seq = build_sequences(
            padded.to(self.device), lengths, self.language[part], none, self.tokenizer
        )
        hidden = decode_hidden(net.decoder, seq.inputs, audio)
        logits = output_logits(net.decoder, seq.select(hidden))[seq.counted]
        costs = cross_entropy(logits, seq.targets[seq.counted], reduction="none")
        rows = seq.rows[seq.counted]
        sums = torch.zeros(len(texts), device=self.device).index_add_(0, rows, costs)
        counts = torch.bincount(rows, minlength=len(texts))
        return [[int(n), round(float(c), 3)] for n, c in zip(counts, sums, strict=True)]

    def _said(self, net: Whisper, audio: Tensor, part: slice) -> list[str]:
        own = self.tokenizer
        tokens = torch.tensor([[own.sot, 0, own.transcribe, own.no_timestamps]], device=self.device)
        tokens = tokens.repeat(len(audio), 1)
        tokens[:, 1] = self.language[part]
        cache, hooks = net.install_kv_cache_hooks()
        ended = torch.zeros(len(audio), dtype=torch.bool, device=self.device)
        given = tokens
        for _ in range(self.dims.n_text_ctx // 2):
            logits = net.decoder(given, audio, kv_cache=cache)[:, -1]
            logits[:, self.never] = -torch.inf
            best = logits.argmax(-1).masked_fill(ended, own.eot)
            ended |= best == own.eot
            given = best[:, None]
            tokens = torch.cat([tokens, given], 1)
            if bool(ended.all()):
                break
        for hook in hooks:
            hook.remove()
        return [own.decode([t for t in row if t < own.eot]) for row in tokens[:, 4:].tolist()]


def values(net: Whisper, names: list[str]) -> dict[str, Tensor]:
    """Weights by name, those on a grid as they are there."""
    return {name: attrgetter(name)(net).detach().clone() for name in names}


def merged(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict:
    """`share` of the second."""
    return {n: first[n] + share * (second[n] - first[n]) for n in first}


def whisper(dims, state: Mapping[str, Tensor], device: str) -> Whisper:
    net = Whisper(dims).to(device)
    net.load_state_dict(state)
    return net


def known(source: str | dict, sources: dict[str, dict]) -> dict:
    """A source of the plan by its name, or one with other values."""
    given = {"as": source} if isinstance(source, str) else source
    return (sources[given["as"]] if "as" in given else {}) | given


def students(name: str, plan: dict, shared: Mapping, weights, seed: int) -> Iterator[tuple]:
    """Stage, share and model of all that a run leaves."""
    spec, device = dict(plan["runs"][name]), shared["device"]
    spec["sources"] = [known(each, plan["sources"]) for each in spec["sources"]]
    conf = {**plan["kd"], **spec.get("kd", {})}
    conf["keys"] = plan["keys"] | spec.get("keys", {})
    untouched = {n: v.to(device).float() for n, v in weights.state.items()}
    if not spec["sources"]:
        yield "kd", 0.0, whisper(weights.dims, untouched, device)
        return
    net = whisper(weights.dims, untouched, device)
    train(net, spec, conf, shared, seed)
    learned = values(net, list(untouched))
    for share in spec.get("shares", plan["shares"]):
        state = merged(untouched, learned, share)
        yield "kd", share, whisper(weights.dims, state, device)
    conf = {**plan["qat"], **spec.get("qat", {}), "keys": conf["keys"]}
    for share in spec.get("qat_shares", plan["qat_shares"]):
        net = whisper(weights.dims, merged(untouched, learned, share), device)
        prepare(net, plan["grid"])
        train(net, spec, conf, shared, seed)
        yield "qat", share, whisper(weights.dims, values(net, list(untouched)), device)


def main(argv: list[str] | None = None) -> int:
    """Run what is not in --out yet; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("plan", type=Path)
    add("--data", nargs="+", required=True, metavar="NAME=KALDI_FOLDER", help="windows to train on")
    add("--eval", type=Path, required=True, help="a canary's folder")
    add("--teacher", type=Path, required=True)
    add("--student", type=Path, required=True)
    add("--device", default="cpu")
    add("--part", default="0/1", help="K/N: every Nth run, from K")
    add("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    plan = read_yaml(args.plan)
    weights = openai.load(args.student)
    data = {name: read(path) for name, path in named(args.data, "--data").items()}
    shared = {"data": data, "device": args.device}
    shared["languages"] = sorted({w.lang for w in read(args.eval)})
    shared["teacher"] = Teacher(args.teacher, weights.dims)
    shared["untouched"] = Teacher(args.student, weights.dims)
    examine = Examination(read(args.eval), weights.dims, args.device)
    done = set()
    if args.out.is_file():
        lines = map(json.loads, args.out.read_text(encoding="utf-8").splitlines())
        done = {(x["run"], x["seed"]) for x in lines}
    part, of = map(int, args.part.split("/"))
    wanted = [(n, s) for s in plan["seeds"] for n, r in plan["runs"].items()
              if s in r.get("seeds", plan["seeds"])]  # fmt: skip
    for name, seed in wanted[part::of]:
        if (name, seed) in done:
            continue
        found = [
            {"run": name, "seed": seed, "stage": stage, "share": share,
             "date": date.today().isoformat(), **examine(net)}
            for stage, share, net in students(name, plan, shared, weights, seed)
        ]  # fmt: skip
        with open(args.out, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in found)
        print(f"{name}, seed {seed}: {len(found)} students", flush=True)
    return 0


if __name__ == "__main__":
    run(main)
