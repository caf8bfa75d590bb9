"""A model in torch that rounds about as whisper.cpp does."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn import Conv1d, LayerNorm, Linear
from whisper.model import Whisper

from espnet_dq.quant.activations import q8_0_blocks, q8_K_blocks


@contextmanager
def as_whisper_cpp(model: Whisper, kind: str) -> Iterator[None]:
    """Meanwhile a model rounds about as whisper.cpp does on weights of ggml's type `kind`.

    It keeps keys, values and GELU in float16, and multiplies by float16, or, where the weights are
    in blocks, by 8 bits in blocks.
    """
    rounded = q8_K_blocks if kind.endswith("_K") else q8_0_blocks
    blocks = kind not in ("F32", "F16")

    def halve(_, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.half().float()

    def to_blocks(_, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(rounded(x) for x in args)

    def out_in_blocks(_, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return rounded(output)  # of the last LayerNorm: what the embedding is multiplied by

    hooks = []
    for module in model.modules():
        if isinstance(module, Linear | Conv1d | LayerNorm):
            hooks.append(module.register_forward_hook(halve))
        if blocks and isinstance(module, Linear):
            hooks.append(module.register_forward_pre_hook(to_blocks))
    if blocks:
        hooks.append(model.decoder.ln.register_forward_hook(out_in_blocks))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
