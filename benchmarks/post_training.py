"""Post-training quantization, grid by grid: error rates, bytes, mismatches, in each own runtime.

One checkpoint is written on each grid, verified against the checkpoint, decoded and scored; one
JSON line a grid. What is done is kept in --work, so that a killed run goes on.

    .venv/bin/python benchmarks/post_training.py --checkpoint float.pt --name kd \\
        --data dump/asterisk/raw/test --work /tmp/ptq --out benchmarks/results/post_training.jsonl
"""

import argparse
import contextlib
import io
import json
import subprocess
from datetime import date
from pathlib import Path

from espnet_dq.bin import convert, verify
from espnet_dq.decode.folder import decode_folder
from espnet_dq.decode.runtimes import guess_runtime
from espnet_dq.errors import WorkError, run
from espnet_dq.files import atomic, bytes_on_disk
from espnet_dq.scoring import sclite
from espnet_dq.scoring.score import score

FORMATS = {  # grid -> format
    "none": "ggml",
    "ggml_q8_0": "ggml",
    "ggml_q5_0": "ggml",
    "ggml_q4_0": "ggml",
    "ct2_int8": "ct2",
}


def measure(checkpoint: Path, grid: str, data: Path, work: Path, name: str) -> dict:
    """One grid's line."""
    form = FORMATS[grid]
    model = work / f"{grid}{'.bin' if form == 'ggml' else ''}"
    convert.main(
        ["--from", str(checkpoint), "--to", form, "--grid", grid, "--out", str(model)]
    )  # fmt: skip
    report = work / f"{grid}.verify.json"
    with contextlib.redirect_stdout(io.StringIO()):
        verify.main(
            [str(model), "--against", str(checkpoint), "--grid", grid, "--json", str(report)]
        )
    parity = json.loads(report.read_text(encoding="utf-8"))
    if parity["mismatched"]:
        raise WorkError(f"{model}: {parity['mismatched']} values differ from {checkpoint}")
    runtime = guess_runtime(model)
    hypotheses = work / f"{grid}.decode"
    if not (hypotheses / "decode.json").is_file():
        decode_folder(model, runtime, data, hypotheses)
    rates = score(data, hypotheses, hypotheses / "score", sclite.find())
    return {
        "checkpoint": name,
        "grid": grid,
        "runtime": runtime,
        "bytes_on_disk": bytes_on_disk(model),
        "tensors": parity["tensors"],
        "mismatched": parity["mismatched"],
        "wer": rates["wer"],
        "cer": rates["cer"],
        "utterances": sum(c["utterances"] for c in rates["counts"].values()),
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip(),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure every grid; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="float .pt file")
    parser.add_argument("--name", required=True, help="what the checkpoint is, for the records")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder that is scored")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and texts")
    parser.add_argument("--grids", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to write")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    lines = []
    for grid in args.grids:
        lines.append(measure(args.checkpoint, grid, args.data, args.work, args.name))
        print(json.dumps(lines[-1]), flush=True)
    with atomic(args.out) as tmp:
        tmp.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
