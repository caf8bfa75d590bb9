"""Compare an exported file with the model it was made from, tensor by tensor.

Example usage::

    python -m espnet_dq.bin.verify exp/asterisk_base_tiny_ct2_int8/export \\
        --against exp/asterisk_base_tiny_ct2_int8
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from espnet_dq.errors import InputError, run
from espnet_dq.files import atomic
from espnet_dq.formats import ctranslate2, detect
from espnet_dq.formats.parity import Reference, Report, compare
from espnet_dq.formats.parity_ggml import compare_ggml
from espnet_dq.formats.parity_huggingface import compare_huggingface
from espnet_dq.formats.parity_onnx import compare_onnx
from espnet_dq.formats.parity_packed import compare_packed
from espnet_dq.formats.write import GRIDS, check_grids
from espnet_dq.quant.checkpoint import load_student, quantize
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.quant.table import read_grid


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0 if nothing differs, 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="exported file or folder to verify")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        help="experiment folder, or the checkpoint that `convert` quantized",
    )
    parser.add_argument(
        "--grid",
        metavar="none|GRID|FILE.yaml",
        help="for a checkpoint: the grid that `convert` was asked for",
    )
    parser.add_argument("--json", type=Path, help="write the comparison to this file, too")
    args = parser.parse_args(argv)

    reference = _reference(args.against, args.grid)
    form = detect.detect(args.path)
    if form in GRIDS:
        check_grids(form, reference.grids.values())
    if form == "ggml":
        report = compare_ggml(args.path, reference)
    elif form == "packed":
        report = compare_packed(args.path, reference)
    elif form == "hf":
        report = compare_huggingface(args.path, reference)
    elif form == "onnx":
        report = compare_onnx(args.path, reference)
    elif form != "ct2":
        raise InputError(f"{args.path}: verify does not read {form}")
    else:
        file = args.path / "model.bin"
        report = compare(ctranslate2.read_variables(file), reference, file)
    _print(report)
    if args.json:
        content = {"path": str(args.path), "against": str(args.against), **report.to_dict()}
        with atomic(args.json) as tmp:
            tmp.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(report.mismatched > 0)


def _reference(path: Path, grid: str | None) -> Reference:
    """What the file should hold: an experiment says it itself, a checkpoint needs a grid."""
    if path.is_dir() and not (path / "config.json").is_file():  # of a ct2, Hugging Face folder
        if grid:
            raise InputError(f"--grid is for a checkpoint; {path} is a folder with its own")
        student = load_student(path)
        return Reference(
            student.dims,
            student.reference_weights(),
            student.grids,
            _scales(student.quantized()),
        )
    if grid is None:
        raise InputError(f"--grid is missing: {path} is a checkpoint, which is on no grid yet")
    weights = detect.load(path)
    if grid == "none":
        return Reference(weights.dims, weights.state, {}, {})
    grids = assign_grids(weights.dims, read_grid(grid))
    on_grid = {name: get_grid(g).fake(weights.state[name]) for name, g in grids.items()}
    scales = _scales(quantize(weights.state, grids))
    return Reference(weights.dims, weights.state | on_grid, grids, scales)


def _scales(quantized: Mapping[str, Quantized]) -> dict[str, Tensor]:
    return {name: q.scale for name, q in quantized.items()}


def _print(report: Report) -> None:
    width = max(len(row.name) for row in report.rows)
    print(f"{'name':{width}}  {'grid':9} bits      bytes  integers  scales")
    for row in report.rows:
        print(
            f"{row.name:{width}}  {row.grid:9} {row.bits:4} {row.bytes:10} "
            f"{row.integers:9} {row.scales:7}"
        )
    total = report.to_dict()
    print(f"{total['tensors']} tensors, {total['bytes']} bytes, {total['mismatched']} mismatched")


if __name__ == "__main__":
    run(main)
