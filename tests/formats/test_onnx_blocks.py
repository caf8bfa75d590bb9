"""ggml's blocks in ONNX folders: the integers of whisper.cpp's file, run by ONNX Runtime."""

import re
from dataclasses import replace

import jiwer
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import whisper
from onnx import TensorProto
from whisper.model import ModelDimensions
from whisper.normalizers import BasicTextNormalizer

import espnet_dq as dq
from espnet_dq.api.models import convert
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError, WorkError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect, integers
from espnet_dq.formats.ggml import write as ggml_writer
from espnet_dq.formats.onnx import read as onnx_reader
from espnet_dq.formats.onnx import write as onnx_writer
from espnet_dq.formats.onnx.rounding import as_onnx_runtime
from espnet_dq.formats.onnx.verify import compare
from espnet_dq.formats.registry import home
from espnet_dq.formats.report import Reference
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes.onnx import Model
from tests.formats.onnx_files import change, drop, heard_by_sherpa, initializer, values
from tests.formats.test_onnx_writer import SHAPES, flip, openais, random_weights, run
from tests.spread import rms

GRIDS = ("ggml_q4_0", "ggml_q8_0")
EMBEDDING, LINEAR = "decoder.token_embedding.weight", "decoder.blocks.0.mlp.0.weight"


def on_grid(weights, grid, preset="full"):
    quantized = quantize(weights.state, assign_grids(weights.dims, grid, preset))
    values = {name: get_grid(grid).dequantize(q) for name, q in quantized.items()}
    return quantized, weights.state | values


@pytest.fixture(params=GRIDS)
def made(request, tmp_path):
    """(folder on the grid, what it should hold)."""
    toy = random_weights(SHAPES["multilingual"])
    quantized, values = on_grid(toy, request.param)
    onnx_writer.save(tmp_path / "toy", toy, quantized)
    scales = {name: q.scale for name, q in quantized.items()}
    grids = dict.fromkeys(scales, request.param)
    return tmp_path / "toy", Reference(toy.dims, values, grids, scales, toy.state)


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", SHAPES)
def test_logits_are_openai_whispers(kind, grid, tmp_path):
    dims = SHAPES[kind]
    weights = random_weights(dims)
    quantized, state = on_grid(weights, grid)
    onnx_writer.save(tmp_path / "toy", weights, quantized)
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(2, dims.n_mels, 2 * dims.n_audio_ctx, generator=random)
    tokens = torch.randint(dims.n_vocab, (2, 9), generator=random)
    model = openais(dims, state)
    expected = model(mel, tokens)
    assert expected.std() > 0.1
    for steps, room in (([9], dims.n_text_ctx), ([4, 1, 3, 1], dims.n_text_ctx), ([4, 1, 4], 0)):
        found = run(tmp_path / "toy", mel, tokens, steps, room)
        if grid != "ggml_q8_0":
            assert (found - expected).abs().max() < 1e-4
            continue
        # Its products round what they multiply by, too: noise of the size that our model of it has.
        with as_onnx_runtime(model, onnx_reader.read(tmp_path / "toy").tensors):
            noise = rms(model(mel, tokens) - expected)
        assert noise / 2 < rms(found - expected) < 2 * noise


@pytest.mark.slow
def test_whisper_cpps_integers(made, tmp_path):
    """From the one file to the other and back, whisper.cpp's file is the same, byte for byte."""
    folder, reference = made
    grid = next(iter(reference.grids.values()))
    toy, found = random_weights(SHAPES["multilingual"]), integers.load(folder)
    ggml_writer.save(tmp_path / "direct.bin", toy, on_grid(toy, grid)[0])
    convert(folder, tmp_path / "kept.bin", "ggml")
    assert (tmp_path / "kept.bin").read_bytes() == (tmp_path / "direct.bin").read_bytes()
    convert(tmp_path / "kept.bin", tmp_path / "back", "onnx")
    for file in onnx_reader.FILES:
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes()
    ggml = integers.load(tmp_path / "kept.bin")
    assert found.keys() == ggml.keys() == reference.grids.keys()
    for name, q in found.items():
        assert q.grid == ggml[name].grid == grid
        assert torch.equal(q.integers, ggml[name].integers), name
        assert torch.equal(q.scale, ggml[name].scale), name


def test_the_grids_stay_whisper_cpps():
    assert {home(grid).name for grid in GRIDS} == {"ggml"}


@pytest.mark.slow
def test_nothing_differs_and_nothing_is_stored_twice(made):
    folder, reference = made
    report = compare(folder, reference)
    assert report.mismatched == 0
    assert {row.name for row in report.rows if row.grid in GRIDS} == set(reference.grids)
    back = detect.load(folder)
    for name, tensor in reference.weights.items():
        assert torch.equal(back.state[name].float(), tensor), name
    bits = 4.5 if "ggml_q4_0" in reference.grids.values() else 8.5
    held = sum(bits / 8 if n in reference.grids else 2 for n, t in reference.weights.items()
               for _ in range(t.numel()))  # fmt: skip
    assert sum(bytes_on_disk(folder / file) for file in onnx_reader.FILES) < held + 60_000


@pytest.mark.parametrize("preset", ["paper", "encoder"])
def test_one_side_alone(preset, tmp_path):
    toy = random_weights(SHAPES["multilingual"])
    grids = assign_grids(toy.dims, "ggml_q4_0", preset)
    quantized, values = on_grid(toy, "ggml_q4_0", preset)
    onnx_writer.save(tmp_path / "toy", toy, quantized)
    scales = {name: q.scale for name, q in quantized.items()}
    reference = Reference(toy.dims, values, grids, scales, toy.state)
    assert compare(tmp_path / "toy", reference).mismatched == 0


@pytest.mark.parametrize(
    "side,name,column",
    [
        ("decoder", EMBEDDING, "integers"),
        ("decoder", f"{EMBEDDING}.scale", "scales"),
        ("encoder", "decoder.blocks.1.cross_attn.value.weight", "integers"),
        ("encoder", "encoder.blocks.1.mlp.2.weight.scale", "scales"),
        ("encoder", "encoder.conv1.weight", "integers"),
        ("decoder", "decoder.blocks.2.attn.query.weight", "integers"),
    ],
)
def test_one_changed_bit_is_found(side, name, column, made):
    folder, reference = made
    change(folder, side, flip(name, 40))
    rows = {row.name: row for row in compare(folder, reference).rows}
    assert getattr(rows.pop(name.removesuffix(".scale")), column) >= 1
    others = [row for name, row in rows.items() if name in reference.weights]
    assert not any(row.integers + row.scales for row in others)


@pytest.mark.parametrize("kind", ["MatMulNBits", "GatherBlockQuantized"])
@pytest.mark.parametrize("name,value", [("bits", 2), ("block_size", 16), ("accuracy_level", 1)])
def test_a_changed_operator_is_found(kind, name, value, made):
    def edit(model):
        node = next(node for node in model.graph.node if node.op_type == kind)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    folder, reference = made
    change(folder, "decoder", edit)
    rows = {row.name: row for row in compare(folder, reference).rows}
    assert rows["decoder graph"].integers


def test_another_grid_is_not_taken_for_this_one(made):
    folder, reference = made
    (grid,) = {*reference.grids.values()}
    (other,) = {*GRIDS} - {grid}
    grids = dict.fromkeys(reference.grids, other)
    rows = compare(folder, replace(reference, grids=grids)).rows
    wrong = {row.name for row in rows if row.integers}
    assert wrong >= reference.grids.keys()


def edited(name, **changes):
    def edit(model):
        tensor = initializer(model, name)
        for key, value in changes.items():
            if key == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, key, value)

    return edit


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit,message",
    [
        (drop(f"{LINEAR}.scale"), "integers without scales"),
        (edited(LINEAR, dims=[256, 2, 1 << 40]), "no blocks of 32"),
        (edited(LINEAR, dims=[]), "no blocks of 32"),
        (edited(LINEAR, raw_data=b"abc"), "has 3 bytes"),
        (edited(LINEAR, data_location=TensorProto.EXTERNAL), "lies in another file"),
        (values(f"{LINEAR}.scale", np.full((256, 2), np.nan, "f2")), "not finite float16"),
        (values(f"{LINEAR}.scale", np.ones((256, 2), "f4")), "not finite float16"),
        (values(LINEAR, np.zeros((256, 2, 32), "u1")), "holds -128"),
        (values("decoder.ln.bias", np.zeros(64, "u1")), "integers without scales"),
        (values("decoder.positional_embedding", np.zeros((16, 2, 32), "u1")), "without scales"),
    ],
)
def test_damaged_files_are_named(edit, message, made):
    folder, reference = made
    change(folder, "decoder", edit)
    with pytest.raises(InputError, match=f"{folder}.*{re.escape(message)}"):
        onnx_reader.load(folder)
    with pytest.raises((InputError, WorkError), match=str(folder)):
        rows = [row for row in compare(folder, reference).rows if row.integers + row.scales]
        raise WorkError(f"{folder}: {rows[0].name}")  # what can be compared differs


def test_what_blocks_cannot_hold(tmp_path):
    toy = random_weights(SHAPES["multilingual"])
    narrow = random_weights(ModelDimensions(80, 20, 40, 2, 1, 51864, 12, 40, 2, 2))
    for weights, name, message in (
        (toy, "decoder.positional_embedding", "hold no ggml_q4_0 of it"),
        (toy, "encoder.conv2.weight", "hold no ggml_q4_0 of it"),
        (narrow, "decoder.blocks.0.mlp.0.weight", "no multiple of 32"),
    ):
        with pytest.raises(InputError, match=f"{name}: .*{message}"):
            onnx_writer.check_grids(weights.dims, {name: "ggml_q4_0"})


@pytest.fixture(scope="module")
def tiny(weights_dir, tmp_path_factory):
    """Grid -> (folder, the model on it)."""
    found = {}
    for grid in GRIDS:
        folder = tmp_path_factory.mktemp(grid) / "tiny"
        model = dq.quantize(dq.load(weights_dir / "tiny.pt"), grid)
        dq.save(model, folder, to="onnx")
        found[grid] = folder
    return found


@pytest.mark.parametrize("grid", GRIDS)
def test_the_real_tiny(grid, tiny, clips):
    """Texts of ONNX Runtime and of openai-whisper with the dequantized weights are the same."""
    folder = tiny[grid]
    weights = onnx_reader.load(folder)
    model = openais(weights.dims, {k: v.float() for k, v in weights.state.items()})
    runtime = Model(folder, 1)
    for path, language, _ in clips[1:4]:
        mel = whisper.pad_or_trim(whisper.log_mel_spectrogram(load_audio(path)), 3000)
        options = whisper.DecodingOptions(language=language, fp16=False, without_timestamps=True)
        assert whisper.decode(runtime, mel, options).text == model.decode(mel, options).text


@pytest.mark.parametrize("grid", GRIDS)
def test_sherpa_onnx_transcribes(grid, tiny, clips):
    folder = tiny[grid]
    path, language, text = clips[0]
    said, _ = heard_by_sherpa(folder, language, load_audio(path))
    words = BasicTextNormalizer()
    assert jiwer.cer(words(text), words(said)) < 0.15, said


def test_no_weight_becomes_float_when_it_is_loaded(tiny):
    """Its file is what it needs: the optimized graph still multiplies by integers."""
    folder = tiny["ggml_q4_0"]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder.parent / "optimized.onnx")
    onnxruntime.InferenceSession(folder / "decoder.onnx", options)
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    kinds = [node.op_type for node in nodes]
    layers = onnx_reader.read(folder).dims.n_text_layer
    assert kinds.count("MatMulNBits") == 8 * layers + 1  # all linears but keys, values; the head
    assert kinds.count("GatherBlockQuantized") == 1
