"""What is put on a grid really is, in every use, and checkpoints stay plain."""

import copy
from math import prod

import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn.utils import parametrize
from whisper.model import Whisper

from espnet_dq.api import nets
from espnet_dq.errors import InputError
from espnet_dq.quant import fake_quant
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, prepare, quantized_weights
from espnet_dq.whisper.forward import decode_hidden, output_logits


@pytest.fixture
def toy(make_toy):
    return make_toy(seed=3)


def test_full_preset_leaves_only_norms_biases_and_positions(toy):
    """Regression: a run that asked for 8 bits built a float student, and nothing said so."""
    names = assign_grids(toy.dims, "ct2_int8", "full")
    rest = set(dict(toy.named_parameters())) - set(names)
    for name in rest:
        module = toy.get_submodule(name.rpartition(".")[0])
        is_norm = isinstance(module, nn.LayerNorm)
        assert is_norm or name.endswith((".bias", "positional_embedding")), name
    assert "decoder.token_embedding.weight" in names and "encoder.conv1.weight" in names


def test_presets(toy):
    full = assign_grids(toy.dims, "ct2_int8", "full")
    for preset, side in (("paper", "decoder."), ("encoder", "encoder.")):
        part = {n: g for n, g in full.items() if n.startswith(side)}
        assert assign_grids(toy.dims, "ct2_int8", preset) == part
    assert assign_grids(toy.dims, "ct2_int8", "none") == {}
    with pytest.raises(InputError, match="preset 'all'"):
        assign_grids(toy.dims, "ct2_int8", "all")


@pytest.mark.parametrize(
    "grid,bits", [("ct2_int8", 8), ("uniform8", 8), ("uniform4", 4), ("uniform2", 2)]
)
def test_bits_asked_are_bits_found(toy, grid, bits):
    """Regression: the bit-width went into `bias`, so 4 bits gave 8 in the feed-forward part."""
    names = assign_grids(toy.dims, grid)
    prepare(toy, names)
    assert quantized_weights(toy) == names
    for name in names:
        weight = toy.get_submodule(name.removesuffix(".weight")).weight
        per_row = max(len(row.unique()) for row in weight.reshape(len(weight), -1)[:64])
        assert per_row <= 2**bits - 1, name
    if bits == 4:
        assert per_row > 2 ** (bits - 1)


def test_both_uses_of_the_embedding_see_the_grid(toy):
    on_grid = get_grid("uniform3").fake(toy.decoder.token_embedding.weight)
    prepare(toy, {"decoder.token_embedding.weight": "uniform3"})
    assert torch.equal(toy.decoder.token_embedding(torch.tensor([7])), on_grid[7:8])
    hidden = torch.randn(2, 64)
    assert torch.equal(output_logits(toy.decoder, hidden), hidden @ on_grid.T)


def test_one_quantization_a_pass(toy, monkeypatch):
    """The embedding is read twice in a forward pass, and must be rounded once."""
    names = assign_grids(toy.dims, "ct2_int8")
    prepare(toy, names)
    calls = []
    real = fake_quant._StraightThrough.forward
    monkeypatch.setattr(
        fake_quant._StraightThrough,
        "forward",
        staticmethod(lambda ctx, w, g: calls.append(w.shape) or real(ctx, w, g)),
    )
    audio, tokens = torch.randn(1, 20, 64), torch.tensor([[1, 2, 3]])
    with parametrize.cached():
        output_logits(toy.decoder, decode_hidden(toy.decoder, tokens, audio))
    assert len(calls) == len([n for n in names if n.startswith("decoder.")])


def test_gradients_pass_straight_through(toy):
    weight = toy.decoder.blocks[0].mlp[0].weight
    prepare(toy, {"decoder.blocks.0.mlp.0.weight": "uniform4"})
    x = torch.randn(5, 64)
    toy.decoder.blocks[0].mlp[0](x).sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand_as(weight))


def test_state_dict_stays_plain_and_loads_both_ways(toy, make_toy):
    plain = {k: v.clone() for k, v in toy.state_dict().items()}
    prepare(toy, assign_grids(toy.dims, "ct2_int8"))
    saved = toy.state_dict()
    assert set(saved) == set(plain)
    assert all(torch.equal(saved[k], plain[k]) for k in plain)
    make_toy(seed=4).load_state_dict(saved, strict=True)
    other = make_toy(seed=5)
    prepare(other, assign_grids(other.dims, "ct2_int8"))
    other.load_state_dict(plain, strict=True)
    assert all(torch.equal(v, plain[k]) for k, v in other.state_dict().items())


def test_a_missing_weight_still_fails_strict_loading(toy):
    prepare(toy, assign_grids(toy.dims, "ct2_int8"))
    state = toy.state_dict()
    del state["decoder.blocks.0.mlp.0.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        toy.load_state_dict(state, strict=True)


def test_frozen_weights_are_rounded_again_when_they_change(toy):
    toy.requires_grad_(False)
    prepare(toy, {"encoder.conv1.weight": "uniform4"})
    before = toy.encoder.conv1.weight.clone()
    with torch.no_grad():
        toy.encoder.conv1.parametrizations.weight.original.mul_(3)
    assert torch.allclose(toy.encoder.conv1.weight, before * 3)


def test_values_after_a_step_are_those_of_the_new_weight(toy):
    """Regression: fused optimizers do not count versions, and dev was scored on old weights."""
    prepare(toy, {"encoder.conv1.weight": "uniform4"})
    conv = toy.encoder.conv1
    optimizer = torch.optim.AdamW([conv.parametrizations.weight.original], lr=0.1, fused=True)
    with torch.no_grad():
        before = conv.weight.clone()
    conv.weight.square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        expected = get_grid("uniform4").fake(conv.parametrizations.weight.original)
        assert torch.equal(conv.weight, expected) and not torch.equal(expected, before)


def test_what_no_version_counts_is_seen(toy):
    """`.data`, as averages of weights are written, at every look in between."""
    prepare(toy, assign_grids(toy.dims, "uniform4"))
    ema = copy.deepcopy(toy).requires_grad_(False)
    layer = ema.decoder.token_embedding
    for factor in (0.5, -1.0, 3.0):
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                assert torch.equal(layer.weight, get_grid("uniform4").fake(_float(layer)))
        _float(layer).data.mul_(factor)
    with torch.no_grad():
        kept = layer.weight
        assert layer.weight is kept  # not rounded again for nothing
        _float(layer).data[5, 3] += 1.0
        assert torch.equal(layer.weight, get_grid("uniform4").fake(_float(layer)))


@pytest.mark.parametrize("shape", [(7, 6), (7, 5), (4, 3, 3), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_every_change_makes_another_mark(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    for start in (0, 1, 3):  # in a tensor of all parameters, as some optimizers keep them
        whole = torch.randn(start + 42, generator=generator).to(dtype)
        values = whole[start : start + prod(shape)].view(shape)
        mark = fake_quant._mark(values)
        assert fake_quant._mark(values) == mark
        flat = values.reshape(-1)
        others = [values.neg(), values + 1e-3, *(flat.index_fill(0, torch.tensor([k]), 0.0)
                                                 for k in range(len(flat)))]  # fmt: skip
        if len(flat) > 1:
            others += [values.flip(d) for d in range(values.ndim) if values.shape[d] > 1]
            turned = flat.clone()  # the signs of two, one of each sign
            turned[[int(flat.argmax()), int(flat.argmin())]] *= -1
            others.append(turned)
        assert all(fake_quant._mark(x.reshape(shape)) != mark for x in others)


def test_what_is_written_where_it_would_be_lost_is_refused(toy):
    prepare(toy, {"encoder.conv1.weight": "uniform4"})
    conv = toy.encoder.conv1
    for change in (lambda: conv.weight.sum(), lambda: _float(conv).data.mul_(2),
                   lambda: nets.seen(toy, ["encoder.conv1.weight"])):  # fmt: skip
        with torch.no_grad():
            conv.weight.data[0] += 1.0
        with pytest.raises(InputError, match="would be lost: change layer"):
            change()
            with torch.no_grad():
                conv.weight.sum()
        assert torch.equal(conv.weight, get_grid("uniform4").fake(_float(conv)))


def test_inference_mode_leaves_nothing_that_training_cannot_use(toy):
    toy.requires_grad_(False)
    prepare(toy, {"encoder.conv1.weight": "uniform4"})
    mel = torch.randn(1, 80, 2 * toy.dims.n_audio_ctx, requires_grad=True)
    with torch.inference_mode():
        toy.encoder.conv1(mel)
    toy.encoder.conv1(mel).sum().backward()
    assert mel.grad.abs().sum() > 0


def test_every_part_has_plain_names(toy):
    plain = {name: set(module.state_dict()) for name, module in toy.named_modules()}
    state = {name: tensor.clone() for name, tensor in toy.encoder.state_dict().items()}
    prepare(toy, assign_grids(toy.dims, "ct2_int8"))
    for name, module in toy.named_modules():
        if name in plain:
            assert set(module.state_dict()) == plain[name], name
    toy.encoder.load_state_dict({name: 2 * tensor for name, tensor in state.items()})
    assert torch.equal(_float(toy.encoder.conv1), 2 * state["conv1.weight"])
    del state["conv1.weight"]
    found = toy.encoder.load_state_dict(state | {"odd": torch.zeros(1)}, strict=False)
    assert found.missing_keys == ["conv1.weight"] and found.unexpected_keys == ["odd"]


def test_a_weight_that_is_another_parametrizations_is_refused_and_nothing_changes(toy):
    torch.nn.utils.parametrizations.weight_norm(toy.decoder.blocks[0].mlp[0])
    torch.nn.utils.prune.l1_unstructured(toy.decoder.blocks[0].mlp[2], "weight", 0.5)
    before = set(toy.state_dict())
    for name in ("decoder.blocks.0.mlp.0.weight", "decoder.blocks.0.mlp.2.weight"):
        with pytest.raises(InputError, match=f"cannot quantize {name}: not a plain weight"):
            prepare(toy, {"encoder.conv1.weight": "ct2_int8", name: "ct2_int8"})
    assert set(toy.state_dict()) == before and not quantized_weights(toy)


def _float(layer):
    return layer.parametrizations.weight.original


def test_mistakes_name_the_weight(toy):
    with pytest.raises(InputError, match=r"decoder\.nothing\.weight"):
        prepare(toy, {"decoder.nothing.weight": "ct2_int8"})
    with pytest.raises(InputError, match=r"encoder\.conv1\.weight.*240 is no multiple of 7"):
        prepare(toy, {"encoder.conv1.weight": "uniform4_g7"})
    prepare(toy, {"encoder.conv1.weight": "ct2_int8"})
    with pytest.raises(InputError, match="not a plain weight"):
        prepare(toy, {"encoder.conv1.weight": "ct2_int8"})


def test_scales_stay_float32_under_autocast(toy):
    expected = get_grid("ct2_int8").fake(toy.decoder.token_embedding.weight)
    prepare(toy, {"decoder.token_embedding.weight": "ct2_int8"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(toy.decoder.token_embedding.weight, expected)


def test_prepared_model_is_still_openais(toy):
    """The prepared model runs through openai-whisper's own forward."""
    assert isinstance(toy, Whisper)
    mel, tokens = torch.randn(1, 80, 3000), torch.tensor([[50258, 50259, 50359]])
    with torch.no_grad():
        before = toy(mel, tokens)
        prepare(toy, assign_grids(toy.dims, "ct2_int8"))
        after = toy(mel, tokens)
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=0.15 * before.abs().max())
