"""A Whisper of toy size, with a real vocabulary, and its weights on the int8 grid."""

import pytest
import torch
from whisper.model import ModelDimensions, Whisper, sinusoids

from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.whisper.weights import Weights

TOY = ModelDimensions(
    n_mels=80,
    n_audio_ctx=50,
    n_audio_state=64,
    n_audio_head=2,
    n_audio_layer=2,
    n_vocab=51865,
    n_text_ctx=16,
    n_text_state=64,
    n_text_head=2,
    n_text_layer=3,
)


@pytest.fixture(scope="session")
def toy_weights():
    """A function that returns the same float32 weights each time, in a fresh dict."""
    random = torch.Generator().manual_seed(5)
    # No two tensors alike, no zeros: a swapped or dropped one shows.
    state = {
        name: 0.1 * torch.randn(tensor.shape, generator=random)
        for name, tensor in Whisper(TOY).state_dict().items()
    }
    state["encoder.positional_embedding"] = sinusoids(TOY.n_audio_ctx, TOY.n_audio_state)
    return lambda: Weights(TOY, dict(state))


@pytest.fixture
def toy(toy_weights):
    """Float32 weights."""
    return toy_weights()


@pytest.fixture(scope="session")
def toy_quantized(toy_weights):
    """Name -> integers and scales of every weight that the full preset puts on ct2_int8."""
    grid, state = get_grid("ct2_int8"), toy_weights().state
    return {name: grid.quantize(state[name]) for name in assign_grids(TOY, "ct2_int8")}
