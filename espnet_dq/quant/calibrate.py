"""Calibration: measure the inputs of linear layers, and keep a range for each in a file.

A range ends at the largest magnitude that was seen.

Example usage::

    with Recorder(model, candidates(model.dims)) as recorder:
        model(mel, tokens)
    save_ranges("ranges.json", recorder, {"clips": 1})
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from espnet_dq.errors import InputError, shown
from espnet_dq.files import write_text
from espnet_dq.reading import loads, read_limited

_LARGEST_FILE = 1 << 20  # bytes; a line a layer is far below


def linear_layers(root: nn.Module, weights: Iterable[str]) -> dict[str, int]:
    """{layer: width of its input} for the matrix products among `weights`."""
    widths = {}
    for name in weights:
        layer = name.removesuffix(".weight")
        module = root.get_submodule(layer)
        if isinstance(module, nn.Linear):
            widths[layer] = module.in_features
        elif isinstance(module, nn.Embedding):
            widths[layer] = module.embedding_dim
    return widths


def on_input(root: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Let a layer read `change(input)`.

    The output projection is no module: openai-whisper's decoder and our own forward pass
    multiply by the token embedding. Both read what the decoder's last LayerNorm gives, and
    nothing else does, so that is where its input is changed.
    """
    module = root.get_submodule(layer)
    if isinstance(module, nn.Embedding):
        last = root.get_submodule(layer.rpartition(".")[0] + ".ln")
        return last.register_forward_hook(lambda _, inputs, output: change(output))
    return module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))


class Recorder:
    """Measure the inputs of linear layers while the context is open.

    Args:
        root: holds the layers.
        weights: their weights' names, as in `prepare_activations`.

    Attributes:
        tops: {layer: largest magnitude so far, where its range ends}.
        rows: {layer: rows (positions) seen so far}.

    Raises `InputError` for an input that is not finite.
    """

    def __init__(self, root: nn.Module, weights: Iterable[str]):
        self._root = root
        self.tops = dict.fromkeys(linear_layers(root, weights), 0.0)
        self.rows = dict.fromkeys(self.tops, 0)

    def __enter__(self) -> "Recorder":
        self._handles = [
            on_input(self._root, layer, partial(self._take, layer)) for layer in self.tops
        ]
        return self

    def _take(self, layer: str, x: Tensor) -> Tensor:
        top = float(x.detach().float().abs().max())
        if not math.isfinite(top):
            raise InputError(f"{layer}: its input holds values that are not finite")
        self.tops[layer] = max(self.tops[layer], top)
        self.rows[layer] += x.numel() // x.shape[-1]
        return x

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()


def save_ranges(path: str | Path, recorder: Recorder, about: Mapping[str, str | int]) -> None:
    """Write the ranges as JSON, `about` (where from) first, whole or not at all.

    Raises `InputError` naming a layer that has no range.
    """
    if still := [layer for layer, top in recorder.tops.items() if not top]:
        raise InputError(f"{path}: {still[0]}: no range, as all that it was given is 0")
    layers = {
        layer: {"range": top, "rows": recorder.rows[layer]} for layer, top in recorder.tops.items()
    }
    content = {**about, "layers": layers}
    write_text(path, json.dumps(content, indent=1) + "\n")


def load_ranges(path: str | Path) -> dict[str, float]:
    """{layer: end of its range} from a file of `save_ranges`.

    Raises `InputError` naming the file, and the layer whose range is not finite or not above 0.
    """
    path = Path(path)
    content = read_limited(path, _LARGEST_FILE)
    try:
        layers = loads(content.decode("utf-8"))["layers"]
        entries = {layer: entry["range"] for layer, entry in layers.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: not a file of activation ranges") from e
    for layer, top in entries.items():
        if type(top) not in (int, float) or not 0 < top <= torch.finfo(torch.float32).max:
            raise InputError(f"{path}: {layer}: the range {shown(top)} is not finite and above 0")
    return {layer: float(top) for layer, top in entries.items()}
