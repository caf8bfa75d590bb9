"""Is a file what it was made from? `formats.verify`, against whatever it was made from."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from whisper.model import ModelDimensions

from espnet_dq.api import nets
from espnet_dq.api.models import Model, from_net, is_training, load
from espnet_dq.errors import PATH, InputError, check_kind, shown
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect
from espnet_dq.formats.report import Reference, Report
from espnet_dq.formats.verify import verify as compare
from espnet_dq.formats.write import check_grids
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import candidates, quantize
from espnet_dq.quant.table import read_grid
from espnet_dq.report.size import grid_bits, paper_rule_bytes
from espnet_dq.student.checkpoint import load_student
from espnet_dq.whisper.dims import weight_shapes


def verify(
    path: str | Path,
    against: str | Path | Model | nets.Net,
    grid: str | Mapping[str, str] | None = None,
    base: str | Path | None = None,
) -> Report:
    """Compare a file or folder with what it was made from: all that decides its output.

    Every tensor, setting and file beside the weights is compared exactly, and if nothing differs,
    the format's runtime computes logits from it (`espnet_dq.formats.verify`).

    Args:
        path: what was written.
        against: what it was written from: a model of `load` or `quantize`, a trained openai-whisper
            model, an experiment, or a file or folder in any format, or `openai:NAME`.
        grid: what `quantize` was asked for; `keep`: the integers and scales of `against`; `none`:
            floats. Needed of a file. None of a model: what it holds itself.
        base: where `against` is a folder of adapters: as `load` has it.

    Returns:
        The report: `mismatched` counts what differs, `rows` say where; `check()` raises.

    Raises:
        InputError: no readable file, a format that cannot hold the grid, a grid missing or given
            twice, a base of what is no folder of adapters.
        WorkError: `path` holds another Whisper, or something is missing or unknown.

    Example usage::

        model = load("openai:tiny")
        save(quantize(model, "ggml_q4_0"), "tiny_q4.bin")
        verify("tiny_q4.bin", against=model, grid="ggml_q4_0").check()
    """
    check_kind("path", path, PATH, "a path")
    path = Path(path)
    reference, by_rule = _reference(against, grid, base)
    check_grids(detect.detect(path), reference.dims, reference.grids)
    report = compare(path, reference)
    report.path = str(path)
    report.sizes = {"bytes_on_disk": bytes_on_disk(path), "paper_rule_bytes": by_rule}
    return report


def _reference(
    against: str | Path | Model | nets.Net,
    grid: str | Mapping[str, str] | None,
    base: str | Path | None,
) -> tuple[Reference, int]:
    """What the file should hold, and the model's bytes by the paper's rule."""
    if base is not None and not isinstance(against, str | Path):
        raise InputError("base: only of a folder of adapters")
    if isinstance(against, nn.Module):
        return _of_net(against, grid)
    if isinstance(against, Model):
        model = against
        if grid is None:
            grid = "keep" if model.quantized else "none"
    elif not isinstance(against, PATH):
        raise InputError(f"against: {shown(against)} is neither a path nor a model")
    elif base is None and is_training(Path(against)):
        return _of_experiment(Path(against), grid)
    elif grid is None:
        raise InputError(f"--grid is missing: {against} does not say what was made of it")
    else:
        model = load(against, keep=grid == "keep", base=base)
    dims, state, own = model.dims, model.weights.state, model.weights.generation
    if grid == "keep":
        if not model.quantized:
            raise InputError(f"--grid keep: {model.path} holds no integers of a grid")
        quantized = model.quantized
        on_grid = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
        by_rule = _by_rule(dims, "full", dict.fromkeys(candidates(dims), "none") | model.grids)
    elif grid == "none":
        quantized, on_grid, by_rule = {}, {}, paper_rule_bytes(weight_shapes(dims))
    else:
        table = read_grid(grid) if isinstance(grid, str) else grid
        grids = nets.assign(dims, grid)
        # By the grids' `fake`, which training uses, not by the integers that were written.
        on_grid = {name: get_grid(g).fake(state[name]) for name, g in grids.items()}
        quantized, by_rule = quantize(state, grids), _by_rule(dims, "full", table)
    grids = {name: q.grid for name, q in quantized.items()}
    reference = Reference(dims, state | on_grid, grids, _scales(quantized), state, own,
                          model.weights.any_window)  # fmt: skip
    return reference, by_rule


def _of_net(net: nn.Module, grid: object) -> tuple[Reference, int]:
    """With the weights as the forward pass sees them."""
    if grid is not None:
        raise InputError("grid is for a file; a model in training knows its own")
    model = from_net(net)
    dims, state, grids = model.dims, model.weights.state, model.grids
    seen = nets.seen(net, grids)
    by_rule = _by_rule(dims, "full", dict.fromkeys(candidates(dims), "none") | grids)
    scales, own = _scales(model.quantized), model.weights.generation
    any_window = model.weights.any_window
    return Reference(dims, state | seen, grids, scales, state, own, any_window), by_rule


def _of_experiment(path: Path, grid: object) -> tuple[Reference, int]:
    """It says all itself."""
    if grid:
        raise InputError(f"--grid is for a checkpoint; {path} is a folder with its own")
    student = load_student(path)
    scales = _scales(student.quantized())
    weights = student.reference_weights()
    reference = Reference(student.dims, weights, student.grids, scales, student.state,
                          any_window=student.any_window)  # fmt: skip
    return reference, _by_rule(student.dims, student.quant.preset, student.quant.grid)


def _by_rule(dims: ModelDimensions, preset: str, grid: str | Mapping[str, str]) -> int:
    return paper_rule_bytes(weight_shapes(dims), preset, grid_bits(grid))


def _scales(quantized: Mapping[str, Quantized]) -> dict[str, Tensor]:
    return {name: q.scale for name, q in quantized.items()}
