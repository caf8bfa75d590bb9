"""`verify` sees every change of the files that hold tensors and graphs; so does the run."""

import struct
from dataclasses import replace

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from espnet_dq.errors import DQError, WorkError
from espnet_dq.formats import logits
from espnet_dq.formats.ct2.binary import read
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.verify import compare, judge
from tests.formats.onnx_files import swap_keys_and_values
from tests.formats.written import CONFIG, GRIDS, few, put, seen

# --- CTranslate2's file


def write_ct2(path, content, variables, aliases, revision=3):
    types = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def string(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    with open(path, "wb") as f:
        f.write(struct.pack("<I", 6) + string("WhisperSpec"))
        f.write(struct.pack("<II", revision, len(variables)))
        for name, array in variables:
            f.write(string(name) + struct.pack("<B", array.ndim))
            f.write(struct.pack(f"<{array.ndim}I", *array.shape))
            f.write(struct.pack("<BI", types[array.dtype.name], array.nbytes) + array.tobytes())
        f.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases:
            f.write(string(alias) + string(name))


def ct2(edit):
    """Change variables, a list of (name, array), and aliases, a list of pairs, in place."""

    def change(path):
        content = read(path)
        variables = [(name, np.array(array)) for name, array in content.variables.items()]
        aliases = list(content.aliases.items())
        revision = edit(variables, aliases) or 3
        write_ct2(path, content, variables, aliases, revision)

    return change


def alias_twice(at):
    def edit(variables, aliases):
        alias = next(a for a, _ in aliases if a == "decoder/projection/weight")
        other = "decoder/layer_0/ffn/linear_0/weight"
        aliases.insert(at if at >= 0 else len(aliases), (alias, other))

    return edit


def without(name):
    def edit(variables, aliases):
        variables[:] = [v for v in variables if v[0] != name]
        aliases[:] = [a for a in aliases if a[0] != name]

    return edit


def more(name, like):
    def edit(variables, aliases):
        array = next(a for n, a in variables if n == like)
        variables.append((name, array))

    return edit


def renamed(old, new):
    def edit(variables, aliases):
        variables[:] = [(new if n == old else n, a) for n, a in variables]

    return edit


def setting(name, value, dtype=None):
    def edit(variables, aliases):
        variables[:] = [(n, np.array(value, dtype or a.dtype) if n == name else a)
                        for n, a in variables]  # fmt: skip

    return edit


def as_float32(variables, aliases):
    """One of the floats in another type."""
    variables[:] = [(n, a.astype(np.float32) if n == "decoder/layer_norm/gamma" else a)
                    for n, a in variables]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit",
    [
        alias_twice(0),
        alias_twice(-1),
        without("decoder/projection/weight"),
        without("decoder/activation"),
        without("decoder/pre_norm"),
        more("encoder/layer_0/ffn/layer_norm/weight_scale", "decoder/embeddings/weight_scale"),
        more("x/weight_scale", "decoder/embeddings/weight_scale"),
        more("decoder/embeddings/weight_zero", "decoder/embeddings/weight_scale"),
        more("decoder/projection/bias", "decoder/embeddings/weight_scale"),
        more("encoder/layer_0/ffn/activation", "decoder/activation"),
        renamed("encoder/layer_0/ffn/linear_0/bias", "encoder/layer_0/ffn/linear_0/beta"),
        setting("decoder/activation", 0),
        setting("decoder/activation", 3, "int16"),
        setting("decoder/scale_embeddings", 1),
        setting("encoder/num_heads", 1),
        as_float32,
        lambda variables, aliases: 2,
    ],
)
def test_everything_in_model_bin(edit, changed):
    assert seen(*changed("ct2", "model.bin", ct2(edit)))


def test_variables_in_another_order(changed):
    assert not seen(*changed("ct2", "model.bin", ct2(lambda v, a: v.reverse())))


# --- ONNX


def forced(model):
    """One token is certain from position 10 on."""
    logits_node = next(n for n in model.graph.node if n.output[0] == "logits")
    logits_node.output[0] = "before"
    bonus = np.zeros(few().n_vocab, np.float32)
    bonus[1000] = 1e4
    add = model.graph.node.extend
    add(
        [
            helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(bonus)),
            helper.make_node("Constant", [], ["ten"], value=numpy_helper.from_array(np.int64(10))),
            helper.make_node("GreaterOrEqual", ["offset", "ten"], ["is_later"]),
            helper.make_node("Cast", ["is_later"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["b", "factor"], ["given"]),
            helper.make_node("Add", ["before", "given"], ["logits"]),
        ]
    )


def first(kind):
    return lambda model: next(n for n in model.graph.node if n.op_type == kind)


def onnx_edit(edit):
    def change(path):
        model = onnx.load(path)
        edit(model)
        onnx.save(model, path)

    return change


def _epsilon(model):
    first("LayerNormalization")(model).attribute[-1].CopyFrom(
        helper.make_attribute("epsilon", 1e-3)
    )


def _opset(model):
    model.opset_import[0].version += 1


def _domain(model):
    first("Add")(model).domain = "com.microsoft"


def _overridable(model):
    """An initializer that is an input, too, may be given from outside."""
    value = helper.make_tensor_value_info("decoder.ln.weight", TensorProto.FLOAT16, [32])
    model.graph.input.append(value)


def _function(model):
    model.functions.add(name="Gelu", domain="local")


def _sparse(model):
    model.graph.sparse_initializer.add()


def _unknown(model):
    """A field that this version of ONNX does not know, and another may."""
    model.graph.MergeFromString(b"\xfa\x3f\x03abc")


def _metadata(model):
    model.metadata_props.add(key="ort_config", value="{}")


@pytest.mark.parametrize(
    "edit", [forced, _epsilon, _opset, _domain, _overridable, _function, _sparse, _unknown,
             _metadata]
)  # fmt: skip
def test_everything_in_a_graph(edit, changed):
    assert seen(*changed("onnx", "decoder.onnx", onnx_edit(edit)))


def test_a_shape_that_does_not_follow(changed):
    """ONNX Runtime believes it: then it takes no shorter audio, nor two clips at once."""

    def edit(model):
        (name,) = first("Transpose")(model).output  # of what the convolutions give
        shape = [1, few().n_audio_ctx, few().n_audio_state]
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        model.graph.value_info.append(value)

    assert seen(*changed("onnx", "encoder.onnx", onnx_edit(edit)))


# --- safetensors, .pt: types, and numbers that are none


def tensors(edit):
    def change(path):
        with safetensors.safe_open(path, "pt") as f:
            metadata = f.metadata()
        content = safetensors.torch.load_file(path)
        edit(content)
        safetensors.torch.save_file(content, path, metadata)

    return change


def retype(name, dtype):
    return lambda content: content.__setitem__(name, content[name].to(dtype))


@pytest.mark.parametrize(
    "edit",
    [
        retype("decoder.ln.bias", torch.bfloat16),
        retype("decoder.ln.bias", torch.float64),
        retype("decoder.ln.bias", torch.float32),
        retype("decoder.token_embedding.weight.integers", torch.float32),
        retype("decoder.token_embedding.weight.integers", torch.int32),
    ],
)
def test_types_in_a_packed_file(edit, changed):
    assert seen(*changed("packed", "", tensors(edit)))


@pytest.mark.slow
@pytest.mark.parametrize("form", GRIDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_numbers_that_no_type_holds(form, value, made):
    """On both sides alike, or beyond float16 and so infinite in the file."""
    path, reference = made(form)
    name = "decoder.blocks.1.mlp_ln.bias"
    odd = dict(reference.weights)
    odd[name] = odd[name].clone()
    odd[name][3] = value
    odd = replace(reference, weights=odd)
    if np.isfinite(value):
        assert seen(path, odd)
    else:
        with pytest.raises(WorkError, match=r"mlp_ln\.bias of the reference is not finite"):
            compare(path, odd)


def test_not_a_number_in_the_file_and_in_training(changed):
    def edit(content):
        content["decoder.ln.bias"][3] = float("nan")

    path, reference = changed("packed", "", tensors(edit))
    weights = dict(reference.weights)
    weights["decoder.ln.bias"] = weights["decoder.ln.bias"].clone()
    weights["decoder.ln.bias"][3] = float("nan")
    assert seen(path, replace(reference, weights=weights))


# --- files that others saved again, unchanged


def test_saved_again_by_onnx(changed):
    def edit(path):
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
        model.producer_name, model.doc_string = "onnx", "saved again"
        onnx.save(model, path)

    assert not seen(*changed("onnx", "encoder.onnx", edit))


@pytest.mark.parametrize("form,file", [("packed", ""), ("hf", "model.safetensors")])
def test_saved_again_by_safetensors(form, file, changed):
    def reorder(content):
        for name in sorted(content, reverse=True):
            content[name] = content.pop(name).clone()

    assert not seen(*changed(form, file, tensors(reorder)))


@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.Tensor.clone])
def test_saved_again_by_torch(kind, changed):
    """A table of a module's parameters, too, which no `state_dict` gives."""

    def edit(path):
        content = torch.load(path, weights_only=True)
        state = content["model_state_dict"]
        content["model_state_dict"] = {name: kind(state[name]) for name in reversed(state)}
        torch.save(content, path)

    assert not seen(*changed("openai", "", edit))


# --- what the run sees by itself


@pytest.mark.slow
@pytest.mark.parametrize(
    "form,file,edit",
    [
        ("onnx", "decoder.onnx", onnx_edit(forced)),
        # Computed in float: on onnx_int8 the rounding of inputs hides as small a change.
        ("transformers_js", "onnx/decoder_model_merged_q4.onnx", onnx_edit(_epsilon)),
        ("transformers_js", "onnx/encoder_model_q4.onnx", onnx_edit(_epsilon)),
        ("onnx", "decoder.onnx", onnx_edit(swap_keys_and_values)),
        ("ct2", "model.bin", ct2(setting("decoder/activation", 0))),
        ("hf", CONFIG, put(CONFIG, "activation_function", "relu")[1]),
    ],
)
def test_right_weights_in_a_wrong_model(form, file, edit, changed):
    """Without the comparison of everything else: logits alone tell."""
    path, reference = changed(form, file, edit)
    probe = logits.make_probe(reference.dims)
    found = logits.run(FORMATS[form], path, probe)
    assert not isinstance(found, str), found
    if form == "hf":  # our loader refuses it
        with pytest.raises(DQError, match="activation_function"):
            judge(FORMATS[form], found, path, probe)
    else:
        assert judge(FORMATS[form], found, path, probe).integers > 0


@pytest.mark.slow
def test_a_runtime_that_ends_with_the_file(changed):
    """whisper.cpp ends the process on an F32 convolution; so that is one of its own."""

    def edit(path):
        data = bytearray(path.read_bytes())
        struct.pack_into("<i", data, 4 * 8, 7)  # decoder layers
        path.write_bytes(data)

    path, reference = changed("ggml", "", edit)
    found = logits.run(FORMATS["ggml"], path, logits.make_probe(reference.dims))
    assert isinstance(found, str) and found.startswith("whisper.cpp does not run it (exit code")


@pytest.mark.slow
def test_what_a_file_lacks_is_no_missing_runtime(changed):
    """transformers says so by an `ImportError`; that is not "not run", which is no mismatch."""
    pytest.importorskip("transformers")
    file, edit = put(CONFIG, "attn_implementation", "flash_attention_2")
    path, reference = changed("hf", file, edit)
    found = logits.run(FORMATS["hf"], path, logits.make_probe(reference.dims))
    assert isinstance(found, str) and found.startswith("transformers does not run it: FlashAtt")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ModuleNotFoundError("No module", name="transformers"), "not run: transformers is not in"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "transformers does not run it: No"),
        (ModuleNotFoundError("No part", name="transformers.x"), "transformers does not run it: No"),
        (ImportError("x.so: cannot be read", name="scipy"), "transformers does not run it: x.so"),
        (ImportError("x.so: failed to map segment from shared object", name="_x"), MemoryError),
    ],
)
def test_what_cannot_be_loaded_is_no_missing_runtime(error, found, make_toy, monkeypatch):
    def fails(*_):
        raise error

    form, probe = FORMATS["hf"], logits.make_probe(make_toy().dims)
    monkeypatch.setattr(type(form), "logits", fails)
    missing = str(found).startswith("not run")
    monkeypatch.setattr(logits, "find_spec", lambda name: None if missing else "there")
    if found is MemoryError:
        with pytest.raises(ImportError, match="failed to map segment"):  # told as no memory
            logits.run(form, "nothing", probe)
    else:
        assert logits.run(form, "nothing", probe).startswith(found)


@pytest.mark.parametrize(
    ("says", "found"),
    [("raise MemoryError", MemoryError), ("import _pywhispercpp", "not run: whisper.cpp is not"),
     ("raise ValueError('odd')", "whisper.cpp does not run it (exit code 1): odd")],
)  # fmt: skip
def test_so_it_is_of_a_runtime_that_is_a_process(says, found, make_toy, tmp_path, monkeypatch):
    """`sitecustomize` has whisper.cpp hidden there, and its reader fails."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['_pywhispercpp'] = None\n"
        "import espnet_dq.formats.ggml as module\n"
        f"def logits(*_):\n    {says}\nmodule.Ggml.logits = staticmethod(logits)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    probe = logits.make_probe(make_toy().dims)
    if found is MemoryError:
        with pytest.raises(MemoryError):
            logits.run(FORMATS["ggml"], tmp_path / "nothing", probe)
    else:
        assert logits.run(FORMATS["ggml"], tmp_path / "nothing", probe).startswith(found)


@pytest.mark.slow
def test_texts_of_the_longest_decoder_reach_the_process(tmp_path, make_toy):
    """Longer than an argument of a process can be; what is no model ends in one line."""
    dims = replace(make_toy(text_ctx=8).dims, n_text_ctx=1 << 14)
    found = logits.run(FORMATS["ggml"], tmp_path / "nothing.bin", logits.make_probe(dims))
    assert isinstance(found, str) and found.startswith("whisper.cpp does not run it (exit code")
