"""Speed, first word, memory and size of each runtime and grid, side by side in one run.

tiny, base and small, untouched, in openai-whisper (torch) and in faster-whisper; tiny and base also
in the other runtimes and on the grids that these hold. All take turns, one clip at a time
(`espnet_dq.decode.benchmark`). A small that comes from a package of 8-bit weights is as large and
as fast in float16 as OpenAI's own.

    .venv/bin/python benchmarks/speed.py --weights weights --data dump/asterisk/raw/test \\
        --work /tmp/speed --out benchmarks/results/speed.json
"""

import argparse
import json
from pathlib import Path

from espnet_dq.api.models import convert
from espnet_dq.decode.benchmark import benchmark
from espnet_dq.errors import run
from espnet_dq.files import bytes_on_disk, write_text
from espnet_dq.formats.registry import FORMATS
from espnet_dq.recipe.description import commit
from espnet_dq.runtimes import guess_runtime

FLOAT = [("ct2", "none")]
ALL = [
    *FLOAT,
    ("ct2", "ct2_int8"),
    ("ggml", "none"),
    ("ggml", "ggml_q8_0"),
    ("ggml", "ggml_q5_0"),
    ("ggml", "ggml_q4_0"),
    ("onnx", "none"),
    ("onnx", "onnx_int8"),
    ("hf", "none"),
]
SIZES = {"tiny": ALL, "base": ALL, "small": FLOAT}


def build(weights: Path, work: Path) -> list[dict]:
    """Write every model that is not in `work` yet; returns them as a run.json's `systems`."""
    systems = []
    for size, forms in SIZES.items():
        source = weights / f"{size}.pt"
        systems.append({"name": f"{size} openai", "runtime": "torch", "path": str(source)})
        for form, grid in forms:
            path = work / f"{size}_{form}_{grid}{FORMATS[form].suffix}"
            if not path.exists():
                convert(source, path, form, grid)
            name = f"{size} {form} {grid}"
            systems.append({"name": name, "runtime": guess_runtime(path), "path": str(path)})
    return systems


def main(argv: list[str] | None = None) -> int:
    """Measure; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="tiny.pt, base.pt, small.pt")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder to take clips from")
    parser.add_argument("--clips", type=int, default=10, help="clips a turn (10)")
    parser.add_argument("--rounds", type=int, default=3, help="turns a system (3)")
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    listed = args.work / "systems.json"
    systems = build(args.weights, args.work)
    listed.write_text(json.dumps({"systems": systems}), encoding="utf-8")
    made_at = commit()
    report = benchmark(listed, args.data, args.out, clips=args.clips, rounds=args.rounds)
    report["commit"] = made_at
    for system in systems:
        report["systems"][system["name"]]["bytes_on_disk"] = bytes_on_disk(Path(system["path"]))
    write_text(args.out, json.dumps(report, indent=1) + "\n")
    print(
        "| system | on disk (MB) | RTF | first word (s) | peak memory (MB) |\n|---|---|---|---|---|"
    )
    for name, each in report["systems"].items():
        rtf = "{median:.3f} ({min:.3f} to {max:.3f})".format(**each["rtf"])
        print(
            f"| {name} | {each['bytes_on_disk'] / 1e6:.1f} | {rtf} "
            f"| {each['first_word_seconds']:.2f} | {each['peak_rss_bytes'] / 1e6:.0f} |"
        )
    return 0


if __name__ == "__main__":
    run(main)
