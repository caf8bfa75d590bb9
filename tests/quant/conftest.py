"""A toy model and something for it to hear."""

import pytest
import torch

from espnet_dq.quant.prepare import assign_grids


@pytest.fixture
def toy(make_toy):
    model = make_toy(seed=3)
    return model, assign_grids(model.dims, "ct2_int8")


@pytest.fixture
def heard():
    """Features, tokens."""
    mel = torch.randn(1, 80, 100, generator=torch.Generator().manual_seed(1))
    return mel, torch.tensor([[50258, 50259, 50359, 7]])
