"""Write a CTranslate2 Whisper folder that holds our integers and scales as they are.

CTranslate2's own converter would quantize again; here each tensor goes into its specification
(`ctranslate2.specs`) ready-made. `read` reads what this writes, with code of its own.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from ctranslate2.specs import WhisperSpec
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.formats import companions
from espnet_dq.formats.ct2 import CTranslate2, config
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import WHOLE, token_strings, whole_size
from espnet_dq.whisper.weights import Weights, cast

GRID, FOLDER = CTranslate2.grids[0], CTranslate2.folder


def check_vocabulary(dims: ModelDimensions) -> None:
    """Raise `InputError` where CTranslate2 would take a vocabulary for English only, which is not.

    It tells by the token without a letter, which all multilingual ones of OpenAI's have.
    """
    if whole_size(dims) != WHOLE[0] and b"" not in any_tokenizer(dims).encoding._mergeable_ranks:
        raise InputError(
            "CTranslate2 takes a vocabulary without the empty token for English only: trim the "
            "whole one again, with bin.trim_vocabulary, and train the student on that"
        )


def save(
    folder: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
) -> None:
    """Write model.bin and all that faster-whisper needs beside it into a new folder.

    Args:
        folder: where; appears whole or not at all, and replaces a folder of its own kind only.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> its integers and scales. Weights that the file keeps
            in one matrix (query, key, value) must all be here or none.
        float_dtype: `float16` or `float32`, for everything else.

    Raises:
        InputError: the weights are no Whisper, or a quantized tensor does not fit.
    """
    weights.check(str(folder))
    check_vocabulary(weights.dims)
    spec = specification(weights, quantized, float_dtype, folder)
    spec.register_vocabulary(token_strings(any_tokenizer(weights.dims).encoding))
    spec.validate()
    spec.optimize()  # without a quantization it only stores equal tensors once
    with atomic(folder, FOLDER) as tmp:
        tmp.mkdir()
        spec.save(str(tmp))
        beside = config.companions(weights.dims, weights.generation, weights.any_window)
        companions.write(tmp, beside)


def specification(
    weights: Weights,
    quantized: Mapping[str, Quantized],
    float_dtype: str,
    source: object = "weights",
) -> WhisperSpec:
    """CTranslate2's specification with our tensors in it, no vocabulary yet; as `save`.

    `source` is the file to name in messages.
    """
    return _Filler(weights, quantized, float_dtype, source).spec()


class _Filler:
    """Puts a Whisper's tensors into CTranslate2's specification, layer by layer."""

    def __init__(
        self,
        weights: Weights,
        quantized: Mapping[str, Quantized],
        float_dtype: str,
        source: object,
    ) -> None:
        self.dims = weights.dims
        self.state = weights.state
        self.quantized = quantized
        self.float_dtype, self.source = float_dtype, source
        for name, q in quantized.items():
            if name not in self.state:
                raise InputError(f"{name} is quantized, but no Whisper weight")
            shape = tuple(self.state[name].shape)
            if q.grid != GRID:
                raise InputError(f"{name} is on grid {q.grid}, CTranslate2 needs {GRID}")
            if tuple(q.integers.shape) != shape or q.integers.dtype != torch.int8:
                raise InputError(f"{name}: the integers are not int8 of shape {shape}")
            if tuple(q.scale.shape) != shape[:1] or q.scale.dtype != torch.float32:
                raise InputError(f"{name}: the scales are not one float32 for each row")

    def spec(self) -> WhisperSpec:
        """The filled specification."""
        d = self.dims
        spec = WhisperSpec(d.n_audio_layer, d.n_audio_head, d.n_text_layer, d.n_text_head)
        encoder, decoder = spec.encoder, spec.decoder
        self.linear(encoder.conv1, "encoder.conv1")
        self.linear(encoder.conv2, "encoder.conv2")
        self.norm(encoder.layer_norm, "encoder.ln_post")
        encoder.position_encodings.encodings = self.floats("encoder.positional_embedding")
        for i, layer in enumerate(encoder.layer):
            self.block(layer, f"encoder.blocks.{i}")
        self.linear(decoder.embeddings, "decoder.token_embedding")
        self.linear(decoder.projection, "decoder.token_embedding")
        self.norm(decoder.layer_norm, "decoder.ln")
        decoder.position_encodings.encodings = self.floats("decoder.positional_embedding")
        for i, layer in enumerate(decoder.layer):
            block = f"decoder.blocks.{i}"
            self.block(layer, block)
            attention = layer.attention
            self.norm(attention.layer_norm, f"{block}.cross_attn_ln")
            self.linear(attention.linear[0], f"{block}.cross_attn.query")
            self.linear(attention.linear[1], f"{block}.cross_attn.key", f"{block}.cross_attn.value")
            self.linear(attention.linear[2], f"{block}.cross_attn.out")
        return spec

    def block(self, layer, block: str) -> None:
        """Self attention and feed-forward part, the same in encoder and decoder."""
        attention, attn = layer.self_attention, f"{block}.attn"
        self.norm(attention.layer_norm, f"{block}.attn_ln")
        self.linear(attention.linear[0], f"{attn}.query", f"{attn}.key", f"{attn}.value")
        self.linear(attention.linear[1], f"{attn}.out")
        self.norm(layer.ffn.layer_norm, f"{block}.mlp_ln")
        self.linear(layer.ffn.linear_0, f"{block}.mlp.0")
        self.linear(layer.ffn.linear_1, f"{block}.mlp.2")

    def linear(self, layer, *names: str) -> None:
        """One matrix from the rows of `names` (also a convolution or the embedding)."""
        on_grid = [f"{name}.weight" in self.quantized for name in names]
        if all(on_grid):
            parts = [self.quantized[f"{name}.weight"] for name in names]
            layer.weight = _stack([q.integers for q in parts])
            layer.weight_scale = _stack([q.scale for q in parts])
        elif any(on_grid):
            raise InputError(f"{' and '.join(names)} share a matrix: quantize all or none")
        else:
            layer.weight = np.concatenate([self.floats(f"{name}.weight") for name in names])
        biases = [f"{name}.bias" in self.state for name in names]
        if any(biases):  # a key projection has none: zeros
            layer.bias = np.concatenate(
                [
                    self.floats(f"{name}.bias")
                    if has
                    else np.zeros(len(self.state[f"{name}.weight"]), self.float_dtype)
                    for name, has in zip(names, biases, strict=True)
                ]
            )

    def norm(self, layer, name: str) -> None:
        """A LayerNorm."""
        layer.gamma = self.floats(f"{name}.weight")
        layer.beta = self.floats(f"{name}.bias")

    def floats(self, name: str) -> np.ndarray:
        """A tensor in the file's float type."""
        dtype = getattr(torch, self.float_dtype)
        return cast(self.state[name], dtype, name, self.source).numpy()


def _stack(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().cpu().numpy() for tensor in tensors])
