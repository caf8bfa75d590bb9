"""One changed byte is seen, wherever it is: in integers, scales, floats, settings, checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from whisper.model import Whisper

from espnet_dq.errors import DQError, InputError, WorkError
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.ct2.binary import read_variables
from espnet_dq.formats.ct2.verify import compare_weights as verify
from espnet_dq.formats.report import Reference
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, prepare


@pytest.fixture(scope="module")
def exported(toy_weights, toy_quantized, tmp_path_factory):
    """model.bin as exported."""
    folder = tmp_path_factory.mktemp("parity") / "toy"
    ctranslate2_writer.save(folder, toy_weights(), toy_quantized)
    return folder / "model.bin"


@pytest.fixture(scope="module")
def reference(toy_weights, toy_quantized):
    """What the prepared model's own modules compute with."""
    toy = toy_weights()
    model = Whisper(toy.dims)
    prepare(model, assign_grids(toy.dims, "ct2_int8"))
    model.load_state_dict(toy.state)
    weights = dict(toy.state)
    for name in toy_quantized:
        weights[name] = model.get_submodule(name.removesuffix(".weight")).weight.detach()
    grids = dict.fromkeys(toy_quantized, "ct2_int8")
    scales = {n: q.scale for n, q in toy_quantized.items()}
    return Reference(toy.dims, weights, grids, scales, toy.state)


def test_export_has_no_mismatch(exported, reference):
    report = verify(exported, reference)
    assert report.mismatched == 0
    variables = read_variables(exported)
    stored = {name for name in variables if not name.startswith("decoder/projection")}
    assert {row.name for row in report.rows} == stored | {"types of floats", "revision"}
    assert sum(row.bytes for row in report.rows) > 0.98 * exported.stat().st_size
    on_grid = [row for row in report.rows if row.grid == "ct2_int8"]
    assert len(on_grid) == 2 * 4 + 3 * 7 + 3 and {row.bits for row in on_grid} == {8}


@pytest.fixture
def edit(exported, tmp_path):
    """A function that flips bits of one byte of a variable in a copy of the file."""
    data = exported.read_bytes()
    variables = read_variables(exported)

    def flip(variable, at, bits):
        raw = variables[variable]
        assert data.count(raw.tobytes()) == 1
        start = data.find(raw.tobytes())
        changed = bytearray(data)
        changed[start + at] ^= bits
        path = tmp_path / "model.bin"
        path.write_bytes(changed)
        return path

    return flip


INTEGERS = [
    "encoder/conv1/weight",
    "encoder/layer_1/self_attention/linear_0/weight",
    "decoder/layer_2/attention/linear_1/weight",
    "decoder/layer_0/ffn/linear_1/weight",
    "decoder/embeddings/weight",
]


@pytest.mark.parametrize("variable", INTEGERS)
def test_one_byte_of_a_weight(edit, reference, variable):
    for at, bits in ((0, 1), (1111, 0x80), (4095, 2)):
        report = verify(edit(variable, at, bits), reference)
        rows = {row.name: row for row in report.rows if row.integers or row.scales}
        assert rows.keys() == {variable} and rows[variable].integers == 1


@pytest.mark.slow
@pytest.mark.parametrize("variable", INTEGERS)
@pytest.mark.parametrize("byte", range(4))
def test_one_byte_of_a_scale(edit, reference, variable, byte):
    """The lowest bit too, which may leave the float32 reciprocal as it was."""
    for row in range(0, 60, 7):
        report = verify(edit(f"{variable}_scale", 4 * row + byte, 1), reference)
        scales = {row.name: row.scales for row in report.rows if row.scales}
        assert scales == {f"{variable}_scale": 1} and report.mismatched >= 1


@pytest.mark.slow
def test_one_byte_of_a_float_or_a_setting(edit, reference):
    for variable in (
        "encoder/layer_norm/beta",
        "decoder/layer_1/ffn/layer_norm/gamma",
        "decoder/layer_1/self_attention/linear_0/bias",
        "encoder/position_encodings/encodings",
        "decoder/position_encodings/encodings",
    ):
        for at in (0, 1, 77):
            assert verify(edit(variable, at, 1), reference).mismatched == 1
    # The bias that a key projection does not have.
    report = verify(edit("encoder/layer_0/self_attention/linear_0/bias", 2 * 64, 0x80), reference)
    assert report.mismatched == 1


@pytest.mark.slow
def test_every_byte_of_the_file_counts(exported, reference, tmp_path):
    """Bytes drawn at random over the headers and the small variables."""
    data = exported.read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    random = np.random.default_rng(3)
    embedding = data.find(b"decoder/embeddings/weight\0")
    # Outside of the embedding, which most bytes belong to, and of the revision number.
    places = [*range(30, embedding + 40), *random.integers(len(data) - 300_000, len(data), 40)]
    for at in places[::3]:
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(bytes([data[at] ^ 4]))
        try:
            assert verify(path, reference).mismatched > 0, at
        except DQError as e:
            assert "model.bin" in str(e)
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(data[at : at + 1])
    assert verify(path, reference).mismatched == 0


@pytest.mark.parametrize(
    "name", ["encoder.conv2.weight", "decoder.blocks.1.cross_attn.value.weight", "decoder.ln.bias"]
)
def test_one_weight_of_the_checkpoint(exported, reference, toy, name):
    """A weight that moves to the next integer, or a float by more than its rounding."""
    changed = toy.state[name].clone()
    changed.view(-1)[5] += 0.02
    if name in reference.grids:
        changed = get_grid("ct2_int8").fake(changed)
    weights = {**reference.weights, name: changed}
    report = verify(exported, replace(reference, weights=weights))
    assert report.mismatched >= 1


def test_one_ulp_of_the_forward_weight(exported, reference):
    name = "decoder.token_embedding.weight"
    weight = reference.weights[name].clone()
    weight[7, 3] = torch.nextafter(weight[7, 3], torch.tensor(9.0))
    weights = {**reference.weights, name: weight}
    report = verify(exported, replace(reference, weights=weights))
    assert report.mismatched == 1


def test_a_float_file_is_not_on_the_grid(toy, reference, tmp_path):
    ctranslate2_writer.save(tmp_path / "f", toy, {}, float_dtype="float32")
    report = verify(tmp_path / "f" / "model.bin", reference)
    expected = sum(reference.weights[name].numel() for name in reference.grids)
    assert report.mismatched == expected
    plain = Reference(toy.dims, toy.state, {}, {}, toy.state)
    assert verify(tmp_path / "f" / "model.bin", plain).mismatched == 0


def test_an_int8_file_is_no_float_model(exported, toy):
    plain = Reference(toy.dims, toy.state, {}, {}, toy.state)
    assert verify(exported, plain).mismatched > 3_000_000


def test_another_model(exported, reference):
    dims = type(reference.dims)(**{**vars(reference.dims), "n_text_head": 4})
    with pytest.raises(WorkError, match="n_text_head=4"):
        verify(exported, replace(reference, dims=dims))
    with pytest.raises(InputError):
        verify(exported.parent / "config.json", reference)
