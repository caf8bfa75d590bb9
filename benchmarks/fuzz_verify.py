"""Changed models: whenever a runtime's output differs from the original's, verify has said so.

A model of each format is changed in one thing at a time: a tensor, a scale, a setting, a key, a
file, a node, an alias, a name, a byte. `verify` judges the change; every change that it lets pass
runs in the format's runtime, and so does a share of those that it caught, which tells how many
changes alter anything at all. Logits of all positions and the text of a clip of noise are compared
with the original's, bit for bit. One JSON line is written for each batch of changes; a run that was
interrupted goes on with the batches that are missing.

    .venv/bin/python benchmarks/fuzz_verify.py --format ct2 --changes 10000 \\
        --out benchmarks/results/verify_ct2.jsonl
    .venv/bin/python benchmarks/fuzz_verify.py --format ct2 --changes 200 --model tiny.pt \\
        --out benchmarks/results/verify_ct2_tiny.jsonl
"""

import collections
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import DQError, InputError, run
from espnet_dq.formats import detect, logits
from espnet_dq.formats.logits import Probe
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.report import Reference
from espnet_dq.formats.verify import compare, judge
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.whisper.weights import Weights
from fuzz_changes import CHANGES, REWRITTEN, Unchanged
from fuzz_worker import Worker
from lines import Lines

BATCH = 100  # changes, and a JSON line
GRIDS = {"ct2": "ct2_int8", "ggml": "ggml_q5_0", "onnx": "onnx_int8", "hf": "uniform4",
         "packed": "uniform3", "openai": "uniform4", "transformers_js": "ggml_q4_0"}  # fmt: skip
# Two seconds of audio and few positions, but every token: a change to any of them can be seen.
TOY = ModelDimensions(80, 100, 32, 2, 2, 51865, 32, 32, 2, 2)


@dataclass(frozen=True)
class Original:
    """A sound file of a format, what it was made from, and what its runtime makes of it."""

    form: str
    path: Path
    reference: Reference
    probe: Probe


def make(form: str, grid: str, weights: Weights, folder: Path) -> Original:
    """Write `weights` in a format, on a grid."""
    state = {name: tensor.float() for name, tensor in weights.state.items()}
    grids = assign_grids(weights.dims, grid)
    quantized = quantize(state, grids)
    path = folder / ("model" if FORMATS[form].folder else "model.bin")
    write(form, path, Weights(weights.dims, dict(state)), quantized, "float16")
    on_grid = {name: get_grid(grid).fake(state[name]) for name, grid in grids.items()}
    scales = {name: q.scale for name, q in quantized.items()}
    reference = Reference(weights.dims, state | on_grid, grids, scales, state)
    return Original(form, path, reference, logits.make_probe(weights.dims))


def toy() -> Weights:
    """A random model whose every weight matters."""
    torch.manual_seed(0)
    state = Whisper(TOY).state_dict()
    for name, tensor in state.items():
        if name == "encoder.positional_embedding":
            continue
        spread = 0.5 if tensor.dim() > 1 else 0.1
        tensor.copy_(torch.randn(tensor.shape) * spread)
        if "ln" in name and name.endswith("weight"):
            tensor += 1
    return Weights(TOY, state)


def said(original: Original, path: Path) -> str:
    """What verify says of a file without running it; empty: nothing."""
    try:
        form = detect.detect(path)
        report = compare(path, original.reference)
    except DQError as e:
        return str(e)
    if form != original.form:
        return f"is {form}"
    return "mismatched" if report.mismatched else ""


def batch(original: Original, worker: Worker, seed: int, count: int, share: float) -> dict:
    """Try `count` changes; counts by kind, and what must not be."""
    dice = random.Random(f"{original.form} {seed}")
    kinds: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures = []
    for number in tqdm(range(count), desc=f"{original.form} {seed}", mininterval=10, leave=False):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / original.path.name
            kind = what = ""
            while not kind:
                change = dice.choice(CHANGES[original.form])
                try:
                    kind, what = change(original.path, path, dice)
                except Unchanged:
                    continue
            tally = kinds[kind]
            tally["changes"] += 1
            try:
                word = said(original, path)
            except Exception as e:  # whatever it is, it is a fault of verify
                failures.append(f"{seed}:{number} {kind} {what}: {type(e).__name__}: {e}"[:300])
                continue
            if word and kind == REWRITTEN:
                failures.append(f"{seed}:{number} {kind} {what}: refused: {word}"[:300])
            if word and dice.random() >= share:
                tally["said"] += 1
                continue
            found = worker.output(path)
            altered = found != worker.original
            tally["run"] += 1
            tally["altered"] += altered
            if not word and not isinstance(found, str):
                if FORMATS[original.form].engine:
                    row = judge(FORMATS[original.form], found.logits, path, original.probe)
                    word = row.note * bool(row.integers)
            elif not word:
                word = found  # it does not run, which verify's own run tells
            tally["said"] += bool(word)
            if altered and not word:
                failures.append(f"{seed}:{number} {kind} {what}: not seen"[:300])
    return {
        "format": original.form,
        "batch": seed,
        "changes": count,
        "share": share,
        "kinds": {kind: dict(tally) for kind, tally in sorted(kinds.items())},
        "failures": failures,
    }


def main(argv: list[str] | None = None) -> int:
    """Fuzz one format; 1 if anything failed."""
    parser = Parser(__doc__)
    parser.add_argument("--format", required=True, choices=CHANGES)
    parser.add_argument("--grid", help="another than the format's usual one")
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.1, help="of what verify caught, run, too")
    parser.add_argument("--model", type=Path, help="a .pt instead of the toy")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, to which is added")
    args = parser.parse_args(argv)
    if args.changes % BATCH:
        raise InputError(f"--changes {args.changes}: no multiple of {BATCH}")
    torch.set_num_threads(1)
    lines = Lines(args.out)
    done = {line["batch"] for line in lines.read()}
    with tempfile.TemporaryDirectory() as folder:
        weights = detect.load(args.model) if args.model else toy()
        original = make(args.format, args.grid or GRIDS[args.format], weights, Path(folder))
        worker = Worker(original.form, original.path, original.probe)
        if word := said(original, original.path):
            raise InputError(f"the original is refused: {word}")
        for seed in range(args.changes // BATCH):
            if seed in done:
                continue
            began = time.monotonic()
            result = batch(original, worker, seed, BATCH, args.share)
            result |= {"grid": args.grid or GRIDS[args.format],
                       "model": str(args.model.name) if args.model else "toy",
                       "seconds": round(time.monotonic() - began)}  # fmt: skip
            lines.add(result)
        worker.close()
    results = lines.read()
    failures = [failure for result in results for failure in result["failures"]]
    total: collections.Counter[str] = collections.Counter()
    for result in results:
        for tally in result["kinds"].values():
            total.update(tally)
    print(f"{args.format}: {dict(total)}, {len(failures)} failures")
    for failure in failures:
        print(failure)
    return int(bool(failures))


if __name__ == "__main__":
    run(main)
