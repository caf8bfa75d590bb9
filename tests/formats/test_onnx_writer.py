"""ONNX folders: run by ONNX Runtime and sherpa-onnx, read back, compared bit by bit."""

import re
import shutil
from dataclasses import replace

import jiwer
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import whisper
from onnx import TensorProto
from whisper.model import ModelDimensions, Whisper, sinusoids
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError, WorkError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect, logits
from espnet_dq.formats.onnx import read as onnx_reader
from espnet_dq.formats.onnx import write as onnx_writer
from espnet_dq.formats.onnx.rounding import as_onnx_runtime
from espnet_dq.formats.onnx.verify import compare
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.report import Reference
from espnet_dq.formats.verify import judge
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights
from tests import toys
from tests.formats.onnx_files import (
    change,
    drop,
    heard_by_sherpa,
    initializer,
    swap_keys_and_values,
    values,
)
from tests.spread import bound, rms

GRID = "onnx_int8"
SHAPES = {
    "multilingual": ModelDimensions(80, 50, 64, 2, 2, 51865, 16, 64, 2, 3),
    "turbo": ModelDimensions(128, 30, 64, 4, 5, 51866, 16, 64, 4, 4),
    "english": ModelDimensions(80, 20, 64, 2, 1, 51864, 12, 64, 2, 2),
    "15s": ModelDimensions(80, 750, 64, 2, 1, 51865, 16, 64, 2, 1),
}


def random_weights(dims):
    random = torch.Generator().manual_seed(5)
    # No two tensors alike, no zeros: a swapped or dropped one shows.
    state = {
        name: 0.1 * torch.randn(shape, generator=random)
        for name, shape in weight_shapes(dims).items()
    }
    for name in state:  # weak norms would leave attention nothing to choose between
        if re.search(r"ln(_post)?\.weight", name):
            state[name] += 1
    state["encoder.positional_embedding"] = sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    return Weights(dims, {name: tensor.half().float() for name, tensor in state.items()})


def on_grid(weights):
    """(integers and scales, the values that they stand for)."""
    quantized = quantize(weights.state, assign_grids(weights.dims, GRID))
    values = {name: get_grid(GRID).dequantize(q) for name, q in quantized.items()}
    return quantized, weights.state | values


def sessions(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return [onnxruntime.InferenceSession(folder / f, options) for f in onnx_reader.FILES]


def run(folder, mel, tokens, steps, room):
    """Logits of `tokens` taken in `steps`, into a cache with `room` for so many from the start."""
    encoder, decoder = sessions(folder)
    cross = encoder.run(None, {"mel": mel.numpy()})
    layers, width = cross[0].shape[0], cross[0].shape[3]
    caches = [np.zeros((layers, len(tokens), room, width), np.float32)] * 2
    found, offset = [], 0
    for part in torch.split(tokens, steps, dim=1):
        names = [value.name for value in decoder.get_inputs()]
        inputs = [part.numpy(), *caches, *cross, np.array([offset])]
        logits, *caches = decoder.run(None, dict(zip(names, inputs, strict=True)))
        found.append(logits)
        offset += part.shape[1]
        assert caches[0].shape[2] == max(room, offset)
    return torch.from_numpy(np.concatenate(found, axis=1))


def openais(dims, state):
    model = Whisper(dims)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


@pytest.fixture
def toy():
    return random_weights(SHAPES["multilingual"])


@pytest.fixture
def made(toy, tmp_path):
    """(folder on the grid, what it should hold)."""
    quantized, values = on_grid(toy)
    onnx_writer.save(tmp_path / "toy", toy, quantized)
    scales = {name: q.scale for name, q in quantized.items()}
    grids = dict.fromkeys(scales, GRID)
    return tmp_path / "toy", Reference(toy.dims, values, grids, scales, toy.state)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("grid", [True, False])
def test_logits_are_openai_whispers(kind, grid, tmp_path):
    dims = SHAPES[kind]
    weights = random_weights(dims)
    quantized, state = on_grid(weights) if grid else ({}, weights.state)
    onnx_writer.save(tmp_path / "toy", weights, quantized)
    for file in onnx_reader.FILES:
        onnx.checker.check_model(tmp_path / "toy" / file, full_check=True)
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(2, dims.n_mels, 2 * dims.n_audio_ctx, generator=random)
    tokens = torch.randint(dims.n_vocab, (2, 9), generator=random)
    model = openais(dims, state)
    expected = model(mel, tokens)
    assert expected.std() > 0.1
    with as_onnx_runtime(model, onnx_reader.read(tmp_path / "toy").tensors):
        noise = rms(model(mel, tokens) - expected)
    assert bool(noise) == grid
    for steps, room in (([9], dims.n_text_ctx), ([4, 1, 3, 1], dims.n_text_ctx), ([4, 1, 4], 0)):
        found = run(tmp_path / "toy", mel, tokens, steps, room)
        if grid:  # a value at a tie, rounded otherwise, moves many behind it
            assert noise / 2 < rms(found - expected) < 2 * noise, (steps, room)
        else:
            assert (found - expected).abs().max() < 1e-4, (steps, room)


def test_shorter_and_longer_input_than_the_window(toy, tmp_path):
    """sherpa-onnx feeds the clip and some seconds; what is beyond the window is not heard."""
    onnx_writer.save(tmp_path / "toy", toy, {})
    encoder = sessions(tmp_path / "toy")[0]
    mel = torch.randn(1, 80, 130).numpy()
    full, _ = encoder.run(None, {"mel": mel[:, :, :100]})
    assert full.shape == (3, 1, 50, 64)
    assert np.array_equal(encoder.run(None, {"mel": mel})[0], full)
    short = replace(toy.dims, n_audio_ctx=30)
    positions = {"encoder.positional_embedding": toy.state["encoder.positional_embedding"][:30]}
    onnx_writer.save(tmp_path / "short", Weights(short, toy.state | positions), {})
    expected, _ = sessions(tmp_path / "short")[0].run(None, {"mel": mel[:, :, :60]})
    found, _ = encoder.run(None, {"mel": mel[:, :, :60]})
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_float16_round_trip(kind, tmp_path):
    weights = random_weights(SHAPES[kind])
    onnx_writer.save(tmp_path / "toy", weights, {}, float_dtype="float16")
    assert detect.detect(tmp_path / "toy") == "onnx"
    back = detect.load(tmp_path / "toy")
    assert back.dims == weights.dims
    for name, tensor in weights.state.items():
        assert back.state[name].dtype == torch.float16
        assert torch.equal(back.state[name].float(), tensor), name


def test_float32_round_trip(toy, tmp_path):
    toy.state["decoder.ln.bias"][3] += 1e-6  # no float16
    onnx_writer.save(tmp_path / "toy", toy, {}, float_dtype="float32")
    back = detect.load(tmp_path / "toy")
    for name, tensor in toy.state.items():
        assert torch.equal(back.state[name], tensor), name


@pytest.mark.slow
def test_integers_and_scales_are_ours_and_stored_once(toy, made):
    folder, _ = made
    quantized, values = on_grid(toy)
    content = onnx_reader.read(folder)
    for name, q in quantized.items():
        assert torch.equal(torch.tensor(content.tensors[name].values), q.integers), name
        assert torch.equal(torch.tensor(content.tensors[name].scale), q.scale[:, 0]), name
    back = onnx_reader.load(folder)
    for name, tensor in values.items():
        assert torch.equal(back.state[name].float(), tensor), name
    parameters = sum(t.numel() for t in toy.state.values())
    models = sum(bytes_on_disk(folder / file) for file in onnx_reader.FILES)
    assert models < parameters * 1.1 + 4 * toy.dims.n_vocab + 60_000


def test_decoder_only_on_the_grid(toy, tmp_path):
    grids = assign_grids(toy.dims, GRID, "paper")
    quantized = quantize(toy.state, grids)
    onnx_writer.save(tmp_path / "toy", toy, quantized)
    reference = Reference(
        toy.dims,
        toy.state | {name: get_grid(GRID).dequantize(q) for name, q in quantized.items()},
        grids,
        {name: q.scale for name, q in quantized.items()},
        toy.state,
    )
    assert compare(tmp_path / "toy", reference).mismatched == 0


def test_same_bytes_each_time(toy, made, tmp_path):
    onnx_writer.save(tmp_path / "again", toy, on_grid(toy)[0])
    for file in (*onnx_reader.FILES, "tokens.txt"):
        assert (tmp_path / "again" / file).read_bytes() == (made[0] / file).read_bytes()


def test_nothing_differs(made):
    report = compare(*made)
    assert report.mismatched == 0
    assert {row.name for row in report.rows} == {
        *made[1].weights, "types of floats", "encoder graph", "decoder graph", "encoder metadata",
        "decoder metadata", "tokens.txt", "files",
    }  # fmt: skip
    on_grid = [row for row in report.rows if row.grid == GRID]
    assert {row.name for row in on_grid} == set(made[1].grids)


def flip(name, at):
    def edit(model):
        tensor = initializer(model, name)
        data = bytearray(tensor.raw_data)
        data[at] ^= 1
        tensor.raw_data = bytes(data)

    return edit


@pytest.mark.parametrize(
    "side,name,column",
    [
        ("decoder", "decoder.token_embedding.weight", "integers"),
        ("decoder", "decoder.token_embedding.weight.scale", "scales"),
        ("encoder", "encoder.conv2.weight", "integers"),
        ("encoder", "encoder.conv1.weight.scale", "scales"),
        ("encoder", "decoder.blocks.1.cross_attn.value.weight", "integers"),
        ("decoder", "decoder.blocks.2.mlp.0.weight.scale", "scales"),
        ("encoder", "encoder.positional_embedding", "integers"),
        ("decoder", "decoder.blocks.0.attn_ln.bias", "integers"),
    ],
)
def test_one_changed_bit_is_found(side, name, column, made):
    folder, reference = made
    change(folder, side, flip(name, 40))
    rows = {row.name: row for row in compare(folder, reference).rows}
    wrong = rows.pop(name.removesuffix(".scale"))
    assert getattr(wrong, column) >= 1
    others = [row for name, row in rows.items() if name in reference.weights]
    assert not any(row.integers + row.scales for row in others)


def attribute(kind, name, value):
    """Change an attribute of the first node of a kind."""

    def edit(model):
        node = next(node for node in model.graph.node if node.op_type == kind)
        (found,) = [a for a in node.attribute if a.name == name]
        found.CopyFrom(onnx.helper.make_attribute(name, value))

    return edit


def mask_the_past(model):
    for node in model.graph.node:
        if node.op_type == "LessOrEqual":
            node.op_type = "GreaterOrEqual"


def language(model):
    for entry in model.metadata_props:
        if entry.key == "all_language_tokens":
            entry.value = entry.value.replace("50259", "50260", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "side,edit,row",
    [
        ("encoder", attribute("LayerNormalization", "epsilon", 0.1), "encoder graph"),
        ("encoder", attribute("Conv", "pads", [2, 0]), "encoder graph"),
        ("decoder", attribute("LayerNormalization", "epsilon", 0.1), "decoder graph"),
        ("decoder", swap_keys_and_values, "decoder graph"),
        ("decoder", mask_the_past, "decoder graph"),
        ("encoder", language, "encoder metadata"),
    ],
)
def test_right_weights_in_a_wrong_graph_are_found(side, edit, row, made, toy, tmp_path):
    folder, reference = made
    change(folder, side, edit)
    rows = {r.name: r for r in compare(folder, reference).rows}
    assert rows.pop(row).integers
    assert not any(rows[name].integers for name in reference.weights)
    if row.endswith("graph"):  # what runs tells it as well, unless rounded inputs hide it
        form, folder = FORMATS["onnx"], tmp_path / "floats"
        onnx_writer.save(folder, toy, {})
        change(folder, side, edit)
        probe = logits.make_probe(reference.dims)
        found = logits.run(form, folder, probe)
        assert isinstance(found, str) or judge(form, found, folder, probe).integers


def test_a_changed_token_is_found(made):
    folder, reference = made
    text = (folder / "tokens.txt").read_text().replace("IQ== 0\n", "Ig== 0\n")
    (folder / "tokens.txt").write_text(text)
    rows = compare(folder, reference).rows
    assert [r.name for r in rows if r.integers] == ["tokens.txt"]


def test_floats_where_integers_should_be(toy, made, tmp_path):
    onnx_writer.save(tmp_path / "float", toy, {})
    rows = compare(tmp_path / "float", made[1]).rows
    wrong = {row.name for row in rows if row.integers}
    assert wrong & made[1].weights.keys() == set(made[1].grids)


def test_another_model_is_told(made):
    folder, reference = made
    odd = {**reference.weights, "decoder.extra": torch.zeros(1)}
    with pytest.raises(WorkError, match=r"decoder\.extra is missing"):
        compare(folder, replace(reference, weights=odd))


def rename(name, new):
    return lambda model: setattr(initializer(model, name), "name", new)


def field(name, key, value):
    def edit(model):
        tensor = initializer(model, name)
        if key == "dims":
            tensor.dims[0] = value
        else:
            setattr(tensor, key, value)

    return edit


def metadata(key, value):
    def edit(model):
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = value

    return edit


NORM, LINEAR = "decoder.ln.bias", "decoder.blocks.0.mlp.0.weight"


@pytest.mark.parametrize(
    "side,edit,message",
    [
        ("decoder", drop(NORM), f"{NORM} is missing"),
        ("decoder", rename(NORM, "x"), f"{NORM} is missing"),
        ("decoder", drop(f"{LINEAR}.scale"), "integers without scales"),
        ("encoder", rename("encoder.ln_post.bias", NORM), f"{NORM} is stored twice"),
        ("decoder", field(NORM, "dims", 1 << 40), "has shape"),
        ("decoder", field(NORM, "raw_data", b"abc"), "has 3 bytes"),
        ("decoder", field(NORM, "data_type", TensorProto.STRING), "has type"),
        ("decoder", field(NORM, "data_location", TensorProto.EXTERNAL), "lies in another file"),
        ("decoder", values(f"{LINEAR}.scale", np.full(256, np.nan, "f4")), "not finite float32"),
        ("decoder", values(LINEAR, np.full((64, 256), -128, "i1")), "holds -128"),
        ("decoder", values(NORM, np.zeros(64, "i1")), "integers without scales"),
        ("encoder", metadata("n_vocab", "-5"), "n_vocab"),
        ("encoder", metadata("n_vocab", "9" * 9), "n_vocab"),
        ("encoder", metadata("n_text_layer", "2"), "is not a Whisper weight"),
        ("encoder", lambda model: model.ClearField("metadata_props"), "metadata key n_mels"),
    ],
)
def test_damaged_files_are_named(side, edit, message, made):
    folder, _ = made
    change(folder, side, edit)
    with pytest.raises(InputError, match=f"{folder}.*{re.escape(message)}"):
        onnx_reader.load(folder)


@pytest.mark.parametrize("old", [b"n_vocab", NORM.encode()])
def test_names_that_are_no_utf8(old, made):
    folder, _ = made
    for file in onnx_reader.FILES:
        path = folder / file
        path.write_bytes(path.read_bytes().replace(old, old[:-1] + b"\xff"))
    with pytest.raises(InputError, match=rf"{folder}.*xff' is not UTF-8"):
        onnx_reader.load(folder)


@pytest.mark.parametrize("old", [b"n_vocab", NORM.encode(), b"axis", b"Softmax", b"tokens"])
def test_verify_takes_no_names_that_are_no_utf8(old, made):
    """Wherever they stand: of attributes, operators, dimensions."""
    folder, reference = made
    path = folder / "decoder.onnx"
    data = path.read_bytes()
    where = [m.start() for m in re.finditer(re.escape(old), data)]
    for at in where[:1] + where[-1:]:
        changed = bytearray(data)
        changed[at] |= 0x80
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"decoder\.onnx: .* not UTF-8"):
            compare(folder, reference)


def test_missing_and_truncated_files(made):
    folder, _ = made
    path = folder / "decoder.onnx"
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=f"{folder}"):
            detect.load(folder)
    path.unlink()
    with pytest.raises(InputError, match=f"{path}: no such file"):
        detect.load(folder)


def test_a_failed_write_leaves_what_was_there(toy, made):
    folder, _ = made
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    quantized = on_grid(toy)[0]
    name = "encoder.conv1.weight"
    quantized[name] = replace(quantized[name], scale=quantized[name].scale[:, 0])
    with pytest.raises(InputError, match=f"{name}: the scales"):
        onnx_writer.save(folder, toy, quantized)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.slow
def test_commands(toy, tmp_path, capsys):
    checkpoint, folder = str(tmp_path / "toy.pt"), str(tmp_path / "onnx")
    save_pt(checkpoint, toy)
    with pytest.raises(InputError, match="grid ggml_q5_0 does not fit onnx"):
        convert(["--from", checkpoint, "--to", "onnx", "--grid", "ggml_q5_0", "--out", folder])
    assert convert(["--from", checkpoint, "--to", "onnx", "--grid", GRID, "--out", folder]) == 0
    assert verify([folder, "--against", checkpoint, "--grid", GRID]) == 0
    change(tmp_path / "onnx", "decoder", flip(LINEAR, 7))
    capsys.readouterr()
    assert verify([folder, "--against", checkpoint, "--grid", GRID]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(" 1 mismatched")


@pytest.fixture(scope="module")
def tiny(weights_dir, tmp_path_factory):
    """Whether on the grid -> (folder of the real tiny, its float32 values)."""
    weights = openai.load(weights_dir / "tiny.pt")
    folder = tmp_path_factory.mktemp("tiny")
    quantized, values = on_grid(weights)
    onnx_writer.save(folder / "int8", weights, quantized)
    onnx_writer.save(folder / "float", weights, {})
    assert bytes_on_disk(folder / "int8") < 40_000_000
    return {True: (folder / "int8", values), False: (folder / "float", weights.state)}


@pytest.mark.parametrize("grid", [True, False])
def test_logits_of_the_real_tiny(grid, tiny, weights_dir, clips):
    folder, state = tiny[grid]
    dims = openai.load(weights_dir / "tiny.pt").dims
    path, language, text = clips[0]
    tokenizer = whisper.tokenizer.get_tokenizer(True, language=language)
    tokens = [*tokenizer.sot_sequence_including_notimestamps, *tokenizer.encode(f" {text}")]
    mel = whisper.log_mel_spectrogram(load_audio(path), padding=whisper.audio.N_SAMPLES)
    mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES)[None]
    tokens = torch.tensor([tokens])
    model = openais(dims, {k: v.float() for k, v in state.items()})
    found = run(folder, mel, tokens, [4, *[1] * (tokens.shape[1] - 4)], 0)
    expected = model(mel, tokens)
    if grid:
        with as_onnx_runtime(model, onnx_reader.read(folder).tensors):
            noise = rms(model(mel, tokens) - expected)
        assert noise / 2 < rms(found - expected) < 2 * noise < 0.2 * expected.std()
    else:
        assert (found - expected).abs().max() <= bound(model, mel, tokens)


@pytest.mark.parametrize("grid", [True, False])
def test_sherpa_onnx_transcribes(grid, tiny, clips):
    folder, _ = tiny[grid]
    words = BasicTextNormalizer()
    heard = []
    # Not the second: sherpa-onnx adds 10 s to it, and Whisper, used to 30 s, says it three times.
    for path, language, text in clips[::2]:
        said, _ = heard_by_sherpa(folder, language, load_audio(path))
        heard.append(jiwer.cer(words(text), words(said)))
    assert np.mean(heard) < 0.15, heard


@pytest.mark.slow
def test_sherpa_onnx_feeds_a_short_window_student(tmp_path):
    """Random weights say anything; that no shape is wrong is what counts."""
    dims = ModelDimensions(80, 750, 64, 2, 1, 51865, 448, 64, 2, 1)
    onnx_writer.save(tmp_path / "toy", random_weights(dims), {})
    _, tokens = heard_by_sherpa(tmp_path / "toy", "en", toys.noise(12))
    assert tokens
    shutil.rmtree(tmp_path / "toy")
