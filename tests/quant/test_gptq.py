"""Rounding by clips: against GPTQ's formula written out, and that outputs change less."""

import numpy as np
import pytest
import torch
import whisper
from torch import nn
from transformers import WhisperForConditionalGeneration

import espnet_dq as dq
from espnet_dq.bin.convert import main as convert
from espnet_dq.data.audio import save_wav
from espnet_dq.data.prompted import PromptedClips, RoundingClips
from espnet_dq.errors import InputError
from espnet_dq.formats.registry import padding_of
from espnet_dq.quant.calibrate import on_input
from espnet_dq.quant.gptq import _as_rounded, quantize, rounded, second_moments, start
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, candidates, prepare, start_ranges
from espnet_dq.whisper.weights import Weights

GRIDS = ["ct2_int8", "onnx_int8", "uniform3", "uniform4_tensor", "uniform3_g16", "ggml_q8_0",
         "ggml_q5_1", "ggml_q4_0", "ggml_q4_K", "ggml_q3_K"]  # fmt: skip


def inputs(columns: int, rows: int = 2000) -> torch.Tensor:
    """Some loud columns, and a few directions that hold most of all."""
    torch.manual_seed(3)
    mixed = torch.randn(rows, columns // 8) @ torch.randn(columns // 8, columns)
    return (torch.randn(rows, columns) + mixed) * torch.rand(columns).exp()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A Kaldi folder of two clips of noise with texts."""
    folder = tmp_path_factory.mktemp("speech")
    random = np.random.default_rng(0)
    tables = {"wav.scp": [], "text": [], "utt2lang": [], "utt2spk": []}
    for i in range(2):
        save_wav(folder / f"{i}.wav", random.normal(0, 0.1, 16000 * 2).astype(np.float32))
        for table, value in zip(
            tables, (folder / f"{i}.wav", "well said", "en", "who"), strict=True
        ):
            tables[table].append(f"who-{i} {value}\n")
    for table, lines in tables.items():
        (folder / table).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("name", GRIDS)
def test_outputs_change_less_than_with_the_nearest_values(name):
    grid, x = get_grid(name), inputs(256)
    weight = torch.randn(48, 256) / 16

    def change(values):
        return float((x @ (values - weight).T).square().mean())

    q, _ = rounded(weight, grid, x.T @ x, 0.01)
    nearest = grid.quantize(weight)
    assert q.grid == name and q.integers.shape == weight.shape
    assert (q.scale.shape, q.scale.dtype) == (nearest.scale.shape, nearest.scale.dtype)
    assert grid.bottom <= q.integers.min() and q.integers.max() <= grid.top
    assert change(grid.dequantize(q)) < 0.7 * change(grid.fake(weight))


@pytest.mark.parametrize("name", ["onnx_int8", "ggml_q4_1"])
def test_the_formula_written_out(name):
    """Optimal brain surgery, a column at a time, in float64 (arXiv 2210.17323, equation 2)."""
    grid, x = get_grid(name), inputs(96)
    weight = torch.randn(8, 96)
    moment, damping = x.T @ x, 0.05
    found, _ = rounded(weight, grid, moment, damping)

    hessian = moment.double().numpy()
    hessian = hessian + damping * np.diag(hessian).mean() * np.eye(96)
    inverse, w = np.linalg.inv(hessian), weight.double().numpy()
    wanted = np.zeros_like(w)
    for j in range(96):
        if j % grid.span(96) == 0:
            block = torch.from_numpy(w[:, j : j + grid.span(96)]).float()
            scale = grid.quantize(block).scale
        step, offset = (0 if t is None else t[:, 0].double().numpy() for t in grid.steps(scale))
        wanted[:, j] = np.clip(np.round((w[:, j] - offset) / step), grid.bottom, grid.top)
        error = (w[:, j] - (wanted[:, j] * step + offset)) / inverse[j, j]
        w = w - np.outer(error, inverse[j])
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    # In float32 an integer that lies at a half may be its neighbour, and what follows it, too.
    assert (found.integers.numpy() == wanted).all(axis=1).sum() >= 7


@pytest.mark.parametrize("name", ["onnx_int8", "ggml_q6_K"])
def test_inputs_that_do_not_correlate_leave_the_nearest_values(name):
    torch.manual_seed(0)
    grid, weight = get_grid(name), torch.randn(6, 256)
    for moment in (torch.eye(256) * 7, torch.zeros(256, 256)):
        found, nearest = rounded(weight, grid, moment, 0.1)[0], grid.quantize(weight)
        assert torch.equal(found.integers, nearest.integers)
        assert torch.equal(found.scale, nearest.scale)


@pytest.mark.parametrize("name", ["ct2_int8", "uniform3", "uniform4_tensor", "ggml_q4_0"])
def test_a_training_starts_with_these_integers(name, make_toy, speech):
    model = make_toy(layers=1, state=32, text_ctx=64)
    weights = Weights(model.dims, model.state_dict())
    grids = assign_grids(model.dims, name)
    clips = [*PromptedClips(speech, 2, model.dims, "full")]
    wanted, (floats, ranges) = quantize(weights, grids, clips), start(weights, grids, clips)
    grid, same, whole = get_grid(name), 0, 0
    for weight, q in wanted.items():
        assert not torch.equal(floats[weight], weights.state[weight])
        fake, found = grid.fake(floats[weight], ranges[weight]), grid.dequantize(q)
        same += int((fake - found).abs().lt(1e-6 + 1e-3 * found.abs()).sum())
        whole += found.numel()
    # Ties, and rows that nowhere reach their range's end.
    assert same > 0.995 * whole > 0
    with pytest.raises(InputError, match="onnx_int8 takes no learned range"):
        start(weights, dict.fromkeys(grids, "onnx_int8"), clips)


@pytest.mark.parametrize("name", ["ggml_q4_0", "ggml_q5_0", "uniform4"])
def test_a_start_has_the_sign_of_each_scale(name):
    """Of inputs that go together, whose rounding moves values far: to the other side of 0, too."""
    torch.manual_seed(0)
    x = torch.randn(500, 128) @ (torch.randn(128, 128) * torch.logspace(0, -2, 128)[:, None])
    grid = get_grid(name)
    q, values = rounded(torch.randn(200, 128), grid, x.T @ x, 0.1)
    floats, clips = _as_rounded(q, values)
    again = grid.quantize(floats, clips)
    assert torch.equal(again.scale.sign(), q.scale.sign())
    # Left are groups that fall short of their range's end, with no integer there.
    assert (again.integers != q.integers).float().mean() < 1e-3


def test_moments_tell_how_large_outputs_are(make_toy):
    """The sum of squares of W x over all x is the trace of W M WT: of every kind of layer."""
    torch.manual_seed(0)
    model = make_toy()
    names = candidates(model.dims)
    clips = [(torch.randn(1, 80, 200), torch.tensor([[1, 2, 3, 4]])) for _ in range(2)]
    squares = dict.fromkeys(names, 0.0)

    def add(name, output, bias):
        plain = output if bias is None else output - bias
        squares[name] += float(plain.double().square().sum())

    hooks, embedding = [], "decoder.token_embedding"
    for name in names:
        layer = model.get_submodule(name.removesuffix(".weight"))
        if isinstance(layer, nn.Embedding):

            def head(x, weight=layer.weight):
                add(f"{embedding}.weight", x @ weight.T, None)
                return x

            hooks.append(on_input(model, embedding, head))
        else:
            bias = layer.bias
            if bias is not None and isinstance(layer, nn.Conv1d):
                bias = bias[:, None]
            hooks.append(layer.register_forward_hook(lambda _, x, y, n=name, b=bias: add(n, y, b)))
    moments = second_moments(model, names, clips)
    for hook in hooks:
        hook.remove()
    for name in names:
        matrix = model.get_parameter(name).detach().double().flatten(1)
        trace = float(((matrix @ moments[name].double()) * matrix).sum())
        assert trace == pytest.approx(squares[name], rel=1e-3), name


def test_from_the_command_to_the_file(save_toy, speech, tmp_path, capsys):
    source, packed = save_toy(state=32, text_ctx=64), tmp_path / "q4.safetensors"
    options = ["--from", str(source), "--grid", "ggml_q4_0", "--data", str(speech), "--clips", "2"]
    assert convert([*options, "--to", "packed", "--out", str(packed)]) == 0
    model = dq.load(source)
    written, nearest = dq.load(packed).quantized, dq.quantize(model, "ggml_q4_0").quantized
    grids = {name: q.grid for name, q in written.items()}
    wanted = quantize(model.weights, grids, RoundingClips(speech, 2, model.dims, "silence"))
    for name, q in written.items():
        assert torch.equal(q.integers, wanted[name].integers)
        assert torch.equal(q.scale, wanted[name].scale)
    assert any(not torch.equal(q.integers, nearest[name].integers) for name, q in written.items())
    # The same integers in another format, as of any model on a grid.
    dq.save(dq.load(packed), tmp_path / "q4.bin", to="ggml")
    dq.verify(tmp_path / "q4.bin", against=packed, grid="keep").check()
    assert dq.verify(tmp_path / "q4.bin", against=source, grid="ggml_q4_0").mismatched
    capsys.readouterr()


def test_windows_without_speech_are_among_the_clips(make_toy, speech):
    dims = make_toy().dims
    clips = RoundingClips(speech, 2, dims, padding_of(assign_grids(dims, "ggml_q4_0")))
    # whisper.cpp fills windows with silence
    found, spoken = [*clips], [*PromptedClips(speech, 2, dims, "full", "silence")]
    assert len(clips) == len(found) == 6
    for (mel, tokens), (wanted, said) in zip(found, spoken, strict=False):
        assert torch.equal(mel, wanted) and torch.equal(tokens, said)
    prompt = spoken[0][1][:, :4]
    assert all(torch.equal(tokens, prompt) for _, tokens in found[2:])
    mels = [mel for mel, _ in found[2:]]
    assert all(mel.shape == spoken[0][0].shape and mel.isfinite().all() for mel in mels)
    assert len({float(mel.mean()) for mel in mels}) == 4


@pytest.mark.parametrize("kind", ["openai", "transformers"])
def test_in_any_training_loop(kind, save_toy, speech, tmp_path):
    source = save_toy(state=32, text_ctx=64)
    if kind == "openai":
        net = whisper.load_model(str(source), "cpu")
    else:
        dq.save(dq.load(source), tmp_path / "hf", to="hf")
        net = WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf")
    dq.prepare(net, "ggml_q4_0", ranges="gptq", data=speech, clips=2)
    dq.save(net, tmp_path / "q4.bin")
    dq.verify(tmp_path / "q4.bin", against=net).check()
    found, weights, grid = dq.load(tmp_path / "q4.bin"), dq.load(source).weights, "ggml_q4_0"
    grids = assign_grids(weights.dims, grid)
    floats, ranges = start(weights, grids, RoundingClips(speech, 2, weights.dims, "silence"))
    for name, q in found.quantized.items():
        wanted = get_grid(grid).quantize(floats[name], ranges[name])
        assert torch.equal(q.integers, wanted.integers) and torch.equal(q.scale, wanted.scale)


def test_what_is_refused(save_toy, make_toy, speech, tmp_path):
    out = tmp_path / "out.safetensors"
    for grid in ("keep", "none"):
        with pytest.raises(InputError, match=f"grid {grid} rounds nothing"):
            convert(["--from", str(save_toy(state=32, layers=1)), "--to", "packed", "--grid", grid,
                     "--data", str(speech), "--out", str(out)])  # fmt: skip
    with pytest.raises(InputError, match="clips: 0 is not a whole number of 1 or more"):
        dq.quantize(dq.load(save_toy(state=32, layers=1)), "ggml_q4_0", speech, 0)
    with pytest.raises(InputError, match=r"conv1.weight: .* 240 is no multiple of 32"):
        dq.quantize(dq.load(save_toy(state=32, layers=1)), "uniform4_g32", speech, 2)
    with pytest.raises(InputError, match="grid ggml_q4_0 does not fit ct2"):  # before the work
        convert(["--from", str(save_toy(state=32, layers=1)), "--to", "ct2", "--grid", "ggml_q4_0",
                 "--data", str(tmp_path), "--out", str(tmp_path / "ct2")])  # fmt: skip
    with pytest.raises(InputError, match="--clips goes with --data"):
        convert(
            [
                "--from",
                str(save_toy(state=32, layers=1)),
                "--to",
                "packed",
                "--clips",
                "3",
                "--out",
                str(out),
            ]
        )
    empty = tmp_path / "empty"
    empty.mkdir()
    for table in ("wav.scp", "text", "utt2lang", "utt2spk"):
        (empty / table).write_text("")
    with pytest.raises(InputError, match="empty: no utterances"):
        dq.quantize(dq.load(save_toy(state=32, layers=1)), "ggml_q4_0", empty)
    loud = make_toy(state=32, layers=1)
    loud.encoder.ln_post.weight.data.fill_(1e25)
    grids = assign_grids(loud.dims, "ggml_q4_0")
    clips = [*PromptedClips(speech, 1, loud.dims, "full")]
    with pytest.raises(InputError, match="what it reads on the clips is not finite"):
        quantize(Weights(loud.dims, loud.state_dict()), grids, clips)
    for ranges, data in (("gptq", None), ("max", speech)):
        with pytest.raises(InputError, match=f"ranges {ranges}: data names the clips"):
            dq.prepare(make_toy(state=32, layers=1), "ggml_q4_0", ranges=ranges, data=data)
    net = make_toy(state=32, layers=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    (tmp_path / "ranges.json").write_text("{}")
    with pytest.raises(InputError, match="not a file of activation ranges"):
        more = {"activations": "int8_static", "activation_ranges": tmp_path / "ranges.json"}
        dq.prepare(net, "ggml_q4_0", ranges="gptq", data=speech, clips=1, **more)
    state = net.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in before.items())
    prepare(net, assign_grids(net.dims, "ct2_int8"), "gptq")
    with pytest.raises(InputError, match="ranges gptq start where rounding by clips leaves them"):
        start_ranges(net, state, "")
    assert not out.exists()
