"""LoRA adapters as peft saves them, merged into the model that they were trained on.

A layer's weight W becomes W + s * B A (Hu et al., arXiv 2106.09685), with s = alpha / r, or
alpha / sqrt(r) (rsLoRA, Kalajdzievski, arXiv 2312.03732). It is computed in float64 and rounded
once, to float32. What peft can do beyond that is refused, since no weight would hold it, or since
it changes the base as well.

`fan_in_fan_out` is for layers that keep their weight transposed. A Whisper has none, and peft
itself overrides the setting there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from os.path import lexists
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_dq.errors import InputError, shown
from espnet_dq.formats import safetensors_file, torch_file
from espnet_dq.formats.detect import ADAPTER
from espnet_dq.formats.hf.names import hf_name, read_json
from espnet_dq.whisper.weights import EMBEDDING, Weights, cast

CONFIG, *_FILES = ADAPTER
_PREFIX = "base_model.model."
_EMBEDDING = hf_name(EMBEDDING)
_PROJECTION = "proj_out.weight"  # the embedding as an output layer
_ENDS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_B.bias": "bias",
}
_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save)\.")  # around a layer that was there before
# Keys of the configuration that are read here, or say nothing of the sum.
_READ = {
    "alpha_pattern", "base_model_name_or_path", "bias", "init_lora_weights", "lora_alpha",
    "lora_bias", "modules_to_save", "peft_type", "r", "rank_pattern", "target_modules",
    "use_rslora",
}  # fmt: skip
_OF_TRAINING = {
    "auto_mapping", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip
_SOME_LAYERS = ("exclude_modules", "layers_to_transform")
_STARTS = (True, False, "gaussian")  # those that leave the base as it is


class Layer(NamedTuple):
    """What is added to one layer: `scale` * B A, and `scale` * bias.

    B is (out, r), A (r, in), or (r, in, kernel) of a convolution; float64.
    """

    a: Tensor
    b: Tensor
    scale: float
    bias: Tensor | None


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder.

    Attributes:
        folder: where it is.
        base: the model that it was trained on, as its configuration names it, if it does.
        layers: transformers' name of a layer -> what is added to it.
        replaced: transformers' name of a tensor -> what takes its place.
        targets: names in which layers end that must all be there.
    """

    folder: Path
    base: str | None
    layers: Mapping[str, Layer]
    replaced: Mapping[str, Tensor]
    targets: tuple[str, ...]

    @property
    def of_embedding(self) -> bool:
        """Whether the token embedding is changed."""
        changed = {*self.replaced, *(f"{name}.weight" for name in self.layers)}
        return not changed.isdisjoint((_EMBEDDING, _PROJECTION))


def read(folder: Path) -> Adapter:
    """Read what peft's `save_pretrained` wrote.

    Raises:
        InputError: no plain LoRA, or something is missing, unknown or of another shape.
    """
    path = folder / CONFIG
    config = read_json(path)
    _check_config(config, path)
    file = next((folder / name for name in _FILES if lexists(folder / name)), folder / _FILES[0])
    layers: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    for name, tensor in _tensors(file).items():
        if not name.startswith(_PREFIX):
            raise InputError(f"{file}: {name[:80]} does not begin with {_PREFIX}")
        own = name.removeprefix(_PREFIX)
        end = next((end for end in _ENDS if own.endswith(end)), None)
        if end:
            layers.setdefault(own.removesuffix(end), {})[_ENDS[end]] = tensor
        elif ".original_module." not in own:  # which stands aside for another
            own = _WRAPPERS.sub(".", own)
            if own in replaced and not torch.equal(replaced[own], tensor):
                raise InputError(f"{file}: {name[:80]} is there twice")
            replaced[own] = tensor
    if not layers:
        raise InputError(f"{file}: holds no layer of LoRA")
    found = {name: _layer(name, parts, config, file) for name, parts in layers.items()}
    base, targets = config.get("base_model_name_or_path"), config.get("target_modules")
    # Otherwise which ones: a pattern of Python's, or some of these layers only.
    if not isinstance(targets, list) or any(config.get(key) for key in _SOME_LAYERS):
        targets = ()
    return Adapter(folder, base if isinstance(base, str) else None, found, replaced, (*targets,))


def _check_config(config: dict, path: Path) -> None:
    if (kind := config.get("peft_type")) != "LORA":
        raise InputError(f"{path}: peft_type {shown(kind)}: only adapters of LORA are merged here")
    for key, value in config.items():
        if value and key not in _READ | _OF_TRAINING:
            raise InputError(f"{path}: {key} is {shown(value)}: only plain LoRA is merged here")
    if (start := config.get("init_lora_weights", True)) not in _STARTS:
        raise InputError(
            f"{path}: init_lora_weights {shown(start)} changes the base: no plain LoRA"
        )
    for key in ("rank_pattern", "alpha_pattern"):
        table = config.get(key) or {}
        if not isinstance(table, dict) or any(not re.fullmatch(r"[\w.]+", name) for name in table):
            raise InputError(f"{path}: {key} is not a table of layers' names")


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return safetensors_file.read(file)[1]
    content = torch_file.read(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a table of tensors")
    return torch_file.tensors(content, file)


def _layer(name: str, parts: dict[str, Tensor], config: dict, file: Path) -> Layer:
    kind = "embedding_" if "embedding_a" in parts else ""
    for part in (f"{kind}a", f"{kind}b"):
        if part not in parts:
            raise InputError(f"{file}: lora_{part} of {name[:80]} is missing")
    path = file.with_name(CONFIG)
    rank = _of_layer(config, "rank_pattern", "r", name, path)
    alpha = _of_layer(config, "alpha_pattern", "lora_alpha", name, path)
    a, b = (
        cast(parts[f"{kind}{x}"], torch.float64, f"lora_{kind}{x} of {name[:80]}", file)
        for x in "ab"
    )
    if a.ndim < 2 or b.ndim < 2 or a.shape[0] != rank or b.flatten(1).shape[1] != rank:
        raise InputError(
            f"{file}: {name[:80]} has shapes {tuple(a.shape)} and {tuple(b.shape)}, but rank {rank}"
        )
    if kind:  # an embedding's weight is the product transposed
        a, b = b.T, a.T
    scale = alpha / (sqrt(rank) if config.get("use_rslora") else rank)
    return Layer(a, b.flatten(1), scale, parts.get("bias"))


def _of_layer(config: dict, table: str, key: str, layer: str, path: Path) -> float:
    """A layer's rank or alpha: that of the first name in the table that it ends in."""
    names = (config.get(table) or {}).items()
    given = (v for name, v in names if layer == name or layer.endswith(f".{name}"))
    value = next(given, config.get(key))
    if type(value) not in (int, float) or not isfinite(value) or value <= 0:
        raise InputError(f"{path}: {key} {shown(value)} of {layer[:80]} is not above 0")
    return value


def merge(weights: Weights, adapter: Adapter) -> Weights:
    """The sum of both; changed tensors are float32.

    Raises:
        InputError: the adapter is of another model, or changes the embedding without the output
            projection, which a Whisper has in one.
    """
    folder, names = adapter.folder, {hf_name(name): name for name in weights.state}
    names[_PROJECTION] = EMBEDDING
    sums: dict[str, Tensor] = {}

    def before(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in names:
            raise InputError(f"{folder}: the base has no {name[:80]}")
        tensor = sums.get(name, weights.state[names[name]])
        if tensor.shape != shape:
            raise InputError(f"{folder}: {name[:80]} is {shape}, the base's {tuple(tensor.shape)}")
        return tensor.double()

    for name, tensor in adapter.replaced.items():
        before(name, tuple(tensor.shape))
        sums[name] = cast(tensor, torch.float64, name, folder)
    for name, (a, b, scale, bias) in adapter.layers.items():
        shape = (b.shape[0], *a.shape[1:])
        weight = before(f"{name}.weight", shape)
        sums[f"{name}.weight"] = weight + scale * (b @ a.flatten(1)).reshape(shape)
        if bias is not None:
            added = cast(bias, torch.float64, f"the bias of {name[:80]}", folder)
            sums[f"{name}.bias"] = before(f"{name}.bias", tuple(bias.shape)) + scale * added
    for name in names:
        layer, _, leaf = name.rpartition(".")
        target = any(layer == t or layer.endswith(f".{t}") for t in adapter.targets)
        if target and leaf == "weight" and layer not in adapter.layers:
            raise InputError(f"{folder}: {layer} is one of its target_modules, and not in the file")
    merged = {name: cast(tensor, torch.float32, name, folder) for name, tensor in sums.items()}
    if adapter.of_embedding:
        both = [merged.pop(n, weights.state[EMBEDDING].float()) for n in (_EMBEDDING, _PROJECTION)]
        if not torch.equal(*both):
            raise InputError(
                f"{folder}: changes the embedding and the output projection apart, which a Whisper "
                "has in one"
            )
        merged[_EMBEDDING] = both[0]
    state = weights.state | {names[name]: tensor for name, tensor in merged.items()}
    # In which windows adapters were trained, their folder does not say.
    return replace(weights, state=state, any_window=False).check(str(folder))
