"""Layers that stay are the source's, and openai-whisper runs what is left."""

import pytest
import torch
import whisper
from torch import nn

from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.student.depth import choose_layers, shallow


@pytest.mark.parametrize(
    "chosen,count,layers",
    [
        (None, 4, [0, 1, 2, 3]),
        ("4", 4, [0, 1, 2, 3]),
        ("2", 6, [0, 5]),
        ("1", 6, [5]),
        ("4", 12, [0, 3, 7, 11]),
        ("2", 32, [0, 31]),
        ("0,3,5", 6, [0, 3, 5]),
        ("3,", 6, [3]),
    ],
)
def test_which_layers(chosen, count, layers):
    assert choose_layers(chosen, count) == layers


@pytest.mark.parametrize(
    "chosen", ["0", "7", "0,6", "2,1", "2,2", "two", "-1", "1.5", "", ",", "1,,2"]
)
def test_layers_that_cannot_be(chosen):
    with pytest.raises(InputError):
        choose_layers(chosen, 6)


@pytest.mark.slow
def test_what_is_left_is_the_source(save_toy, tmp_path):
    """Against the source with its lists of blocks cut, in openai-whisper's own forward."""
    source = save_toy(seed=0, state=64, layers=4)
    save_pt(tmp_path / "cut.pt", shallow(openai.load(source), [1, 3], [0, 2, 3]), torch.float32)
    found = whisper.load_model(str(tmp_path / "cut.pt"), device="cpu")
    assert (found.dims.n_audio_layer, found.dims.n_text_layer) == (2, 3)
    expected = whisper.load_model(str(source), device="cpu")
    for side, kept in ((expected.encoder, [1, 3]), (expected.decoder, [0, 2, 3])):
        side.blocks = nn.ModuleList(side.blocks[i] for i in kept)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    mel, tokens = torch.randn(1, 80, 3000), torch.tensor([[50258, 50259, 400]])
    with torch.no_grad():
        assert torch.equal(found(mel, tokens), expected(mel, tokens))


def test_all_layers_are_the_source_bit_for_bit(save_toy):
    source = openai.load(save_toy(seed=0))
    same = shallow(source, [0, 1], [0, 1])
    assert same.dims == source.dims and list(same.state) == list(source.state)
    assert all(torch.equal(same.state[name], tensor) for name, tensor in source.state.items())
