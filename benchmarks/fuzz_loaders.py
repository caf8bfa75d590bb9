"""Damaged model files: every loader must end in a result or in our own error, in bounded memory.

Toy files of each format are damaged at random: cut, bytes flipped, overwritten with extreme
numbers, pieces removed, doubled or moved; most of it where names, sizes and types stand. Anything
but a result or an `InputError` (another exception, more memory than the limit, more time than
ten seconds) is a failure; its input is kept in --keep.

    .venv/bin/python benchmarks/fuzz_loaders.py --format ggml --inputs 100000 \\
        --out benchmarks/results/fuzz_ggml.jsonl
"""

import argparse
import collections
import json
import random
import resource
import signal
import struct
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, run
from espnet_dq.files import atomic
from espnet_dq.formats import (
    ctranslate2,
    ctranslate2_writer,
    ggml,
    ggml_writer,
    huggingface,
    openai,
    packed,
)
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.whisper.dims import weight_shapes

DIMS = ModelDimensions(80, 8, 32, 2, 1, 40, 8, 32, 2, 1)


def load_huggingface(path: Path) -> Weights:
    """Load the folder whose config.json and weights stand in one file, a zero byte between."""
    config, _, tensors = path.read_bytes().partition(b"\0")
    (path.parent / "config.json").write_bytes(config)
    (path.parent / huggingface.FILE).write_bytes(tensors)
    return huggingface.load(path.parent)


LOADERS = {
    "openai": ("toy.pt", openai.load),
    "ggml": ("toy.bin", ggml.load),
    "ct2": ("model.bin", lambda path: ctranslate2.load(path.parent)),
    "packed": ("toy.safetensors", packed.load),
    "hf": ("toy", load_huggingface),
}
SPARE = 512 << 20  # bytes of address space beyond what the process has when it starts
EXTREMES = (0, 1, -1, 127, 255, 1 << 15, 1 << 16, 1 << 20, (1 << 31) - 1, -(1 << 31))


def originals(form: str) -> list[bytes]:
    """Sound files of a format: in floats, and on grids where the format has them."""
    generator = torch.Generator().manual_seed(0)
    shapes = weight_shapes(DIMS)
    state = {n: torch.randn(s, generator=generator) * 0.1 for n, s in shapes.items()}
    weights = Weights(DIMS, state)
    # Real vocabularies are large and have no structure to damage but their lengths.
    ggml_writer.ordinary_tokens = lambda n_vocab: [b"a", b"bc", b"\xff"]
    huggingface._ends = lambda dims: (0, 1)
    grids = {
        "openai": ("none",),
        "ggml": ("none", "ggml_q5_0", "ggml_q8_0"),
        "ct2": ("none", "ct2_int8"),
        "packed": ("none", "uniform3", "ggml_q4_0"),
        "hf": ("none",),
    }[form]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / LOADERS[form][0]
        for name in grids:
            quantized = {}
            if name != "none":
                grid = get_grid(name)
                quantized = {n: grid.quantize(state[n]) for n in assign_grids(DIMS, name)}
            if form == "openai":
                openai.save(path, weights)
            elif form == "ggml":
                ggml_writer.save(path, weights, quantized)
            elif form == "packed":
                packed.save(path, weights, quantized)
            elif form == "hf":
                huggingface.save_weights(path.parent, weights, "float16")
                parts = (path.with_name(name) for name in ("config.json", huggingface.FILE))
                path.write_bytes(b"\0".join(part.read_bytes() for part in parts))
            else:
                spec = ctranslate2_writer.specification(weights, quantized, "float16")
                spec.register_vocabulary([str(i) for i in range(DIMS.n_vocab)])
                spec.validate()
                spec.optimize()
                spec.save(scratch)
            found.append(path.read_bytes())
            LOADERS[form][1](path)  # sound as it is
    return found


def structure(data: bytes) -> list[int]:
    """Offsets where names, sizes and types stand: the file's ends, and around each name."""
    offsets = {*range(min(256, len(data))), *range(max(0, len(data) - 256), len(data))}
    at = data.find(b"coder")
    while at >= 0:
        offsets.update(range(max(0, at - 48), min(len(data), at + 80)))
        at = data.find(b"coder", at + 1)
    return sorted(offsets)


def damage(data: bytes, places: list[int], dice: random.Random) -> bytes:
    """One to four damages, most of them in `places`."""
    broken = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        if not broken:
            break
        at = dice.choice(places) if dice.random() < 0.8 else dice.randrange(len(broken))
        at = min(at, len(broken) - 1)
        kind = dice.randrange(7)
        if kind == 0:
            del broken[at:]
        elif kind == 1:
            broken[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            broken[at] = dice.randrange(256)
        elif kind == 3:
            broken[at : at + 4] = struct.pack("<i", dice.choice(EXTREMES))
        elif kind == 4:
            broken[at : at + 8] = struct.pack("<q", dice.choice(EXTREMES) << dice.randrange(32))
        elif kind == 5:
            del broken[at : at + dice.randint(1, 64)]
        else:
            start = dice.randrange(len(broken))
            broken[at:at] = broken[start : start + dice.randint(1, 64)]
    return bytes(broken)


def _too_slow(signum, frame):
    raise TimeoutError


def fuzz(form: str, inputs: int, seed: int, keep: Path) -> dict:
    """Try `inputs` damaged files; returns counts by outcome."""
    files = [(data, structure(data)) for data in originals(form)]
    name, load = LOADERS[form]
    dice = random.Random(f"{form} {seed}")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + SPARE, pages + SPARE))
    signal.signal(signal.SIGALRM, _too_slow)
    outcomes: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        for number in tqdm(range(inputs), desc=form, mininterval=10):
            data = damage(*dice.choice(files), dice)
            path.write_bytes(data)
            signal.alarm(10)
            try:
                load(path)
                outcome = "result"
            except InputError as e:
                outcome = "InputError" if str(path.parent) in str(e) else "InputError, no name"
            except Exception as e:
                outcome = type(e).__name__
            finally:
                signal.alarm(0)
            outcomes[outcome] += 1
            if outcome not in ("result", "InputError") and outcomes[outcome] <= 5:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{form}-{seed}-{number}-{outcome}").write_bytes(data)
    bad = sum(n for k, n in outcomes.items() if k not in ("result", "InputError"))
    return {
        "format": form,
        "inputs": inputs,
        "seed": seed,
        "outcomes": dict(outcomes),
        "failures": bad,
        "spare_bytes": SPARE,
        "seconds": round(time.monotonic() - began),
        "date": date.today().isoformat(),
    }


def main(argv: list[str] | None = None) -> int:
    """Fuzz one format; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", required=True, choices=LOADERS)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"))
    parser.add_argument("--out", type=Path, required=True, help="JSON line to write")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    result = fuzz(args.format, args.inputs, args.seed, args.keep)
    print(json.dumps(result))
    with atomic(args.out) as tmp:
        tmp.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return int(result["failures"] > 0)


if __name__ == "__main__":
    run(main)
