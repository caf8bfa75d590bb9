"""Round a model's weights so that its layers' outputs on clips change least.

GPTQ (Frantar et al., arXiv 2210.17323): the columns of a weight are rounded one after the other,
and what the error of one does to the output, as the second moments of the layer's inputs tell, is
taken back by those that are still to come. Scales are chosen as each block of columns is reached.
What comes out lies on the grid like anything else there: files and runtimes do not differ.

Example usage::

    grids = assign_grids(weights.dims, "ggml_q4_0")
    clips = RoundingClips("data/train", 64, weights.dims, padding_of(grids))
    quantized = quantize(weights, grids, clips)
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm
from whisper.model import Whisper

from espnet_dq.errors import InputError, named
from espnet_dq.quant.calibrate import on_input
from espnet_dq.quant.fake_quant import LOWEST, least_error_clip
from espnet_dq.quant.grid import Grid, Quantized, matrix_of
from espnet_dq.quant.grids import get_grid
from espnet_dq.whisper.forward import decode_hidden, encode
from espnet_dq.whisper.weights import EMBEDDING, Weights, all_finite

# Added to the second moments, as a part of their mean: how much the weights count by themselves,
# beside the clips. The embedding is read as it is, too, where all of its columns count alike.
DAMPING, EMBEDDING_DAMPING = 0.1, 1.0
CLIPS = 64  # that show which weights matter
LAZY = 32  # columns whose errors reach those behind them in one product


def quantize(
    weights: Weights, grids: Mapping[str, str], clips: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Quantized]:
    """Each weight named in `grids` on its grid.

    Args:
        weights: a float model.
        grids: {name of a weight: name of its grid}, as of `assign_grids`.
        clips: log-mel features (1, n_mels, F) and tokens (1, T) that the decoder is fed, at least
            one.

    Raises:
        InputError: a grid that a weight does not fit, or whose values lie in no even steps, or
            inputs that are not finite.
    """
    return {name: q for name, q, _ in _rounded(weights, grids, clips)}


def start(
    weights: Weights, grids: Mapping[str, str], clips: Iterable[tuple[Tensor, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Where training on the grid begins if it is to begin with these integers.

    Arguments and errors are those of `quantize`; a grid must have learned ranges, too.

    Returns:
        Of each weight named in `grids` the float values that were rounded, what earlier columns
        left to them included, and the clips [rows, groups] of their ranges. Where a range would end
        beyond its group's largest magnitude, values whose integer lies at the end are moved there;
        where there is none, it ends at that magnitude. On grids that end farther out on the side of
        that magnitude (`ggml_q5_0`, `ggml_q4_0`), values of the other side are moved below it,
        if one lies at the end.
    """
    for name, grid in grids.items():
        if not get_grid(grid).learns:
            raise InputError(f"{name}: grid {grid} takes no learned range")
    floats, ranges = {}, {}
    for name, q, values in _rounded(weights, grids, clips):
        floats[name], ranges[name] = _as_rounded(q, values)
    return floats, ranges


def _as_rounded(q: Quantized, values: Tensor) -> tuple[Tensor, Tensor]:
    """Floats and clips of a weight, with which training rounds it to `q`; see `start`."""
    grid, shape = get_grid(q.grid), values.shape
    steps, integers = grid.steps(q.scale)[0].unsqueeze(2), grid.groups(q.integers.float())
    end = steps.abs() * -grid.bottom
    values = grid.groups(values)
    # On grids that are not symmetric, the lowest integer alone lies at the end of the range.
    one_sided = -grid.bottom == 2 ** (grid.bits - 1)
    side = -steps.sign() if one_sided else values.sign()
    short = (values * side).amax(dim=2, keepdim=True) < end
    values = torch.where(short & (integers.abs() == -grid.bottom), integers * steps, values)
    top = (values * side).amax(dim=2, keepdim=True)
    if one_sided:  # whose sign is that of the value of the largest magnitude
        below = -side * top.nextafter(torch.zeros(()))
        values = torch.where((top >= end) & (-values * side >= top), below, values)
        top = values.abs().amax(dim=2, keepdim=True)
    clips = torch.where(top > 0, end / top, 1.0).clamp(LOWEST, 1).squeeze(2)
    return values.reshape(shape), clips


def _rounded(
    weights: Weights, grids: Mapping[str, str], clips: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[str, Quantized, Tensor]]:
    """Name, and what `rounded` gives, of each weight."""
    model = Whisper(weights.dims).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in weights.state.items()})
    moments = second_moments(model, grids, clips)
    for name, grid in tqdm(grids.items(), desc="round", unit="weight"):
        damping = EMBEDDING_DAMPING if name == EMBEDDING else DAMPING
        moment = moments.pop(name)
        with named(name):
            if not all_finite(moment):
                raise InputError("what it reads on the clips is not finite")
            found = rounded(model.get_parameter(name).detach(), get_grid(grid), moment, damping)
        yield name, *found


def second_moments(
    model: Whisper, names: Iterable[str], clips: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """{name of a weight: sum of x xT over its inputs x on the clips}, float32 [columns, columns].

    Those of a convolution are what its kernel covers.
    """
    moments: dict[str, Tensor] = {}

    def take(name: str, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, nn.Conv1d):
            covered = F.unfold(
                x.unsqueeze(2),
                (1, module.kernel_size[0]),
                padding=(0, module.padding[0]),
                stride=(1, module.stride[0]),
            )
            rows = covered.transpose(1, 2).flatten(0, 1)
        else:
            rows = x.flatten(0, -2)
        product = rows.T @ rows
        moments[name] = moments[name].add_(product) if name in moments else product
        return x

    first: dict[str, str] = {}  # of those that read the same, which alone is looked at
    layers = {name: first.setdefault(_reads(name), name) for name in names}
    hooks = []
    for name in {*layers.values()}:
        layer = name.removesuffix(".weight")
        hooks.append(on_input(model, layer, partial(take, name, model.get_submodule(layer))))
    with torch.inference_mode():
        for mel, tokens in tqdm(clips, desc="calibrate", unit="clip"):
            decode_hidden(model.decoder, tokens, encode(model.encoder, mel))
    for hook in hooks:
        hook.remove()
    return {name: moments[one] for name, one in layers.items()}


def _reads(name: str) -> str:
    """The same for weights that are multiplied with the same: queries, keys and values."""
    if ".cross_attn." in name:
        return name.replace(".value.", ".key.")
    return re.sub(r"\.attn\.(key|value)\.", ".attn.query.", name)


def rounded(weight: Tensor, grid: Grid, moment: Tensor, damping: float) -> tuple[Quantized, Tensor]:
    """A weight on a grid, for inputs of these second moments [columns, columns].

    `damping` is added to them as a part of the mean of their diagonal. Beside it float values of
    the weight's shape: each column as it was when it was rounded. Raises `InputError` as of
    `quantize`.
    """
    grid.quantize(weight)  # whether it fits at all
    matrix = matrix_of(weight, grid.name).clone()
    columns = matrix.shape[1]
    root = _inverse_root(moment, damping)
    integers, scales = torch.empty_like(matrix), []
    for start in range(0, columns, span := grid.span(columns)):
        end = min(start + span, columns)
        block = matrix[:, start:end]
        # What an error costs when all later columns take back what they can.
        cost = root.diagonal()[start:end] ** -2
        clip = least_error_clip(block, grid, cost) if grid.learns else None
        scales.append(grid.quantize(block, clip).scale)
        steps, offsets = grid.steps(scales[-1])
        width = (end - start) // steps.shape[1]
        for first in range(start, end, LAZY):
            last = min(first + LAZY, end)
            errors = matrix.new_zeros(len(matrix), last - first)
            for j in range(first, last):
                group, column = (j - start) // width, matrix[:, j]
                step = steps[:, group]
                offset = 0.0 if offsets is None else offsets[:, group]
                q = torch.where(step == 0, 0.0, (column - offset) / step)
                integers[:, j] = q = q.round_().clamp_(grid.bottom, grid.top)
                error = (column - (q * step + offset)) / root[j, j]
                errors[:, j - first] = error
                matrix[:, j + 1 : last] -= error[:, None] * root[j, j + 1 : last]
            matrix[:, last:] -= errors @ root[first:last, last:]
    scale = scales[0] if len(scales) == 1 else torch.cat(scales, dim=1)
    integers = integers.to(torch.int8).reshape(weight.shape)
    return Quantized(grid.name, integers, scale), matrix.reshape(weight.shape)


def _inverse_root(moment: Tensor, damping: float) -> Tensor:
    """The upper triangular U with UT U the inverse of the damped moments, float32."""
    moment = moment.to(torch.float64, copy=True)
    diagonal = moment.diagonal()
    # Inputs that were always 0 say nothing: then the weights count by themselves.
    diagonal += damping * diagonal.mean() or 1.0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    return torch.linalg.cholesky(inverse, upper=True).float()
