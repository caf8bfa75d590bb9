"""Compare an exported file with the model it was made from: all that decides its output.

Example usage::

    python -Pm espnet_dq.bin.verify exp/asterisk_base_tiny_ct2_int8/export/student \\
        --against exp/asterisk_base_tiny_ct2_int8
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, one_line, run, say
from espnet_dq.files import atomic, bytes_on_disk, check_replaceable
from espnet_dq.formats import detect, integers
from espnet_dq.formats.parity import NO_TENSORS, ON_GRID, OPEN, OTHER, SCALES, Reference, Report
from espnet_dq.formats.verify import verify
from espnet_dq.formats.write import check_grids
from espnet_dq.quant.checkpoint import load_student, quantize
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import assign_grids, candidates
from espnet_dq.quant.table import read_grid
from espnet_dq.report.size import grid_bits, paper_rule_bytes
from espnet_dq.whisper.dims import weight_shapes


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0 if nothing differs, 1 if anything does."""
    parser = Parser(__doc__)
    parser.add_argument("path", type=Path, help="exported file or folder to verify")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        help="experiment folder, or what `convert` read: a file or folder in any format",
    )
    parser.add_argument(
        "--grid",
        metavar="keep|none|GRID|FILE.yaml",
        help="where --against is what `convert` read: the grid that `convert` was given; keep: the "
        "source's own integers and scales",
    )
    parser.add_argument("--json", type=Path, help="write the comparison to this file, too")
    args = parser.parse_args(argv)
    if args.json:
        check_replaceable(args.json)

    reference, by_rule = _reference(args.against, args.grid)
    form = detect.detect(args.path)
    check_grids(form, reference.dims, reference.grids)
    report = verify(args.path, reference)
    sizes = {"bytes_on_disk": bytes_on_disk(args.path), "paper_rule_bytes": by_rule}
    _print(report, sizes)
    if args.json:
        content = {"path": str(args.path), "against": str(args.against)}
        content |= sizes | report.to_dict()
        with atomic(args.json) as tmp:
            tmp.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(report.mismatched > 0)


def _reference(path: Path, grid: str | None) -> tuple[Reference, int]:
    """What the file should hold, and the model's bytes by the paper's rule.

    An experiment says all that itself, a checkpoint needs a grid.
    """
    if _is_experiment(path):
        if grid:
            raise InputError(f"--grid is for a checkpoint; {path} is a folder with its own")
        student = load_student(path)
        reference = Reference(
            student.dims,
            student.reference_weights(),
            student.grids,
            _scales(student.quantized()),
            student.state,
        )
        return reference, _by_rule(student.dims, student.quant.preset, student.quant.grid)
    if grid is None:
        raise InputError(f"--grid is missing: {path} does not say what was made of it")
    weights = detect.load(path)
    dims, state, own = weights.dims, weights.state, weights.generation
    if grid == "keep":
        kept = integers.load(path)
        if not kept:
            raise InputError(f"--grid keep: {path} holds no integers of a grid")
        grids = {name: q.grid for name, q in kept.items()}
        on_grid = {name: get_grid(q.grid).dequantize(q) for name, q in kept.items()}
        by_rule = _by_rule(dims, "full", dict.fromkeys(candidates(dims), "none") | grids)
        state |= on_grid
        return Reference(dims, state, grids, _scales(kept), state, own), by_rule
    if grid == "none":
        return Reference(dims, state, {}, {}, state, own), paper_rule_bytes(weight_shapes(dims))
    table = read_grid(grid)
    grids = assign_grids(dims, table)
    on_grid = {name: get_grid(g).fake(state[name]) for name, g in grids.items()}
    scales = _scales(quantize(state, grids))
    reference = Reference(dims, state | on_grid, grids, scales, state, own)
    return reference, _by_rule(dims, "full", table)


def _is_experiment(path: Path) -> bool:
    """Whether it is a folder, but not one of a format."""
    if not path.is_dir():
        return False
    try:
        detect.detect(path)
    except InputError:
        return not detect.adapter(path)
    return False


def _by_rule(dims: ModelDimensions, preset: str, grid: str | Mapping[str, str]) -> int:
    return paper_rule_bytes(weight_shapes(dims), preset, grid_bits(grid))


def _scales(quantized: Mapping[str, Quantized]) -> dict[str, Tensor]:
    return {name: q.scale for name, q in quantized.items()}


def _print(report: Report, sizes: Mapping[str, int]) -> None:
    width = max(len(row.name) for row in report.rows)
    head = "shape  grid      bits      bytes    error  integers  scales  kind"
    print(f"{'name':{width}}  {head:>78}")
    for row in report.rows:
        shape = "x".join(map(str, row.shape)) or "-"
        error = "-" if row.error is None else f"{row.error:.5f}"
        print(
            f"{one_line(row.name):{width}}  {shape:>12}  {row.grid:9} {row.bits:4} "
            f"{row.bytes:10}  {error:>7} {row.integers:9} {row.scales:7}  {row.kind}"
        )
    total = report.to_dict()
    kinds = Counter(row.kind for row in report.rows)
    no_float = (ON_GRID, SCALES, OTHER, *NO_TENSORS)
    why = [f"{n} {kind}" for kind, n in kinds.items() if kind not in no_float]
    print(f"on a grid: {kinds[ON_GRID]} tensors, {total['grid_bytes']} bytes with their scales")
    print(f"in float: {', '.join(why) or 'nothing'}; {total['float_bytes']} bytes")
    left = [row.name for row in report.rows if row.kind == OPEN]
    if kinds[ON_GRID] and left:  # of a float file nothing was asked for
        say(f"in float although it could be on a grid: {', '.join(left)}")
    for row in report.rows:
        if row.note:
            say(f"{row.name}: {row.note}")
    print(
        f"on disk: {sizes['bytes_on_disk']} bytes; "
        f"by the paper's rule (counted): {sizes['paper_rule_bytes']} bytes"
    )
    print(f"{total['tensors']} tensors, {total['bytes']} bytes, {total['mismatched']} mismatched")


if __name__ == "__main__":
    run(main)
