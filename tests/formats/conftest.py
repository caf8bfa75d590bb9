"""A Whisper of toy size, with a real vocabulary, its weights on the int8 grid, and its files."""

import shutil
from functools import cache

import pytest
import torch
from whisper.model import ModelDimensions, Whisper, sinusoids

from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.report import Reference
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.whisper.weights import Weights
from tests.formats.written import GRIDS, WHOLE, few, random_state

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


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Function: format, vocabulary -> (a file or folder of it, its reference).

    The vocabulary is `whole` or `few`; without a name it has few tokens, except for whisper.cpp,
    which only runs whole ones.
    """

    def dims(name):
        return WHOLE if name == "whole" else few()

    @cache
    def state(name):
        return random_state(dims(name))

    @cache
    def make(form, vocabulary=None):
        vocabulary = vocabulary or ("whole" if form == "ggml" else "few")
        own, values = dims(vocabulary), state(vocabulary)
        grids = assign_grids(own, GRIDS[form])
        quantized = quantize(values, grids)
        folder = tmp_path_factory.mktemp(vocabulary)
        path = folder / (form if FORMATS[form].folder else f"{form}.bin")
        write(form, path, Weights(own, dict(values)), quantized, "float16")
        fake = {name: get_grid(grid).fake(values[name]) for name, grid in grids.items()}
        scales = {name: q.scale for name, q in quantized.items()}
        return path, Reference(own, values | fake, grids, scales, values)

    return make


@pytest.fixture
def changed(made, tmp_path):
    """Function: (format, file of the folder, its new content from its old) -> (path, reference)."""

    def change(form, file, edit):
        original, reference = made(form)
        path = tmp_path / original.name
        if original.is_dir():
            shutil.copytree(original, path)
        else:
            shutil.copyfile(original, path)
        edit(path / file if file else path)
        return path, reference

    return change
