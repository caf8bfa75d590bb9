"""A model in torch that rounds about as a graph in ONNX Runtime does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from whisper.model import Whisper

from espnet_dq.formats.onnx.graph import INTEGER_PRODUCTS, Stored
from espnet_dq.quant.activations import int8_blocks, int8_rows
from espnet_dq.quant.calibrate import linear_layers, on_input


@contextmanager
def as_onnx_runtime(model: Whisper, tensors: Mapping[str, Stored]) -> Iterator[None]:
    """Meanwhile what meets weights in integer products is in 8 bits, too: blocks, or rows."""
    blocks = [name for name, stored in tensors.items() if stored.bits in INTEGER_PRODUCTS]
    rows = [
        name for name, (_, scale, bits) in tensors.items() if bits is None and scale is not None
    ]
    hooks = [
        on_input(model, layer, fake)
        for names, fake in ((blocks, int8_blocks), (rows, int8_rows))
        for layer in linear_layers(model, names)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def in_half(model: Whisper) -> Iterator[None]:
    """Meanwhile it is openai-whisper's float16: it computes in the type of what it hears."""
    hook = model.encoder.register_forward_pre_hook(lambda _, given: (given[0].half(),))
    try:
        yield
    finally:
        hook.remove()
