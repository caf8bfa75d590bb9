"""Changes of safetensors and .pt files."""

import json
import random
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from fuzz_changes.common import REWRITTEN, Change, Unchanged, copy, flipped, other_value


def _tensors(tensors: dict[str, torch.Tensor], dice: random.Random) -> tuple[str, str]:
    """Change one thing in a table of tensors."""
    way = dice.choice(["tensor"] * 8 + ["removed", "renamed", "more", "type", "type", "swapped",
                                         "shape"])  # fmt: skip
    name = dice.choice([*tensors])
    tensor = tensors[name]
    if way == "tensor":
        tensors[name] = torch.from_numpy(flipped(tensor.numpy(), dice))
    elif way == "removed":
        del tensors[name]
    elif way == "renamed":
        tensors[name + "x"] = tensors.pop(name)
    elif way == "more":
        tensors[dice.choice([name + "x", "proj_out.weight", "kept_tokens"])] = tensor.clone()
    elif way == "type":
        dtype = dice.choice([torch.float32, torch.float16, torch.bfloat16, torch.float64,
                             torch.int8, torch.int32])  # fmt: skip
        if dtype == tensor.dtype:
            raise Unchanged
        tensors[name] = tensor.to(dtype)
    elif way == "swapped":
        same = [n for n, t in tensors.items() if t.shape == tensor.shape and t.dtype == tensor.dtype
                and not torch.equal(t, tensor)]  # fmt: skip
        if not same:
            raise Unchanged
        other = dice.choice(same)
        tensors[name], tensors[other] = tensors[other], tensor
    else:
        tensors[name] = tensor.reshape(1, *tensor.shape)
    return way, name


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, "pt") as f:
        return dict(f.metadata() or {}), {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118


def safetensors_of(name: str | None) -> Change:
    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        metadata, tensors = _read_safetensors(original / name if name else original)
        chance = dice.random()
        if chance < 0.05:
            kind, what = REWRITTEN, "safetensors"
            tensors = dict(sorted(tensors.items(), reverse=True))
        elif chance < 0.2 and not name:
            kind, what = _metadata(metadata, dice)
        else:
            kind, what = _tensors(tensors, dice)
        copy(original, target, name or "")
        safetensors.torch.save_file(
            {n: t.contiguous().clone() for n, t in tensors.items()},
            target / name if name else target, metadata,
        )  # fmt: skip
        return kind, what

    return change


def _metadata(metadata: dict[str, str], dice: random.Random) -> tuple[str, str]:
    key = dice.choice([*metadata])
    way = dice.choice(["removed", "more", "other", "other", "other"])
    if way == "removed":
        del metadata[key]
    elif way == "more":
        metadata["x"] = "1"
    elif key in ("dims", "grids"):
        table = json.loads(metadata[key])
        inner = dice.choice([*table])
        table[inner] = other_value(table[inner], dice)
        metadata[key] = json.dumps(table)
        key = f"{key} {inner}"
    else:
        metadata[key] += "x"
    return f"metadata {way}", key


def pt(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    content = torch.load(original, weights_only=True)
    chance = dice.random()
    if chance < 0.05:
        kind, what = REWRITTEN, "pt"
    elif chance < 0.2:
        dims = content["dims"]
        what, kind = dice.choice([*dims]), "dimension"
        dims[what] = other_value(dims[what], dice)
    elif chance < 0.25:
        content["x"] = 1
        kind, what = "a key more", "x"
    else:
        kind, what = _tensors(content["model_state_dict"], dice)
    copy(original, target)
    torch.save(content, target)
    return kind, what


_CT2_JSON = ("config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")
