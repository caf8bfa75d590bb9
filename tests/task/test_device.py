"""Training and grids on a GPU, against those on the CPU. Skipped where there is none."""

from functools import partial

import pytest
import torch

from espnet_dq.quant.activations import (
    int8_blocks,
    int8_per_token,
    int8_rows,
    int8_static,
    q8_0_blocks,
)
from espnet_dq.quant.grids import GRIDS, get_grid

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    "conf",
    [
        {"matching": "logits"},
        {"matching": "dynamic_monotonic", "tap": "ffn"},
        {"matching": "optimal_increasing", "matching_scope": "utterance"},
        {"matching": "dynamic", "matching_scope": "language", "lambda_hidden": "auto"},
        {"lambda_encoder": 0.1, "timestamp_share": 1.0},
        {"lambda_guide": 1.0, "distance": "softmax_mse"},
        {"preset": "full", "grid": "ct2_int8"},
        {"preset": "full", "grid": "uniform4_g16", "ranges": "lsq"},
        {"preset": "full", "grid": "ggml_q5_0", "activations": "q8_0_blocks"},
        {"preset": "full", "grid": "onnx_int8", "activations": "int8_per_token"},
    ],
    ids=lambda conf: "-".join(map(str, conf.values())),
)
def test_steps_are_those_of_the_cpu(build, batch, conf):
    """Two steps, of which the first starts the projector."""
    losses = {}
    for device in ("cpu", "cuda"):
        model = build(alpha=0.5, **conf).to(device).train()
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses[device] = []
        for _ in range(2):
            optimizer.zero_grad()
            loss, _, _ = model(**moved)
            loss.backward()
            optimizer.step()
            losses[device].append(loss.item())
        assert loss.device.type == torch.device(device).type
    # What is rounded may round the other way after other sums; on coarse grids that is seen.
    rounded = conf.get("preset") == "full" and conf["grid"] != "ct2_int8"
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2 if rounded else 1e-4)


@pytest.mark.parametrize("name", [*GRIDS, "uniform4", "uniform5_g16", "uniform3_tensor"])
def test_a_grid_is_the_same_bit_for_bit(name):
    """What is trained on a GPU is quantized on the CPU when it is exported."""
    grid = get_grid(name)
    torch.manual_seed(0)
    weight = torch.randn(4096, 512) * torch.rand(4096, 1)
    ours, theirs = grid.quantize(weight), grid.quantize(weight.cuda())
    assert torch.equal(ours.integers, theirs.integers.cpu())
    assert torch.equal(ours.scale, theirs.scale.cpu())
    assert torch.equal(grid.fake(weight), grid.fake(weight.cuda()).cpu())


@pytest.mark.parametrize("top", [0.3, 1.7, 3.1, 5.9])
def test_activations_are_the_same_bit_for_bit(top):
    torch.manual_seed(0)
    x = torch.randn(1000, 512)
    for fake in (
        int8_per_token,
        int8_rows,
        q8_0_blocks,
        int8_blocks,
        partial(int8_static, top=top),
    ):
        assert torch.equal(fake(x), fake(x.cuda()).cpu())
