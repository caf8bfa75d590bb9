"""Round a model's weights so that its layers' outputs on clips change least.

GPTQ (Frantar et al., arXiv 2210.17323): the columns of a weight are rounded one after the other,
and what the error of one does to the output, as the second moments of the layer's inputs tell, is
taken back by those that are still to come. Scales are chosen as each block of columns is reached.
What comes out lies on the grid like anything else there: files and runtimes do not differ.

Example usage::

    clips = PromptedClips("data/train", 64, weights.dims, "full")
    quantized = quantize(weights, assign_grids(weights.dims, "ggml_q4_0"), clips)
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm
from whisper.model import Whisper

from espnet_dq.errors import InputError
from espnet_dq.quant.calibrate import on_input
from espnet_dq.quant.fake_quant import least_error_clip
from espnet_dq.quant.grid import Grid, Quantized, matrix_of
from espnet_dq.quant.grids import get_grid
from espnet_dq.whisper.forward import decode_hidden, encode
from espnet_dq.whisper.weights import Weights

# Added to the second moments, as a part of their mean: how much the weights count by themselves,
# beside the clips. The embedding is read as it is, too, where all of its columns count alike.
DAMPING, EMBEDDING_DAMPING = 0.1, 1.0
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
        InputError: a grid that a weight does not fit, or whose values lie in no even steps.
    """
    model = Whisper(weights.dims).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in weights.state.items()})
    moments = second_moments(model, grids, clips)
    quantized = {}
    for name in tqdm(grids, desc="round", unit="weight"):
        embedding = name == "decoder.token_embedding.weight"
        try:
            quantized[name] = rounded(
                model.get_parameter(name).detach(),
                get_grid(grids[name]),
                moments.pop(name),
                EMBEDDING_DAMPING if embedding else DAMPING,
            )
        except InputError as e:
            raise InputError(f"{name}: {e}") from e
    return quantized


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

    layers = {name: name.removesuffix(".weight") for name in names}
    hooks = [
        on_input(model, layer, partial(take, name, model.get_submodule(layer)))
        for name, layer in layers.items()
    ]
    with torch.inference_mode():
        for mel, tokens in tqdm(clips, desc="calibrate", unit="clip"):
            decode_hidden(model.decoder, tokens, encode(model.encoder, mel))
    for hook in hooks:
        hook.remove()
    return moments


def rounded(weight: Tensor, grid: Grid, moment: Tensor, damping: float) -> Quantized:
    """A weight on a grid, for inputs of these second moments [columns, columns].

    `damping` is added to them as a part of the mean of their diagonal. Raises `InputError` as
    `quantize`.
    """
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
    return Quantized(grid.name, integers.to(torch.int8).reshape(weight.shape), scale)


def _inverse_root(moment: Tensor, damping: float) -> Tensor:
    """The upper triangular U with UT U the inverse of the damped moments, float32."""
    moment = moment.to(torch.float64, copy=True)
    diagonal = moment.diagonal()
    # Inputs that were always 0 say nothing: then the weights count by themselves.
    diagonal += damping * diagonal.mean() or 1.0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    return torch.linalg.cholesky(inverse, upper=True).float()
