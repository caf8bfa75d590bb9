"""What a float type cannot hold is refused by every writer, which names the tensor."""

from dataclasses import replace

import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats.registry import written
from espnet_dq.formats.write import write

NAMES = ("decoder.blocks.0.mlp.0.weight", "decoder.token_embedding.weight", "encoder.conv1.weight")
BIAS = "decoder.blocks.0.mlp.0.bias"
VALUES = {
    "beyond float16": (70_000.0, torch.float32),
    "far beyond float16": (-1e38, torch.float32),
    "beyond float32": (1e300, torch.float64),
    "not a number": (torch.nan, torch.float32),
    "infinite": (torch.inf, torch.float16),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("form", written())
def test_the_tensor_is_named_and_nothing_is_written(toy, tmp_path, form, kind):
    value, dtype = VALUES[kind]
    for name in (*NAMES, *(() if form == "ggml" and "float16" in kind else (BIAS,))):
        state = dict(toy.state)
        state[name] = state[name].to(dtype).clone()
        state[name].view(-1)[7] = value
        with pytest.raises(InputError, match=f"{name} holds values that are ") as caught:
            write(form, tmp_path / "m", type(toy)(toy.dims, state), {}, "float16")
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", [f for f in written() if f != "ggml"])
def test_float32_holds_what_float16_does_not(toy, tmp_path, form):
    from espnet_dq.formats import detect

    toy.state[BIAS] = toy.state[BIAS] + 70_000
    write(form, tmp_path / "m.pt", toy, {}, "float32")
    assert torch.equal(detect.load(tmp_path / "m.pt").state[BIAS], toy.state[BIAS])


@pytest.mark.parametrize("form", written())
def test_float64_is_rounded_as_float32_is(toy, tmp_path, form):
    from espnet_dq.formats import detect

    double = type(toy)(toy.dims, {name: t.double() for name, t in toy.state.items()})
    write(form, tmp_path / "one", double, {}, "float16")
    write(form, tmp_path / "two", toy, {}, "float16")
    one, two = (detect.load(tmp_path / name).state for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.parametrize(
    ("form", "scale"), [("ct2", 1e-45), ("onnx", 3e38), ("packed", 1e-45), ("openai", 1e-45)]
)
def test_integers_whose_values_are_no_numbers(toy, toy_quantized, tmp_path, form, scale):
    from espnet_dq.quant.prepare import assign_grids, quantize

    name, quantized = NAMES[0], dict(toy_quantized)
    if form == "onnx":
        quantized = quantize(toy.state, assign_grids(toy.dims, "onnx_int8"))
    scales = quantized[name].scale.clone()
    scales[3] = scale
    quantized[name] = replace(quantized[name], scale=scales)
    with pytest.raises(InputError, match=f"{name} holds values on .* not all finite"):
        write(form, tmp_path / "m", toy, quantized, "float16")
    assert not list(tmp_path.iterdir())
