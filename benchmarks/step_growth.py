"""How a training step grows with batch, length and layers: tokens a second and peak memory.

One thing is changed at a time. tiny learns from base with dynamic_monotonic matching in float, four
utterances of 10 s and 40 tokens, in 30 s windows; `window: batch` pads to the longest utterance
instead. Each case runs in a process of its own; tokens are those that are counted in the loss,
seconds the median of --rounds steps after a first one. Utterances are noise, weights of a student
of other depth random: the cost does not depend on them.

    .venv/bin/python benchmarks/step_growth.py --weights egs2/dq_whisper/asr1/downloads/weights \\
        --out benchmarks/results/step_growth.json
"""

import argparse
import json
import multiprocessing
import statistics
from datetime import date
from pathlib import Path

import torch

from espnet_dq.decode.folder import peak_rss_bytes
from espnet_dq.errors import run
from espnet_dq.files import write_text
from espnet_dq.recipe.description import commit
from espnet_dq.report.markdown import table
from espnet_dq.task.plugin import register
from step_cost import build, make_batch, step, warm_up

START = {"batch": 4, "seconds": 10, "layers": 4, "window": "full", "teacher": "base"}
CASES = [
    {},
    *({"batch": batch} for batch in (1, 2, 8, 16)),
    *({"seconds": seconds} for seconds in (5, 20, 29)),
    *({"seconds": seconds, "window": "batch"} for seconds in (5, 10, 20, 29)),
    *({"layers": layers} for layers in (1, 2, 6)),
    *({"teacher": teacher} for teacher in ("tiny", "small")),
]
TOKENS = 4  # a second


def measure(weights: Path, case: dict, rounds: int) -> dict:
    """One case: seconds a step, tokens a second, peak resident bytes of this process."""
    register()
    model, optimizer = build(
        weights, frozen=False, layers=case["layers"], window=case["window"],
        teacher=str(weights / f"{case['teacher']}.pt"), teacher_dims=case["teacher"],
        matching="dynamic_monotonic", preset="none",
    )  # fmt: skip
    batch = make_batch(case["batch"], case["seconds"], TOKENS * case["seconds"])
    warm_up(model, optimizer, batch)
    seconds = statistics.median(step(model, optimizer, batch) for _ in range(rounds))
    with torch.no_grad():
        tokens = int(model(**batch)[2])
    return {
        **case,
        "seconds_per_step": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of tiny, base, small")
    parser.add_argument("--rounds", type=int, default=5, help="steps that are timed (5)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    rows = []
    for number, change in enumerate(CASES, 1):
        # Spawned: the peak of a process is that of its case alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (args.weights, START | change, args.rounds)))
        print(f"case {number}/{len(CASES)}: {change}", flush=True)
    result = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "rows": rows,
    }
    print(render(result))
    if args.out:
        write_text(args.out, json.dumps(result, indent=1) + "\n")
    return 0


def render(result: dict) -> str:
    """The table of a result."""
    head = ["batch", "seconds", "student's layers", "window", "teacher", "s/step", "tokens/s", "MB"]
    return table(
        head,
        [
            [
                *(str(row[key]) for key in START),
                f"{row['seconds_per_step']:.2f}",
                f"{row['tokens_per_second']:.0f}",
                f"{row['peak_rss_bytes'] / 1e6:.0f}",
            ]
            for row in result["rows"]
        ],
    )


if __name__ == "__main__":
    run(main)
