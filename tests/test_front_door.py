"""`import espnet_dq as dq`: what it offers."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ctranslate2
import gguf
import numpy as np
import pytest
import torch
import whisper
from whisper.normalizers import BasicTextNormalizer

import espnet_dq as dq
from espnet_dq.data.languages import whisper_code
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect
from espnet_dq.formats.registry import written
from espnet_dq.quant.prepare import candidates
from tests import toys

ROOT = Path(__file__).parents[1]
SMALL = {"state": 32, "text_ctx": 64, "audio_ctx": 100}
MEL = torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[50258, 50259, 50359, 440, 7]])


@pytest.fixture
def toy(save_toy, tmp_path, monkeypatch):
    """A toy's path, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return str(save_toy(**SMALL))


def steps(net, count: int = 2) -> None:
    """Train it on noise, as any loop would."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(count):
        optimizer.zero_grad()
        logits = net(MEL, TOKENS[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        optimizer.step()


def test_the_import_is_light_and_names_come_when_they_are_used():
    script = """
import sys
import espnet_dq as dq
heavy = {"torch", "numpy", "whisper", "ctranslate2", "yaml"} & set(sys.modules)
assert not heavy, heavy
assert not [name for name in sys.modules if name.startswith("espnet_dq.")]
assert set(dq.__all__) <= set(dir(dq)) and "load" not in vars(dq)
assert dq.DistillConfig().alpha and dq.DistillConfig is vars(dq)["DistillConfig"]
assert "torch" not in sys.modules
try:
    dq.lode
except AttributeError as e:
    assert "espnet_dq" in str(e) and "lode" in str(e)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_type_checkers_see_every_name():
    tree = ast.parse((ROOT / "espnet_dq/__init__.py").read_bytes())
    seen = {
        alias.asname: node.module
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in block.body
        for alias in node.names
    }
    assert seen.keys() == set(dq.__all__)
    for name, module in seen.items():
        value = getattr(dq, name)
        assert value.__module__ == module and value.__doc__, name


@pytest.mark.parametrize(
    "grid,name,form",
    [("ggml_q4_0", "q4.bin", "ggml"), ("ct2_int8", "folder", "ct2"),
     ("onnx_int8", "folder", "onnx"), ("uniform4_g16", "u4.safetensors", "packed")],
)  # fmt: skip
@pytest.mark.slow
def test_the_grid_says_the_format_and_nothing_differs(toy, grid, name, form):
    model = dq.load(toy)
    before = {name: tensor.clone() for name, tensor in model.weights.state.items()}
    small = dq.quantize(model, grid)
    path = dq.save(small, name)
    assert not model.grids and set(small.grids.values()) == {grid}
    assert all(torch.equal(model.weights.state[name], before[name]) for name in before)
    # Those that run in a runtime take seconds.
    others = ((toy, grid), (small, None), (small, "keep"), (path, "keep"))
    for against, asked in ((model, grid), *(others if form == "packed" else ())):
        report = dq.verify(path, against=against, grid=asked)
        assert report.check().mismatched == 0 and len(report.rows) > 50
    again = dq.load(path)
    assert again.grids == small.grids
    for key, q in small.quantized.items():
        assert torch.equal(again.quantized[key].integers, q.integers), key
    assert detect.detect(path) == form


@pytest.mark.slow
def test_q4_is_what_ggml_makes_of_it(toy):
    """Against gguf's own quantizer."""
    name = "decoder.blocks.0.mlp.0.weight"
    model = dq.load(toy)
    values = dq.load(dq.save(dq.quantize(model, "ggml_q4_0"), "q4.bin")).weights.state[name]
    kind = gguf.GGMLQuantizationType.Q4_0
    blocks = gguf.quants.quantize(model.weights.state[name].float().numpy(), kind)
    assert np.array_equal(values.numpy(), gguf.quants.dequantize(blocks, kind))


def test_verify_sees_a_changed_file(toy):
    small = dq.quantize(dq.load(toy), "uniform4")
    path = dq.save(small, "u4.safetensors")
    dq.verify(path, against=small).check()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = dq.verify(path, against=small)
    assert report.mismatched == 1
    with pytest.raises(WorkError, match=r"^u4\.safetensors: 1 values differ, the first in "):
        report.check()


@pytest.mark.slow
def test_an_experiment_is_a_model(make_toy, tmp_path):
    """As the recipe leaves it."""
    net = dq.prepare(make_toy(**SMALL), "uniform4")
    toys.save_training(tmp_path / "exp", net, {"grid": "uniform4"})
    model = dq.load(tmp_path / "exp")
    path = dq.save(model, tmp_path / "u4.safetensors")
    for against in (tmp_path / "exp", model, net):
        assert dq.verify(path, against=against).mismatched == 0


@pytest.mark.slow
def test_verify_sees_another_grid_and_other_floats(toy):
    model = dq.load(toy)
    path = dq.save(dq.quantize(model, "uniform4"), "u4.safetensors")
    assert dq.verify(path, against=model, grid="uniform4").mismatched == 0
    assert dq.verify(path, against=model, grid="uniform5").mismatched > 0
    assert dq.verify(path, against=model).mismatched > 0  # floats, as the model is
    model.weights.state["decoder.ln.bias"][3] += 1
    assert dq.verify(path, against=model, grid="uniform4").mismatched == 1


def test_several_grids_of_one_runtime_are_packed(toy):
    """whisper.cpp's file has one type for all matrices."""
    model = dq.quantize(toy, "ggml_q4_0")
    grids = {**model.grids, "decoder.token_embedding.weight": "ggml_q8_0"}
    floats = dict.fromkeys(candidates(model.dims), "none")
    path = dq.save(dq.quantize(toy, floats | grids), "mixed")
    assert detect.detect(path) == "packed" and dq.load(path).grids == grids


@pytest.mark.slow
def test_floats_go_by_the_name(toy):
    model = dq.load(toy)
    for name in ("copy.pt", "copy.safetensors"):
        state = dq.load(dq.save(model, name)).weights.state
        for key, tensor in model.weights.state.items():
            assert torch.equal(state[key].float(), tensor.float()), key
        dq.verify(name, against=model).check()
    assert whisper.load_model("copy.pt").dims == model.dims


def test_what_is_not_clear_is_one_line(toy):
    model = dq.load(toy)
    small = dq.quantize(model, "ct2_int8")
    for what, message in (
        (lambda: dq.save(model, "folder"), r"^folder: which format\? .* say to= one of ct2, "),
        (lambda: dq.save(small, "x.bin"), r"^x\.bin: which format\? .*says ggml, its grid ct2"),
        (lambda: dq.save(small, "x.bin", to="ggml"), "grid ct2_int8 does not fit ggml"),
        (lambda: dq.save(model, "x", to="gguf"), "unknown format 'gguf': known are ct2, "),
        (lambda: dq.save(model, toy), "is what is read: give another path"),
        (lambda: dq.quantize(model, "ct2_int9"), "unknown grid 'ct2_int9'"),
        (lambda: dq.load("openai:tini"), "openai:tini: known models are tiny"),
        (lambda: dq.load(str(Path(toy).parent)), "holds neither model.bin"),
        (lambda: dq.load("nothing.pt"), r"^nothing\.pt: no such file"),
        (lambda: dq.verify(toy, against=toy), "grid is missing"),
        (lambda: dq.prepare(torch.nn.Linear(2, 2), "ct2_int8"), "a Linear is no model of openai"),
        (lambda: dq.save(torch.nn.Linear(2, 2), "x"), "a Linear is no model of openai"),
        (lambda: dq.score(["a"], ["a"]), "language is missing"),
        (lambda: dq.score(["a"], ["a", "b"], language="en"), "1 references, but 2 hypotheses"),
        (lambda: dq.score(["?"], ["a"], language="en"), "no reference left to score"),
        (lambda: dq.score("ref", ["a"], language="en"), "two folders, or two lists"),
        (lambda: dq.score({"u": "a b"}, {"u": "x y"}, language="en"), "texts go in lists"),
        (lambda: dq.score(["a", None], ["a", "b"], language="en"), "ref: None, number 1, is no"),
        (lambda: dq.score(["a"], [float("nan")], language="en"), "hyp: nan, number 0, is no text"),
        (lambda: dq.score("hallo", "hallo", language="de"), "for texts, which go in lists"),
        (lambda: dq.transcribe("x.wav", dq.load(toy)), "a Model is neither a path nor a runtime"),
        (lambda: dq.transcribe("x.wav", toy, beam_size=0), "beam_size: 0 is not a whole number"),
        (lambda: dq.transcribe("x.wav", toy, threads=-1), "threads: -1 is not a whole number"),
        (lambda: dq.transcribe("x.wav", toy, channel=-1), "channel: -1 is not a whole number"),
        (lambda: dq.quantize(toy, "ct2_int8", data=".", clips="2"), "clips: '2' is not a whole"),
        (lambda: dq.transcribe("a.wav", model=toy, language="tlh"), "knows no such language"),
    ):
        with pytest.raises(InputError, match=message) as error:
            what()
        assert "\n" not in str(error.value)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "grid,options",
    [("ct2_int8", {"activations": "int8_per_token"}), ("ggml_q5_0", {}),
     ("ct2_int8", {"preset": "paper", "ranges": "lsq"}),
     ("uniform4_g16", {"ranges": "pact"})],
)  # fmt: skip
@pytest.mark.slow
def test_what_was_trained_is_what_is_written(make_toy, tmp_path, grid, options):
    net = make_toy(**SMALL)
    names = set(net.state_dict())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert dq.prepare(net, grid, **options) is net
    assert {name for name in net.state_dict() if not name.endswith("_range")} == names
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in names)
    steps(net)
    path = dq.save(net, tmp_path / "student", to="packed")
    report = dq.verify(path, against=net)
    assert report.mismatched == 0
    state = dq.load(path).weights.state
    layer = "decoder.blocks.1.mlp.2"
    seen = net.get_submodule(layer).weight.detach()
    assert torch.equal(state[f"{layer}.weight"].float(), seen)
    assert not torch.equal(seen, before[f"{layer}.weight"])
    encoder = dq.load(path).grids.get("encoder.blocks.0.mlp.0.weight")
    assert encoder == (None if options.get("preset") == "paper" else grid)
    steps(net, 1)
    assert dq.verify(path, against=net).mismatched > 0


@pytest.mark.slow
def test_ctranslate2_takes_what_was_trained(make_toy, tmp_path):
    net = make_toy(**SMALL)
    dq.prepare(net, "ct2_int8")
    steps(net)
    path = dq.save(net, tmp_path / "student")
    dq.verify(path, against=net).check()
    model = ctranslate2.models.Whisper(str(path), compute_type="int8")
    assert model.compute_type.startswith("int8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid,ranges,to", [("ct2_int8", "max", "ct2"), ("uniform4", "lsq", "packed")]
)
def test_transformers_trains_on_a_grid(toy, grid, ranges, to):
    transformers = pytest.importorskip("transformers")
    dq.save(dq.load(toy), "hf", to="hf")
    load = transformers.WhisperForConditionalGeneration.from_pretrained
    net = load("hf", dtype=torch.float32)
    names = set(net.state_dict())
    dq.prepare(net, grid, ranges=ranges)
    assert {name for name in net.state_dict() if not name.endswith("_range")} == names
    # The same values as openai-whisper's, prepared.
    other = dq.prepare(whisper.load_model(toy), grid, ranges=ranges)
    ours = net(input_features=MEL, decoder_input_ids=TOKENS).logits
    torch.testing.assert_close(ours, other(MEL, TOKENS), rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        net(input_features=MEL, labels=TOKENS).loss.backward()
        optimizer.step()
    path = dq.save(net, "student", to=to)
    dq.verify(path, against=net).check()
    seen = dict(dq.load(path).weights.state)["decoder.token_embedding.weight"]
    assert torch.equal(net.proj_out.weight, net.model.decoder.embed_tokens.weight)
    assert torch.equal(seen.float(), net.proj_out.weight.detach())
    assert set(dq.load(path).grids.values()) == {grid}
    with pytest.raises(InputError, match="bfloat16: load it in float32"):
        dq.prepare(load("hf", dtype=torch.bfloat16), grid)
    loose = load("hf", dtype=torch.float32)
    loose.proj_out.weight = torch.nn.Parameter(loose.proj_out.weight.clone())
    with pytest.raises(InputError, match="output projection is not tied"):
        dq.prepare(loose, grid)
    # A checkpoint is a plain one, and training goes on from it.
    net.save_pretrained("checkpoint")
    again = dq.prepare(load("checkpoint", dtype=torch.float32), grid)
    plain = dict(again.named_parameters())["model.encoder.conv1.parametrizations.weight.original"]
    assert torch.equal(plain, net.model.encoder.conv1.parametrizations.weight.original)


def test_a_net_is_prepared_once_or_not_at_all(make_toy):
    net = make_toy(**SMALL | {"state": 48})  # no multiple of 32
    with pytest.raises(InputError, match="is no multiple of 32"):
        dq.prepare(net, "ggml_q4_0")
    with pytest.raises(InputError, match="activation_ranges"):
        dq.prepare(net, "ct2_int8", activations="int8_static")
    with pytest.raises(InputError, match="do not fit rows of 48 values"):
        dq.prepare(net, "ct2_int8", activations="q8_0_blocks")
    with pytest.raises(InputError, match=r"a model in torch\.float16: load it in float32"):
        dq.prepare(net.half(), "ct2_int8")
    dq.prepare(net.float(), "ct2_int8")
    with pytest.raises(InputError, match="is on a grid already"):
        dq.prepare(net, "ct2_int8")


def test_a_student_of_short_windows_says_so(make_toy, tmp_path):
    net = dq.prepare(make_toy(**SMALL, layers=1), "uniform4")
    path = dq.save(net, tmp_path / "u4.safetensors")
    net.any_window = True
    with pytest.raises(WorkError, match="any_window is missing"):
        dq.verify(path, against=net)
    assert dq.load(dq.save(net, path)).weights.any_window
    dq.verify(path, against=net).check()
    net.any_window = "random"
    with pytest.raises(InputError, match="the model: any_window is 'random', neither true nor"):
        dq.save(net, path)


def test_a_vocabulary_that_nobody_knows_is_not_written(save_toy, trim, tmp_path):
    """`whisper.load_model` passes over the tokens of a trimmed model."""
    path = trim(save_toy(**SMALL, layers=1), ["hello"])
    net, model = whisper.load_model(str(path), device="cpu"), dq.load(path)
    plain = dq.Model(replace(model.weights, dims=net.dims))
    out, said = tmp_path / "out", f"no Whisper tokenizer has {net.dims.n_vocab} tokens"
    for what in (
        lambda: dq.prepare(net, "uniform4"), lambda: dq.verify(path, against=net),
        *(lambda to=to, m=m: dq.save(m, out, to=to) for to in written() for m in (net, plain)),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            what()
    assert not out.exists()
    net.dims = model.dims
    dq.verify(dq.save(dq.prepare(net, "uniform4"), out), against=net).check()
    assert dq.load(out).dims == model.dims


def test_the_wrong_kind_of_thing_is_one_line(toy, make_toy):
    net, model = make_toy(**SMALL), dq.load(toy)
    no_model = "neither a path nor the name of a model$"
    for what, message in (
        (lambda: dq.load(net), f"^a Whisper is {no_model}"),
        (lambda: dq.load(toy, base=net), "holds no adapter"),
        (lambda: dq.quantize(net, "ct2_int8"), f"^a Whisper is {no_model}"),
        (lambda: dq.quantize(None, "ct2_int8"), f"^None is {no_model}"),
        (lambda: dq.quantize(model, None), "^grid: None is not a grid's name or a table of grids$"),
        (lambda: dq.quantize(model, "ct2_int8", data=3), "^data: 3 is not a Kaldi folder$"),
        (lambda: dq.merge([net, net]), f"^a Whisper is {no_model}"),
        (lambda: dq.merge("openai:tiny"), "^sources: 'openai:tiny' is no list of models$"),
        (lambda: dq.merge(model), "^sources: a Model is no list of models$"),
        (lambda: dq.merge([]), "^sources: no models$"),
        (lambda: dq.merge([model] * 2, 0.5), r"^shares: 0\.5 is not a list of numbers$"),
        (lambda: dq.merge([model] * 2, ["1", 0]), "^shares: '1' is not a number$"),
        (lambda: dq.save(toy, "b.bin"), "^model: .* is not a model in memory: load it first$"),
        (lambda: dq.save(model, None), "^path: None is not a path$"),
        (lambda: dq.save(model, "x", to=net), "^format: a Whisper is not a name$"),
        (lambda: dq.verify(toy, against=None), "^against: None is neither a path nor a model$"),
        (lambda: dq.verify(model, against=toy), "^path: a Model is not a path$"),
        (lambda: dq.verify(toy, against=toy, grid=8), "^grid: 8 is not a grid's name"),
        (lambda: dq.prepare(model, "ct2_int8"), "^a Model is no model of openai-whisper, and"),
        (lambda: dq.prepare(toy, "ct2_int8"), "^a str is no model of openai-whisper, and"),
        (lambda: dq.prepare(net, "ct2_int8", ranges="gptq", data=3), "^data: 3 is not a Kaldi"),
        (lambda: dq.score(None, ["a"], language="en"), "^ref: None is not a folder or a list of"),
        (lambda: dq.score(["a"], ["a"], language=3), "^language: 3 is not a language's name$"),
        (lambda: dq.transcribe(None, toy), "^audio: None is not the path of an audio file$"),
        (lambda: dq.transcribe("a.wav", toy, prompt=3), "^prompt: 3 is not a text$"),
        (lambda: dq.transcribe("a.wav", toy, runtime=["torch"]), "^runtime: a list is not a name$"),
        (lambda: dq.distil(None, "d", toy, toy, "e"), "^train: None is not a path$"),
        (lambda: dq.distil("t", "d", net, toy, "e"), f"^a Whisper is {no_model}"),
        (lambda: dq.distil("t", "d", toy, toy, "e", train_config="x.yaml"), "^train_config: 'x"),
        (lambda: dq.distil("t", "d", toy, toy, "e", grid=None), "^grid: None is not a grid's"),
        (lambda: dq.distil("t", "d", toy, toy, "e", canary=["c"]), "^canary: a list is not a fol"),
        (lambda: dq.distil("t", "d", toy, toy, "e", seed="1"), "^seed: '1' is not a whole number"),
        (lambda: dq.Distiller(net, net), f"^a Whisper is {no_model}"),
        (lambda: dq.Distiller(net, model), f"^a Model is {no_model}"),
        (lambda: dq.Distiller(net, toy, {"alpha": 0.1}), "^config: a dict is not a DistillConfig$"),
        (lambda: dq.Distiller(net, toy, window="batch"), "^window: 'batch' is not a WindowConfig$"),
        (lambda: dq.Distiller(net, toy, augment={}), "^augment: a dict is not an? Aug"),
    ):
        with pytest.raises(InputError, match=message):
            what()
    assert not list(Path().iterdir())


def test_score_counts_words_and_letters():
    rates = dq.score(["guten Tag", "Hallo"], ["guten Abend", "hallo!"], language="German")
    assert rates["wer"] == {"de": pytest.approx(100 / 3), "mean": pytest.approx(100 / 3)}
    assert rates["counts"]["de"]["sub"] == 1 and rates["counts"]["de"]["utterances"] == 2
    assert BasicTextNormalizer()("hallo!").strip() == "hallo"
    assert rates["wer_openai"] == rates["wer"]
    again = dq.score(iter(["guten Tag", "Hallo"]), iter(["guten Abend", "hallo!"]), language="de")
    assert again == rates


@pytest.mark.parametrize(
    ("name", "ref", "hyp", "wer"),
    [("zh-CN", "你好世界", "你好世间", 25), ("Thai", "สวัสดีครับ", "สวัสดีคับ", None),
     ("Turkish", "ISPARTA", "ısparta", 0)],
)  # fmt: skip
def test_a_folders_languages_have_any_name(name, ref, hyp, wer, tmp_path):
    """As the same folder with Whisper's codes; one that Whisper does not know is named."""
    code, found = whisper_code(name), []
    for said in (name, code):
        for side, text in (("ref", ref), ("hyp", hyp)):
            folder = tmp_path / said / side
            folder.mkdir(parents=True)
            (folder / "text").write_text(f"u {text}\n")
            (folder / "utt2lang").write_text(f"u {said}\n")
        found.append(dq.score(tmp_path / said / "ref", tmp_path / said / "hyp"))
    assert found[0] == found[1] and (wer is None or found[0]["wer"][code] == wer)
    (tmp_path / code / "ref/utt2lang").write_text("u klingon\n")
    with pytest.raises(InputError, match=r"utt2lang: 'u': 'klingon': not a language of Whisper"):
        dq.score(tmp_path / code / "ref", tmp_path / code / "hyp")
