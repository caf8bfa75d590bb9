"""What a training step costs: matching against logits only, QAT against float distillation.

One process, rounds interleaved, so that a busy machine slows all variants alike; the ratio of a
round is a variant's time over the reference's in the same round. Encoders are run in every step
(`live`), or their output and the teacher's answers are given (`cached`; not for what a cache knows
nothing of: activation grids, states of the student's encoder). `caches` is what stage 4 saves: a
step without a cache over the same step with one. Peak memory is that of a process of its own for
each variant.

    .venv/bin/python benchmarks/step_cost.py --weights egs2/dq_whisper/asr1/downloads/weights \\
        --rounds 10 --out benchmarks/results/step_cost.json
"""

import argparse
import json
import multiprocessing
import statistics
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from espnet_dq.decode.folder import peak_rss_bytes
from espnet_dq.distill.losses import topk_log_probs
from espnet_dq.errors import run
from espnet_dq.files import write_text
from espnet_dq.quant.prepare import RANGE
from espnet_dq.recipe.description import commit
from espnet_dq.task.plugin import register
from espnet_dq.whisper.dims import SIZES, whisper_name
from espnet_dq.whisper.sequences import build_sequences

VARIANTS = {
    "logits": {"matching": "logits", "preset": "none"},
    "static (block)": {"matching": "static", "preset": "none"},
    "dynamic (block)": {"matching": "dynamic", "preset": "none"},
    "dynamic_monotonic (block)": {"matching": "dynamic_monotonic", "preset": "none"},
    "optimal_monotonic (block)": {"matching": "optimal_monotonic", "preset": "none"},
    "optimal_increasing (block)": {"matching": "optimal_increasing", "preset": "none"},
    "dynamic_monotonic (block), language": {
        "matching": "dynamic_monotonic",
        "matching_scope": "language",
        "preset": "none",
    },
    "dynamic_monotonic (block), utterance": {
        "matching": "dynamic_monotonic",
        "matching_scope": "utterance",
        "preset": "none",
    },
    "dynamic_monotonic (ffn)": {
        "matching": "dynamic_monotonic",
        "preset": "none",
        "tap": "ffn",
    },
    "dynamic_monotonic (block), cosine": {
        "matching": "dynamic_monotonic",
        "preset": "none",
        "distance": "cosine",
    },
    "dynamic_monotonic (ffn), softmax_mse": {
        "matching": "dynamic_monotonic",
        "preset": "none",
        "tap": "ffn",
        "distance": "softmax_mse",
    },
    "logits, encoder states": {"matching": "logits", "preset": "none", "lambda_encoder": 0.1},
    "logits, bfloat16": {"matching": "logits", "preset": "none", "precision": "bfloat16"},
    "logits, qat full": {"matching": "logits", "preset": "full"},
    "dynamic_monotonic (block), qat full": {"matching": "dynamic_monotonic", "preset": "full"},
    "kdq, qat full": {"lambda_hidden": 0.0, "lambda_guide": 1.0, "preset": "full"},
    "logits, ggml_q8_0": {"matching": "logits", "preset": "full", "grid": "ggml_q8_0"},
    "logits, ggml_q4_0": {"matching": "logits", "preset": "full", "grid": "ggml_q4_0"},
    "logits, uniform4": {"matching": "logits", "preset": "full", "grid": "uniform4"},
    "logits, uniform4, lsq": {
        "matching": "logits",
        "preset": "full",
        "grid": "uniform4",
        "ranges": "lsq",
    },
    "logits, ct2_int8, int8_per_token": {
        "matching": "logits",
        "preset": "full",
        "activations": "int8_per_token",
    },
    "logits, ggml_q4_0, q8_0_blocks": {
        "matching": "logits",
        "preset": "full",
        "grid": "ggml_q4_0",
        "activations": "q8_0_blocks",
    },
}
REFERENCE = {  # variant -> what its time is divided by
    **{name: "logits" for name in VARIANTS if name != "logits"},
    "dynamic_monotonic (block), qat full": "dynamic_monotonic (block)",
    "kdq, qat full": "logits, qat full",
}
TOKENS = 80  # of text in an utterance
UNCACHED = ("activations", "lambda_encoder")  # keys of variants that no cache serves


def build(weights: Path, frozen: bool, layers: int = 4, window: str = "full", **conf):
    """tiny with base as its teacher, in training mode, and its optimizer.

    With more or fewer decoder layers than tiny's 4, those that tiny lacks are random.
    """
    from espnet2.asr.ctc import CTC

    from espnet_dq.formats.openai import read as openai
    from espnet_dq.task.decoder import DQWhisperDecoder
    from espnet_dq.task.encoder import DQWhisperEncoder
    from espnet_dq.task.model import DQWhisperModel
    from espnet_dq.task.tokenizer import token_list

    dims = {**asdict(SIZES["tiny"]), "n_text_layer": layers}
    encoder = DQWhisperEncoder(dims=dims, window=window)
    decoder = DQWhisperDecoder(51865, 384, dims=dims)
    conf = {"teacher": str(weights / "base.pt"), "alpha": 0.5, **conf}
    parts = [None, None, None, None, encoder, None, decoder, CTC(51865, 384), None]
    model = DQWhisperModel(51865, token_list(), *parts, **conf)
    tiny = openai.load(weights / "tiny.pt").state
    state = model.state_dict()
    for name, value in list(state.items()):
        if name.endswith(RANGE):
            del state[name]  # learned ones start from the weights
        elif value.isnan().any():
            known = tiny.get(whisper_name(name))
            state[name] = torch.randn_like(value) * 0.02 if known is None else known.float()
    model.load_state_dict(state)
    model.encoder.requires_grad_(not frozen)
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-6, fused=True)
    return model, optimizer


def make_batch(size: int, seconds: float, tokens: int) -> dict:
    """Noise of a given length with random text: the cost does not depend on the content."""
    torch.manual_seed(0)
    samples = int(seconds * 16000)
    return {
        "speech": torch.randn(size, samples) * 0.05,
        "speech_lengths": torch.full((size,), samples),
        "text": torch.randint(0, 50000, (size, tokens)),
        "text_lengths": torch.full((size,), tokens),
        "lang": 50259 + torch.arange(size)[:, None],  # no two utterances in one language
        "utt_id": [f"u{i}" for i in range(size)],
    }


@torch.no_grad()
def cached_entries(model, batch: dict) -> dict:
    """What stage 4 would have written for this batch."""
    encoder_out, _ = model.encode(batch["speech"], batch["speech_lengths"])
    end = torch.full((len(batch["utt_id"]),), -1)
    seq = build_sequences(
        batch["text"], batch["text_lengths"], batch["lang"][:, 0], end, model.tokenizer
    )
    audio, _ = model.teacher.hear(batch["speech"], batch["speech_lengths"], 480000)
    hidden, states = model.teacher(audio, seq.inputs, model.settings.tap)
    ids, log_probs = topk_log_probs(model.teacher.logits(seq.select(hidden)), 64, 1.0)
    stacked = torch.stack([seq.select(s) for s in states], dim=1).flatten(1)
    size = len(end)

    def rows(flat: torch.Tensor) -> torch.Tensor:
        return flat.reshape(size, len(flat) // size, -1)

    entries = {"encoder_out": encoder_out, "teacher_end": end[:, None]}
    for name, flat in (
        ("teacher_ids", ids.float()),
        ("teacher_log_probs", log_probs),
        ("teacher_hidden", stacked),
    ):
        entries[name] = rows(flat)
        entries[f"{name}_lengths"] = torch.full((size,), len(flat) // size)
    return entries


def step(model, optimizer, batch: dict) -> float:
    """Seconds of one forward, backward and update."""
    start = time.perf_counter()
    loss, _, _ = model(**batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


def warm_up(model, optimizer, batch: dict) -> None:
    """A first step, and the projector as it is when its least-squares start is over."""
    if model.projector is not None:
        model.projector.batches.fill_(10**6)
        torch.nn.init.normal_(model.projector.weight, std=0.02)
    step(model, optimizer, batch)


def peak(weights: Path, shape: tuple[int, float, int], conf: dict) -> int:
    """Peak resident bytes of three live steps of a variant in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_three_steps, (weights, shape, conf))


def _three_steps(weights: Path, shape: tuple[int, float, int], conf: dict) -> int:
    register()
    model, optimizer = build(weights, frozen=False, **conf)
    batch = make_batch(*shape)
    warm_up(model, optimizer, batch)
    for _ in range(2):
        step(model, optimizer, batch)
    return peak_rss_bytes()


def measure(args, cached: bool) -> dict:
    """Times and ratios of all variants, `live` or `cached`."""
    batch = make_batch(args.batch, args.seconds, TOKENS)
    variants = {n: VARIANTS[n] for n in args.variants}
    if cached:
        variants = {n: c for n, c in variants.items() if not any(key in c for key in UNCACHED)}
    models = {name: build(args.weights, frozen=cached, **conf) for name, conf in variants.items()}
    batches = {}
    for name, (model, optimizer) in models.items():
        batches[name] = {**batch, **(cached_entries(model, batch) if cached else {})}
        warm_up(model, optimizer, batches[name])
    times = {name: [] for name in variants}
    for number in range(args.rounds):
        for name, (model, optimizer) in models.items():
            times[name].append(step(model, optimizer, batches[name]))
        print(f"{'cached' if cached else 'live'} round {number + 1}/{args.rounds}", flush=True)
    result = {}
    for name, seconds in times.items():
        result[name] = {"median_seconds": statistics.median(seconds)}
        if REFERENCE.get(name) in times:
            ratios = [a / b for a, b in zip(seconds, times[REFERENCE[name]], strict=True)]
            result[name] |= {
                "against": REFERENCE[name],
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
    return result


def measure_caches(args) -> dict:
    """Of a step with hidden states: its time without stage 4's answers over that with them.

    Of a frozen encoder the cache has its output, too.
    """
    batch, result = make_batch(args.batch, args.seconds, TOKENS), {}
    for frozen in (False, True):
        model, optimizer = build(args.weights, frozen, matching="dynamic_monotonic", preset="none")
        entries = cached_entries(model, batch)
        if not frozen:
            del entries["encoder_out"]
        warm_up(model, optimizer, batch)
        pairs = []
        for number in range(args.rounds):
            pairs.append([step(model, optimizer, b) for b in (batch, batch | entries)])
            print(f"caches round {number + 1}/{args.rounds}", flush=True)
        ratios = [live / cached for live, cached in pairs]
        result["frozen encoder" if frozen else "trained encoder"] = {
            "live_seconds": statistics.median(live for live, _ in pairs),
            "cached_seconds": statistics.median(cached for _, cached in pairs),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
    return result


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of tiny.pt, base.pt")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (10)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="only these (all)"
    )
    parser.add_argument("--batch", type=int, default=2, help="utterances a batch (2)")
    parser.add_argument("--seconds", type=float, default=20, help="speech an utterance (20)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    register()
    result = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "batch": args.batch,
        "seconds": args.seconds,
        "tokens": TOKENS,
        "live": measure(args, cached=False),
        "cached": measure(args, cached=True),
        "caches": measure_caches(args),
        "peak_rss_bytes": {
            name: peak(args.weights, (args.batch, args.seconds, TOKENS), VARIANTS[name])
            for name in args.variants
        },
    }
    for kind in ("live", "cached"):
        for name, row in result[kind].items():
            against = (
                f"  {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f}) "
                f"of {row['against']}"
                if "ratio" in row
                else ""
            )
            print(f"{kind:7} {name:38} {row['median_seconds']:7.3f} s{against}")
    for name, row in result["caches"].items():
        print(
            f"caches  {name:38} {row['live_seconds']:.3f} s over {row['cached_seconds']:.3f} s: "
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        )
    for name, size in result["peak_rss_bytes"].items():
        print(f"peak    {name:38} {size / 1e6:7.0f} MB")
    if args.out:
        write_text(args.out, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
