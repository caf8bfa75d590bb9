"""Damaged model files: every loader must end in a result or in our own error, in bounded memory.

Toy files of each format are damaged at random: cut, bytes flipped, overwritten with extreme
numbers, pieces removed, doubled or moved, numbers in words replaced by what is none; most of it
where names, sizes and types stand. Anything but a result or an `InputError` (another exception,
more memory than the limit, more than ten seconds of the processor) is a failure; its input is
kept in --keep.

    .venv/bin/python benchmarks/fuzz_loaders.py --format ggml --inputs 100000 \\
        --out benchmarks/results/fuzz_ggml.jsonl
"""

import argparse
import collections
import json
import random
import re
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

from espnet_dq.errors import InputError, run
from espnet_dq.files import write_text
from fuzz_files import LOADERS, SEPARATOR, originals

SPARE = 512 << 20  # bytes of address space beyond what the process has when it starts
NUMBER = re.compile(rb"\d+")  # where a file says it in words, as JSON does
WORDS = (b"NaN", b"-Infinity", b"true", b"null", b"1e999", b"-1", b"6.0", b'"6"', b"[]", b"{}")
EXTREMES = (0, 1, -1, 127, 255, 1 << 15, 1 << 16, 1 << 20, (1 << 31) - 1, -(1 << 31))


def structure(data: bytes) -> list[int]:
    """Offsets where names, sizes and types stand: each file's ends, and around each name."""
    offsets = {*range(min(256, len(data))), *range(max(0, len(data) - 256), len(data))}
    for mark, before, after in ((b"coder", 48, 80), (SEPARATOR, 256, 256)):
        at = data.find(mark)
        while at >= 0:
            offsets.update(range(max(0, at - before), min(len(data), at + after)))
            at = data.find(mark, at + 1)
    return sorted(offsets)


def damage(data: bytes, places: list[int], dice: random.Random) -> bytes:
    """One to four damages, most of them in `places`."""
    broken = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        if not broken:
            break
        at = dice.choice(places) if dice.random() < 0.8 else dice.randrange(len(broken))
        at = min(at, len(broken) - 1)
        kind = dice.randrange(8)
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
        elif kind == 6:
            if number := NUMBER.search(broken, at):
                broken[slice(*number.span())] = dice.choice(WORDS)
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
    # The processor's time: on a busy machine the clock says nothing of the loader.
    signal.signal(signal.SIGPROF, _too_slow)
    outcomes: collections.Counter[str] = collections.Counter()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        for number in tqdm(range(inputs), desc=form, mininterval=10):
            data = damage(*dice.choice(files), dice)
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_PROF, 10)
            try:
                load(path)
                outcome = "result"
            except InputError as e:
                outcome = "InputError" if str(path.parent) in str(e) else "InputError, no name"
            except Exception as e:
                outcome = type(e).__name__
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
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
        "cpu_seconds": round(time.process_time() - began),
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
    write_text(args.out, json.dumps(result) + "\n")
    return int(result["failures"] > 0)


if __name__ == "__main__":
    run(main)
