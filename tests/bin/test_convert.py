import json
from dataclasses import replace

import pytest
import torch
import whisper
from faster_whisper import WhisperModel
from whisper.model import ModelDimensions, Whisper

from espnet_dq.api.models import load, save
from espnet_dq.bin.convert import main
from espnet_dq.bin.export import main as export_main
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect, integers
from espnet_dq.formats.ct2 import read as ctranslate2
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.packed import read as packed
from espnet_dq.formats.registry import FORMATS, written
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.whisper.weights import ENCODER_POSITIONS, Weights
from tests import toys

TOY = ModelDimensions(80, 50, 64, 2, 1, 51865, 16, 64, 2, 1)


@pytest.fixture
def toy(tmp_path):
    """A toy checkpoint in float16, no two tensors alike."""
    torch.manual_seed(0)
    state = Whisper(TOY).state_dict()
    for name in state.keys() - {ENCODER_POSITIONS}:
        state[name].normal_(0, 0.1)
    save_pt(tmp_path / "toy.pt", Weights(TOY, state))
    return tmp_path / "toy.pt"


def convert(source, to, out, *more):
    assert main(["--from", str(source), "--to", to, "--out", str(out), *more]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("source", written())
def test_floats_go_from_any_format_to_any_other(toy, tmp_path, source):
    first = openai.load(toy)
    write(source, tmp_path / "source", first, {}, "float16")
    for form in {*written()} - {source}:
        last = detect.load(convert(tmp_path / "source", form, tmp_path / form))
        assert first.dims == last.dims
        for name, tensor in first.state.items():
            found = last.state[name]
            # ggml files hold vectors as float32.
            assert found.dtype == torch.float16 or form == "ggml", name
            assert bits(found) == bits(tensor), (form, name)


def bits(tensor):
    return tensor.float().numpy().tobytes()


def files(path):
    """Name -> content of a file, or of those in a folder."""
    found = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return {file.name.removeprefix(path.name): file.read_bytes() for file in found}


def assert_same(found, expected):
    """Integers and scales, bit for bit."""
    assert found.keys() == expected.keys()
    for name, q in expected.items():
        assert found[name].grid == q.grid, name
        assert torch.equal(found[name].integers, q.integers), name
        assert bits(found[name].scale) == bits(q.scale), name


def off_by_half(weights, grids):
    """On the grids, but not as rounding their values again would leave them: half as large."""
    quantized = quantize(weights.state, grids)
    return {name: replace(q, integers=q.integers // 2) for name, q in quantized.items()}


HOLDERS = [
    ("ct2", "ct2_int8"),
    ("ggml", "ggml_q8_0"),
    ("ggml", "ggml_q5_0"),
    ("ggml", "ggml_q4_0"),
    ("onnx", "onnx_int8"),
    ("onnx", "ggml_q8_0"),
    ("onnx", "ggml_q4_0"),
    ("transformers_js", "onnx_int8"),
    ("transformers_js", "ggml_q4_0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("form,grid", HOLDERS)
def test_integers_and_scales_are_kept(toy, tmp_path, form, grid):
    """Packed and back, the file is the very same; its values are those of the grid."""
    weights = openai.load(toy)
    bias = "decoder.ln.bias"  # a ggml file has it as float32: it must not lose bits either
    weights.state[bias] = weights.state[bias].float() + 1e-6
    quantized = off_by_half(weights, assign_grids(TOY, grid))
    source = tmp_path / "source"
    write(form, source, weights, quantized, "float16")
    stored = convert(source, "packed", tmp_path / "stored")
    assert_same(packed.read(stored).quantized, quantized)
    assert files(convert(stored, form, tmp_path / "back")) == files(source)
    assert files(convert(source, form, tmp_path / "again")) == files(source)
    values = openai.load(convert(source, "openai", tmp_path / "values.pt")).state
    for name, q in quantized.items():
        assert bits(values[name]) == bits(get_grid(grid).dequantize(q)), name


@pytest.mark.slow
@pytest.mark.parametrize("form,grid", HOLDERS)
def test_verify_finds_what_was_kept(toy, tmp_path, form, grid):
    against = ["--against", str(toy), "--grid", grid]
    source = convert(toy, form, tmp_path / "source", "--grid", grid)
    stored = convert(source, "packed", tmp_path / "stored")
    back = convert(stored, form, tmp_path / "back")
    assert verify([str(stored), *against]) == 0
    assert verify([str(back), *against]) == 0


@pytest.mark.slow
def test_files_that_compute_in_float16(toy, tmp_path, capsys):
    grid = ["--grid", "ggml_q4_0"]
    folder = convert(toy, "transformers_js", tmp_path / "js", *grid, "--half")
    assert (folder / "onnx/decoder_model_merged_q4f16.onnx").is_file()
    capsys.readouterr()
    assert verify([str(folder), "--against", str(toy), *grid]) == 0
    assert "logits in ONNX Runtime, in float16" in capsys.readouterr().out
    with pytest.raises(InputError, match="onnx has no files that compute in float16"):
        convert(toy, "onnx", tmp_path / "onnx", *grid, "--half")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.slow
def test_a_mixture_of_grids_is_kept_or_rounded_again(toy, tmp_path):
    weights, names = openai.load(toy), list(assign_grids(TOY, "ct2_int8"))
    grids = ["uniform4_g32", "uniform3_tensor", "uniform8", "ct2_int8", "ggml_q5_0"]
    table = {name: grids[i % 5] for i, name in enumerate(names) if "conv" not in name}
    quantized = off_by_half(weights, table)
    write("packed", tmp_path / "source", weights, quantized, "float16")
    kept = packed.read(convert(tmp_path / "source", "packed", tmp_path / "kept"))
    assert_same(kept.quantized, quantized)
    options = ["--grid", "uniform4"]
    rounded = packed.read(convert(tmp_path / "source", "packed", tmp_path / "out", *options))
    values = packed.load(tmp_path / "source").state
    assert_same(rounded.quantized, quantize(values, assign_grids(TOY, "uniform4")))


@pytest.mark.slow
def test_a_format_without_the_grid_is_the_users_choice(toy, tmp_path):
    source = convert(toy, "ggml", tmp_path / "q5.bin", "--grid", "ggml_q5_0")
    message = (
        r"q5\.bin: grid ggml_q5_0 does not fit ct2, which holds ct2_int8: "
        "to round its values again say --grid ct2_int8, for floats --grid none"
    )
    with pytest.raises(InputError, match=message):
        convert(source, "ct2", tmp_path / "ct2")
    assert not (tmp_path / "ct2").exists()
    mixed = convert(toy, "packed", tmp_path / "mixed", "--grid", "uniform4")
    with pytest.raises(InputError, match=r"--grid ggml_q8_0 or .* or ggml_q2_K, for floats"):
        convert(mixed, "ggml", tmp_path / "out.bin")

    values = ggml.load(source).state
    floats = ctranslate2.load(convert(source, "ct2", tmp_path / "floats", "--grid", "none")).state
    assert all(bits(floats[name]) == bits(tensor) for name, tensor in values.items())
    assert integers.load(tmp_path / "floats") == {}
    rounded = convert(source, "ct2", tmp_path / "rounded", "--grid", "ct2_int8")
    assert_same(integers.load(rounded), quantize(values, assign_grids(TOY, "ct2_int8")))


@pytest.mark.slow
def test_grid_reaches_both_formats_alike(toy, tmp_path):
    """The dequantized checkpoint and the int8 folder hold the same values, in float32."""
    folder = convert(toy, "ct2", tmp_path / "ct2", "--grid", "ct2_int8")
    checkpoint = convert(toy, "openai", tmp_path / "q.pt", "--grid", "ct2_int8")
    plain, ours, theirs = openai.load(toy), openai.load(checkpoint), ctranslate2.load(folder)
    on_grid = assign_grids(TOY, "ct2_int8")
    for name, tensor in plain.state.items():
        assert torch.equal(ours.state[name], theirs.state[name].float()), name
        expected = get_grid("ct2_int8").fake(tensor) if name in on_grid else tensor.float()
        assert torch.equal(ours.state[name], expected), name
    # Dequantized values are kept as they are on the way back, which takes float32.
    back = openai.load(convert(folder, "openai", tmp_path / "back.pt"))
    assert all(torch.equal(back.state[name], ours.state[name]) for name in on_grid)


def test_bad_input(toy, tmp_path):
    (tmp_path / "text").write_text("hello, this is no model")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(toy.read_bytes()[:100_000])
    for source in (tmp_path / "nothing", tmp_path / "text", cut, "openai:huge"):
        with pytest.raises(InputError) as caught:
            convert(source, "ct2", tmp_path / "out")
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is a folder, and a file"):
        convert(toy, "openai", tmp_path)
    with pytest.raises(InputError, match="a ct2 folder is to be written"):
        convert(toy, "ct2", tmp_path / "text")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"toy.pt", "text", "cut.pt"}


@pytest.mark.slow
def test_int8_tiny_runs_as_its_dequantized_checkpoint(weights_dir, clips, tmp_path):
    """Stock openai-whisper and faster-whisper say the same, each from its own file."""
    source = weights_dir / "tiny.pt"
    folder = convert(source, "ct2", tmp_path / "tiny", "--grid", "ct2_int8")
    checkpoint = convert(source, "openai", tmp_path / "tiny.pt", "--grid", "ct2_int8")
    assert bytes_on_disk(folder) <= 42_000_000
    heads = json.loads((folder / "config.json").read_text())["alignment_heads"]
    assert heads == [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]]

    torch_model = whisper.load_model(str(checkpoint), device="cpu")
    runtimes = [
        WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=1)
        for kind in ("float32", "int8")
    ]
    for path, language, _ in clips[:2]:
        audio = load_audio(path)
        options = {
            "language": language,
            "temperature": 0.0,
            "condition_on_previous_text": False,
            "without_timestamps": True,
        }
        ours = torch_model.transcribe(audio, fp16=False, **options)["text"].split()
        float32, int8 = (
            " ".join(s.text for s in runtime.transcribe(audio, beam_size=1, **options)[0]).split()
            for runtime in runtimes
        )
        assert ours == float32 and ours
        assert int8  # activations are rounded too, so a word may differ


@pytest.mark.parametrize("form", ["ct2", "ggml"])
def test_where_no_timestamps_are_set_is_said(form, save_toy, tmp_path, capsys):
    """Of two layers, by whisper.cpp alone; what the runtime does is asked in test_transcribe."""
    for layers in (1, 2):
        convert(save_toy(0, 32, layers), form, tmp_path / f"{layers}")
        told = "no timestamps of a model with two decoder layers" in capsys.readouterr().err
        assert told == (layers == 2 and form == "ggml")


@pytest.mark.slow
@pytest.mark.parametrize("form,runtime", [("ct2", "faster-whisper"), ("ggml", "whisper.cpp"),
                                          ("onnx", "sherpa-onnx"), ("openai", "openai-whisper"),
                                          ("hf", None), ("packed", None)])  # fmt: skip
def test_what_a_runtime_does_not_hear_is_said(form, runtime, toy, tmp_path, capsys, recwarn):
    """Of a window that is not 30 s, by all that write a model; of one of 30 s nothing is."""
    said = f"the model hears 1 s at a time: {runtime}"
    convert(toy, form, tmp_path / "converted")
    assert (said in capsys.readouterr().err) == (runtime is not None)
    save(load(toy), tmp_path / "saved", form)
    assert any(said in str(w.message) for w in recwarn) == (runtime is not None)
    exp = toys.save_training(tmp_path / "exp", toys.make_model(layers=1, audio_ctx=50), {})
    export = ["--exp", str(exp), "--to", form, "--out", str(tmp_path / "exported"), "--float"]
    assert export_main(export) == 0
    assert (said in capsys.readouterr().err) == (runtime is not None)
    assert not FORMATS[form].unheard(replace(TOY, n_audio_ctx=1500))
