"""Times the encoder and a token's step of ONNX models side by side, in ONNX Runtime as we call it.

In each round every model hears the same noise, a window of it, and takes --steps tokens behind a
prompt. A line has the medians in ms, and of the rounds' ratios to the first model the median and
the quarters: times of one machine differ from hour to hour, ratios of one round hardly.

    .venv/bin/python benchmarks/onnx_steps.py --models float=tiny_onnx int8=tiny_onnx_int8 \\
        --out benchmarks/results/onnx_steps.jsonl
"""

import argparse
from importlib.metadata import version
from pathlib import Path
from time import process_time

import numpy as np
import torch

from espnet_dq.errors import run
from espnet_dq.report.markdown import table
from espnet_dq.runtimes.onnx import Model
from lines import Lines
from named import named

PROMPT = (50258, 50259, 50359, 50363)
PARTS = ("encoder", "step")


@torch.inference_mode()
def times(model: Model, mel: torch.Tensor, steps: int) -> tuple[float, float]:
    """Seconds of processor time: of the encoder, and of a token behind the prompt."""
    start = process_time()
    heard = model.encoder(mel)
    encoded = process_time()
    cache: dict = {}
    model.decoder(torch.tensor([PROMPT]), heard, kv_cache=cache)
    begun = process_time()
    for token in range(steps):
        model.decoder(torch.tensor([[token]]), heard, kv_cache=cache)
    return encoded - start, (process_time() - begun) / steps


def compare(models: dict[str, Model], rounds: int, steps: int) -> dict[str, dict]:
    """Name -> part -> ms, and ratio, low and high: the rounds' median and quarters."""
    dims = next(iter(models.values())).dims
    random = torch.Generator().manual_seed(0)
    mel = torch.randn(1, dims.n_mels, 2 * dims.n_audio_ctx, generator=random)
    for model in models.values():  # what is loaded and allocated once
        times(model, mel, steps)
    found = np.array([[times(x, mel, steps) for x in models.values()] for _ in range(rounds)])
    ratios = found[:, :1] / found
    return {
        name: {
            part: {
                "ms": round(float(np.median(found[:, i, j])) * 1e3, 2),
                **dict(zip(("low", "ratio", "high"),
                           map(float, np.quantile(ratios[:, i, j], (0.25, 0.5, 0.75))),
                           strict=True)),
            }
            for j, part in enumerate(PARTS)
        }
        for i, name in enumerate(models)
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Time all models; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=FOLDER", help="the first: what to beat")
    add("--rounds", type=int, default=20, help="(20)")
    add("--steps", type=int, default=20, help="tokens of a round (20)")
    add("--threads", type=int, default=1, help="CPU threads (1)")
    add("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    paths = named(args.models, "--models")
    models = {name: Model(path, args.threads) for name, path in paths.items()}
    results, rows = Lines(args.out), []
    for name, parts in compare(models, args.rounds, args.steps).items():
        results.add({
            "model": name, "first": next(iter(models)), **parts, "rounds": args.rounds,
            "threads": args.threads, "runtime": f"onnxruntime {version('onnxruntime')}",
        })  # fmt: skip
        cells = ((x["ms"], f"{x['ratio']:.2f} ({x['low']:.2f} to {x['high']:.2f})")
                 for x in parts.values())  # fmt: skip
        rows.append([name, *(str(cell) for pair in cells for cell in pair)])
    head = (cell for part in PARTS for cell in (f"{part}, ms", "times as fast"))
    print(table(["", *head], rows))
    return 0


if __name__ == "__main__":
    run(main)
