"""Integers and scales of files, of ours and of others, bit for bit."""

from dataclasses import replace

import gguf
import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats import integers
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.write import write
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import token_strings
from tests.formats.test_ggml import write as write_ggml

NAME = "decoder.blocks.1.mlp.0.weight"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, q in expected.items():
        assert found[name].grid == q.grid, name
        assert torch.equal(found[name].integers, q.integers), name
        assert found[name].scale.dtype == q.scale.dtype, name
        assert found[name].scale.shape == q.scale.shape, name
        assert found[name].scale.numpy().tobytes() == q.scale.numpy().tobytes(), name


@pytest.mark.parametrize(
    "form,grid,preset",
    [
        ("ct2", "ct2_int8", "full"),
        ("ct2", "ct2_int8", "paper"),
        ("ggml", "ggml_q8_0", "full"),
        ("ggml", "ggml_q5_0", "full"),
        ("ggml", "ggml_q4_0", "full"),
        ("ggml", "ggml_q5_1", "full"),
        ("ggml", "ggml_q4_1", "full"),
        ("packed", "ggml_q4_1", "full"),
        ("onnx", "onnx_int8", "full"),
        ("onnx", "onnx_int8", "encoder"),
        ("onnx", "ggml_q8_0", "full"),
        ("onnx", "ggml_q4_0", "paper"),
        ("transformers_js", "onnx_int8", "paper"),
        ("transformers_js", "ggml_q8_0", "full"),
        ("transformers_js", "ggml_q4_0", "encoder"),
        ("packed", "uniform3_g32", "paper"),
    ],
)
def test_what_was_written(toy, tmp_path, form, grid, preset):
    quantized = quantize(toy.state, assign_grids(toy.dims, grid, preset))
    # Not what rounding the values again would find: no block reaches its largest integer.
    quantized = {name: replace(q, integers=q.integers // 2) for name, q in quantized.items()}
    write(form, tmp_path / "toy", toy, quantized, "float16")
    assert_same(integers.load(tmp_path / "toy"), quantized)


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_blocks_of_the_gguf_package(toy, tmp_path, kind):
    write_ggml(tmp_path / "toy.bin", toy, gguf.GGMLQuantizationType[kind])
    grids = assign_grids(toy.dims, f"ggml_{kind.lower()}")
    assert_same(integers.load(tmp_path / "toy.bin"), quantize(toy.state, grids))


def test_int8_of_ctranslate2(toy, tmp_path):
    spec = ctranslate2_writer.specification(toy, {}, "float32")
    spec.register_vocabulary(token_strings(any_tokenizer(toy.dims).encoding))
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(tmp_path))
    expected = quantize(toy.state, assign_grids(toy.dims, "ct2_int8"))
    assert_same(integers.load(tmp_path), expected)


def test_what_is_on_no_grid_of_ours(toy, tmp_path):
    save_pt(tmp_path / "toy.pt", toy)
    assert integers.load(tmp_path / "toy.pt") == {}


@pytest.mark.parametrize("form,grid", [("ct2", "ct2_int8"), ("ggml", "ggml_q8_0")])
def test_integers_that_no_grid_has(toy, tmp_path, form, grid):
    quantized = quantize(toy.state, assign_grids(toy.dims, grid))
    quantized[NAME].integers[3, 4] = -128
    write(form, tmp_path / "toy", toy, quantized, "float16")
    with pytest.raises(InputError, match=f"toy: {NAME} cannot be kept: .*{grid}"):
        integers.load(tmp_path / "toy")


def test_scales_that_no_grid_has(toy, tmp_path):
    quantized = quantize(toy.state, assign_grids(toy.dims, "ggml_q4_0"))
    path = tmp_path / "toy.bin"
    write("ggml", path, toy, quantized, "float16")
    block = ggml.read(path).tensors[NAME].raw[:18].tobytes()
    content = path.read_bytes()
    assert content.count(block) == 1
    infinite = torch.tensor([torch.inf], dtype=torch.float16).numpy().tobytes()
    path.write_bytes(content.replace(block, infinite + block[2:]))
    with pytest.raises(InputError, match=f"{NAME} cannot be kept"):
        integers.load(path)
    quantized[NAME].scale[3, 1] = torch.inf
    with pytest.raises(InputError, match=f"toy.bin: {NAME} holds values on ggml_q4_0"):
        write("ggml", path, toy, quantized, "float16")
