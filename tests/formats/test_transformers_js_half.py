"""Files for transformers.js that compute in float16, beside those that compute in float32."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from espnet_dq.api.models import Model, convert, save
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect, logits, transformers_js
from espnet_dq.formats.onnx.rounding import in_half
from espnet_dq.formats.onnx.write import save_graph, stored
from espnet_dq.formats.report import Reference
from espnet_dq.formats.transformers_js import InHalf, graph, write
from espnet_dq.formats.transformers_js.verify import compare
from espnet_dq.formats.verify import judge, verify
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from tests.formats.test_onnx_writer import SHAPES, flip, openais, random_weights
from tests.formats.test_transformers_js import change, make, on_grid, steps, swap_branches
from tests.spread import rms

GRIDS = (None, "ggml_q4_0")
ENDS = {None: ("", "_fp16"), "ggml_q4_0": ("_q4", "_q4f16")}


@pytest.fixture(params=GRIDS)
def made(request, tmp_path):
    """(folder with files that compute in float16, what it should hold)."""
    return make(tmp_path / "toy", request.param, half=True)


def wrong(folder, reference):
    return [row.name for row in compare(folder, reference).rows if row.integers + row.scales]


@pytest.mark.parametrize("grid", GRIDS)
def test_they_stand_beside_the_others_which_stay_as_they_are(grid, tmp_path):
    make(tmp_path / "with", grid, half=True)
    make(tmp_path / "without", grid)
    names = {f"{side}{end}.onnx" for side in transformers_js.SIDES.values() for end in ENDS[grid]}
    assert {file.name for file in (tmp_path / "with/onnx").iterdir()} == names
    files = [path for path in (tmp_path / "without").rglob("*") if path.is_file()]
    for file in files:
        other = tmp_path / "with" / file.relative_to(tmp_path / "without")
        assert other.read_bytes() == file.read_bytes(), file
    end = ENDS[grid][0]
    assert transformers_js.dtype(tmp_path / "with") == {"": "fp32", "_q4": "q4"}[end]


@pytest.mark.parametrize("side", transformers_js.SIDES)
def test_the_same_integers_and_scales(side, tmp_path):
    """Of four bits: what is stored is equal, byte for byte, tensor by tensor."""
    folder, _ = make(tmp_path / "toy", "ggml_q4_0", half=True)
    one, other = (
        {t.name: t.SerializeToString() for t in onnx.load(file).graph.initializer}
        for file in (transformers_js.files(folder, half)[side] for half in (False, True))
    )
    assert one == other and any(name.endswith(".scale") for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("side", transformers_js.SIDES)
def test_all_is_computed_in_float16(side, made):
    """By the types that ONNX Runtime itself infers of every node's result.

    In float32 are only what is taken and given: between the two, and to what calls them.
    """
    model = onnx.load(transformers_js.files(made[0], half=True)[side])
    given = {value.name for value in model.graph.output}
    assert {v.type.tensor_type.elem_type for v in model.graph.output} == {TensorProto.FLOAT}
    assert TensorProto.FLOAT16 not in {v.type.tensor_type.elem_type for v in model.graph.input}
    inner = [n for node in model.graph.node for n in node.output if n not in given]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    types = {value.name: value.type for value in session.get_outputs()}
    assert types.keys() == given | {*inner}
    assert not [name for name in inner if types[name] == "tensor(float)"]
    assert sum(types[name] == "tensor(float16)" for name in inner) > len(inner) / 2


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", ["multilingual", "15s"])
def test_logits_are_openai_whispers_within_its_own_float16(kind, grid, tmp_path):
    dims = replace(SHAPES[kind], n_audio_ctx=50)
    weights = random_weights(dims)
    quantized, state = on_grid(weights, grid)
    write.save(tmp_path / "toy", weights, quantized, half=True)
    for file in transformers_js.files(tmp_path / "toy", half=True).values():
        onnx.checker.check_model(file, full_check=True)
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(2, dims.n_mels, 2 * dims.n_audio_ctx, generator=random)
    tokens = torch.randint(dims.n_vocab, (2, 9), generator=random)
    model = openais(dims, state)
    with torch.inference_mode():
        expected = model(mel, tokens)
        with in_half(model):
            noise = rms(model(mel, tokens) - expected)
    assert 1e-5 < noise < expected.std() / 20
    for sizes in ([9], [4, 1, 3, 1]):
        found = steps(tmp_path / "toy", dims, mel, tokens, sizes, half=True)
        assert found.dtype == torch.float32
        # On a CPU some of it is computed in float32, and rounded behind.
        assert noise / 10 < rms(found - expected) < 2 * noise


@pytest.mark.slow
def test_verify_reads_and_runs_them(made):
    folder, reference = made
    assert detect.detect(folder) == "transformers_js"
    report = verify(folder, reference).check()
    names = [row.name for row in report.rows]
    for name in ("encoder.conv1.weight", "decoder graph", "logits in ONNX Runtime"):
        assert {name, f"{name}{',' if 'logits' in name else ''} in float16"} <= {*names}
    assert len(names) == len({*names})
    assert not any("not run" in row.note for row in report.rows)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_one_changed_bit_is_found(side, made):
    folder, reference = made
    name = f"{side}.blocks.0.mlp.0.weight"
    change(folder, side, flip(name, 40), half=True)
    assert wrong(folder, reference) == [f"{name} in float16"]


@pytest.mark.slow
def test_a_wrong_graph_is_found(made):
    folder, reference = made
    change(folder, "decoder", swap_branches, half=True)
    assert wrong(folder, reference) == ["decoder graph in float16"]


@pytest.mark.slow
def test_what_computes_in_float32_under_the_name_is_found(made):
    folder, reference = made
    for side, file in transformers_js.files(folder, half=True).items():
        shutil.copy(transformers_js.files(folder)[side], file)
    assert wrong(folder, reference) == ["encoder graph in float16", "decoder graph in float16"]


@pytest.mark.slow
def test_floats_in_float32_under_the_name_are_found(tmp_path):
    folder, reference = make(tmp_path / "toy", None, half=True)
    toy = random_weights(SHAPES["15s"])
    tensors = stored(toy, {}, "float32", folder)
    for side, file in transformers_js.files(folder, half=True).items():
        save_graph(file, getattr(graph, side)(toy.dims, tensors, half=True), {}, folder)
    with pytest.raises(WorkError, match="what computes in float16 is stored in float32"):
        compare(folder, reference)


@pytest.mark.slow
def test_one_of_two_is_missing(made):
    folder, reference = made
    transformers_js.files(folder, half=True)["decoder"].unlink()
    with pytest.raises(InputError, match="one decoder that computes in float16 is needed, and"):
        compare(folder, reference)


@pytest.mark.slow
def test_logits_of_other_weights_are_judged_wrong(made, tmp_path):
    """The bound is openai-whisper's own float16: another model is beyond it."""
    folder, reference = made
    other = {n: t + 0.02 * torch.randn_like(t) for n, t in reference.floats.items()}
    write.save(tmp_path / "other", replace(random_weights(reference.dims), state=other), {},
               half=True)  # fmt: skip
    probe = logits.make_probe(reference.dims)
    found = logits.run(InHalf(), tmp_path / "other", probe)
    assert isinstance(found, np.ndarray)
    assert judge(InHalf(), found, folder, probe).integers


@pytest.mark.parametrize("grid", ["onnx_int8", "ggml_q8_0"])
def test_eight_bits_have_no_such_name(grid, tmp_path):
    toy = Model(random_weights(SHAPES["15s"]))
    with pytest.raises(InputError, match=f"the encoder is on {grid}, and transformers.js has no"):
        convert(toy, tmp_path / "toy", "transformers_js", grid, half=True)
    with pytest.raises(InputError, match="hf has no files that compute in float16"):
        save(toy, tmp_path / "toy", "hf", half=True)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("preset,bare", [("paper", "encoder"), ("encoder", "decoder")])
def test_each_side_is_named_after_what_is_in_it(preset, bare, tmp_path):
    """Four bits on one side, floats on the other."""
    toy, folder = random_weights(SHAPES["15s"]), tmp_path / "toy"
    quantized = quantize(toy.state, assign_grids(toy.dims, "ggml_q4_0", preset))
    write.save(folder, toy, quantized, half=True)
    names = {False: {}, True: {}}
    for half, found in names.items():
        found |= {side: file.stem for side, file in transformers_js.files(folder, half).items()}
    ends = {side: ENDS[None if side == bare else "ggml_q4_0"] for side in names[False]}
    for half in names:
        assert names[half] == {s: n + ends[s][half] for s, n in transformers_js.SIDES.items()}
    called = {side: "fp32" if side == bare else "q4" for side in ends}
    expected = {transformers_js.SIDES[side]: name for side, name in called.items()}
    assert transformers_js.dtype(folder) == expected
    values = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
    scales = {name: q.scale for name, q in quantized.items()}
    grids = dict.fromkeys(scales, "ggml_q4_0")
    reference = Reference(toy.dims, toy.state | values, grids, scales, toy.state)
    assert not wrong(folder, reference)
    name = f"{transformers_js.SIDES[bare]}.onnx"
    (folder / "onnx" / name).rename(folder / "onnx" / name.replace(".onnx", "_q4.onnx"))
    assert wrong(folder, reference) == ["onnx"]


@pytest.mark.slow
def test_floats_that_float16_rounds(tmp_path):
    """What computes in float32 keeps them; verify compares each with what its file can hold."""
    toy, folder = Model(random_weights(SHAPES["15s"])), tmp_path / "toy"
    toy.weights.state["decoder.ln.bias"] = toy.weights.state["decoder.ln.bias"].float() + 1e-6
    save(toy, folder, "transformers_js", half=True)
    for half, kind in ((False, TensorProto.FLOAT), (True, TensorProto.FLOAT16)):
        for file in transformers_js.files(folder, half).values():
            assert {t.data_type for t in onnx.load(file).graph.initializer} == {kind}
    state = toy.weights.state
    assert not wrong(folder, Reference(toy.dims, state, {}, {}, state))
    assert all(torch.equal(detect.load(folder).state[name], t) for name, t in state.items())


def test_what_lies_beside_is_the_same_for_every_grid(tmp_path):
    """So graphs of several grids may lie in one folder for transformers.js."""
    one, other = (make(tmp_path / str(grid), grid)[0] for grid in (None, "ggml_q4_0"))
    for file in one.glob("*.json"):
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name
