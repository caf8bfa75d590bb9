"""Inputs are rounded as the runtimes round them, where they round them, and nowhere else."""

import ctranslate2
import gguf
import numpy as np
import pytest
import torch
from ctranslate2.specs import TransformerDecoderModelSpec
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from torch.nn.utils import parametrize
from whisper.model import Whisper
from whisper.tokenizer import get_tokenizer

from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError
from espnet_dq.formats import ctranslate2_writer, openai
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.activations import (
    int8_per_token,
    int8_static,
    prepare_activations,
    q8_0_blocks,
)
from espnet_dq.quant.calibrate import Recorder, save_ranges
from espnet_dq.quant.checkpoint import Student, quantize
from espnet_dq.quant.prepare import assign_grids, candidates, prepare
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits

WIDTH = 64


@pytest.fixture(scope="module")
def rows():
    """Rows (T, 64) of very different sizes, of zeros, and of values at and beside ties."""
    x = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(0))
    x = x * torch.logspace(-4, 4, 256)[:, None]
    x[0] = 0
    x[1:4] = 0
    x[1:4, 0] = 127
    x[1, 1:40] = torch.arange(39) - 19.5
    x[2, 1:40] = torch.nextafter(x[1, 1:40], torch.tensor(torch.inf))
    x[3, 1:40] = torch.nextafter(x[1, 1:40], torch.tensor(-torch.inf))
    return x


def by_ctranslate2(rows, path):
    """What CTranslate2's int8 projection by the identity says of rows.

    They reach it as the position encodings of a decoder whose one layer adds zeros.
    """
    length, width = rows.shape
    spec = TransformerDecoderModelSpec.from_config(1, 1, no_final_norm=True)
    decoder = spec.decoder
    decoder.scale_embeddings = decoder.start_from_zero_embedding = False
    decoder.embeddings.weight = np.zeros((width, width), np.float32)
    decoder.position_encodings.encodings = rows.numpy()
    decoder.projection.weight = np.eye(width, dtype=np.float32)
    attention, ffn = decoder.layer[0].self_attention, decoder.layer[0].ffn
    for norm in (attention.layer_norm, ffn.layer_norm):
        norm.gamma, norm.beta = np.ones(width, np.float32), np.zeros(width, np.float32)
    for linear, out in (
        (attention.linear[0], 3 * width),
        (attention.linear[1], width),
        (ffn.linear_0, width),
        (ffn.linear_1, width),
    ):
        linear.weight = np.zeros((out, width), np.float32)
        linear.bias = np.zeros(out, np.float32)
    spec.register_vocabulary(["<unk>", "<s>", "</s>", *(f"t{i}" for i in range(width - 3))])
    spec.validate()
    spec.optimize(quantization="int8")
    path.mkdir()
    spec.save(str(path))
    runtime = ctranslate2.Generator(
        str(path), device="cpu", compute_type="int8", intra_threads=1, inter_threads=1
    )
    return torch.from_numpy(np.array(runtime.forward_batch([["t0"] * length])))[0]


def test_int8_per_token_is_what_ctranslate2_computes(rows, tmp_path):
    """Bit for bit, ties included: its integer product by 127 is undone as it does it."""
    seen = by_ctranslate2(rows, tmp_path / "identity")
    top = rows.abs().amax(dim=1, keepdim=True)
    scale = torch.where(top == 0, 1.0, torch.full_like(top, 127.0) / top)
    integers = (int8_per_token(rows) * scale).round()
    assert integers.abs().max() == 127
    assert torch.equal(integers * 127 * scale.reciprocal() / 127, seen)
    assert torch.equal(int8_per_token(rows), integers * scale.reciprocal())


def test_q8_0_blocks_are_ggufs(rows):
    fp16 = rows[(rows.abs().amax(dim=1) < 1e3)]  # float16 holds the scales
    kind = gguf.GGMLQuantizationType.Q8_0
    seen = gguf.quants.dequantize(gguf.quants.quantize(fp16.numpy(), kind), kind)
    assert torch.equal(q8_0_blocks(fp16), torch.from_numpy(seen))
    deep = fp16[: len(fp16) // 2 * 2].reshape(2, -1, WIDTH)
    assert torch.equal(q8_0_blocks(deep).reshape(-1, WIDTH), q8_0_blocks(deep.reshape(-1, WIDTH)))


def test_int8_static_is_onnx_quantize_linear(rows):
    """Within the range; beyond it ONNX has one more negative value, and ours is clipped."""
    top = 3.0
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [np.float32(top) / np.float32(127)])
    zero = helper.make_tensor("z", TensorProto.INT8, [], [0])
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, WIDTH])],
        [scale, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = torch.cat([rows.clamp(-top, top), top / 127 * (torch.arange(64)[None] - 31.5)])
    (seen,) = InferenceSession(model.SerializeToString()).run(None, {"x": x.numpy()})
    assert torch.equal(int8_static(x, top), torch.from_numpy(seen))
    assert torch.equal(int8_static(rows, top).abs().max(), int8_static(torch.tensor(top), top))


def ours(model, mel, tokens):
    with parametrize.cached():
        hidden = decode_hidden(model.decoder, tokens, encode(model.encoder, mel))
        return output_logits(model.decoder, hidden)


@pytest.mark.parametrize("weight", ["encoder.blocks.1.attn.key", "decoder.blocks.0.mlp.2",
                                    "decoder.blocks.1.cross_attn.value"])  # fmt: skip
def test_a_layer_multiplies_what_the_grid_holds(weight, toy, heard):
    """Weights on and off a grid: only the former read rounded inputs."""
    model, _ = toy
    prepare_activations(model, [f"{weight}.weight"], "int8_per_token")
    layer, outputs = model.get_submodule(weight), {}
    given = []
    # Hooks run in the order of registration: the first saw what was there before.
    layer._forward_pre_hooks.move_to_end(
        layer.register_forward_pre_hook(lambda _, x: given.append(x[0])).id, last=False
    )
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, x, y, n=name: outputs.update({n: (x[0], y)}))
    with torch.no_grad():
        ours(model, *heard)
    for name, (x, y) in outputs.items():
        assert torch.equal(
            y, torch.nn.functional.linear(x, *model.get_submodule(name).parameters())
        )
        on_grid = torch.allclose(x, int8_per_token(x), rtol=1e-5, atol=0)
        assert on_grid == (name == weight), name
    assert torch.equal(outputs[weight][0], int8_per_token(given[0]))


def test_the_output_projection_in_both_forward_passes(toy, heard):
    model, _ = toy
    mel, tokens = heard
    with torch.no_grad():
        audio = encode(model.encoder, mel)
        hidden = decode_hidden(model.decoder, tokens, audio)
        expected = int8_per_token(hidden) @ model.decoder.token_embedding.weight.T
        prepare_activations(model, ["decoder.token_embedding.weight"], "int8_per_token")
        theirs = model.decoder(tokens, audio)
        assert torch.equal(output_logits(model.decoder, int8_per_token(hidden)), expected)
        assert torch.allclose(theirs, expected, atol=1e-5)
        assert torch.allclose(ours(model, mel, tokens), expected, atol=1e-5)
    assert not torch.allclose(output_logits(model.decoder, hidden), expected, atol=1e-4)


@pytest.mark.parametrize("activations", ["int8_per_token", "q8_0_blocks", "int8_static"])
def test_gradients_pass_straight_through(activations, tmp_path):
    """As if the grid were the identity, but not where a calibrated range clips."""
    root = torch.nn.ModuleDict({"layer": torch.nn.Linear(WIDTH, 3)})
    x = torch.randn(2, 5, WIDTH, requires_grad=True)
    inside, file = torch.ones_like(x), None
    if activations == "int8_static":
        file = tmp_path / "ranges.json"
        file.write_text('{"layers": {"layer": {"range": 1.0}}}')
        inside = (x.abs() <= 1).float()
    prepare_activations(root, ["layer.weight"], activations, file)
    root["layer"](x).sum().backward()
    expected = root["layer"].weight.sum(dim=0).expand(2, 5, WIDTH)
    assert torch.allclose(x.grad, expected * inside)


def test_every_weight_learns(toy, heard):
    model, grids = toy
    prepare(model, grids)
    prepare_activations(model, grids, "int8_per_token")
    ours(model, *heard).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_half_precision_keeps_its_type():
    layer = torch.nn.ModuleDict({"layer": torch.nn.Linear(WIDTH, 3)}).bfloat16()
    prepare_activations(layer, ["layer.weight"], "int8_per_token")
    assert layer["layer"](torch.randn(2, WIDTH).bfloat16()).dtype == torch.bfloat16


def test_state_dict_stays_plain_and_a_student_applies_them(make_toy, heard, tmp_path):
    plain = make_toy(seed=3)
    state = plain.state_dict()
    with Recorder(plain, candidates(plain.dims)) as recorder, torch.no_grad():
        ours(plain, *heard)
    save_ranges(tmp_path / "ranges.json", recorder, {"clips": 1})
    logits = {}
    for activations in ("none", "int8_per_token", "q8_0_blocks", "int8_static"):
        file = str(tmp_path / "ranges.json") if activations == "int8_static" else None
        student = Student(
            dims=plain.dims,
            state=state,
            grid="ct2_int8",
            preset="full",
            path=tmp_path,
            activations=activations,
            activation_ranges=file,
        )
        model = student.prepared()
        assert model.state_dict().keys() == state.keys()
        logits[activations] = ours(model, *heard)
    float_ = ours(plain, *heard)
    spread = float_.std()
    for activations, values in logits.items():
        assert (values - float_).std() < 0.2 * spread, activations
        assert activations == "none" or not torch.equal(values, logits["none"])


def test_options_that_do_not_fit_are_refused(toy, tmp_path):
    model, grids = toy
    with pytest.raises(InputError, match="unknown activations 'int4'"):
        prepare_activations(model, grids, "int4")
    for activations, ranges in (("int8_static", None), ("int8_per_token", "r"), ("none", "r")):
        with pytest.raises(InputError, match="activation_ranges"):
            prepare_activations(model, grids, activations, ranges)
    with pytest.raises(InputError, match="no linear layer"):
        prepare_activations(model, ["encoder.conv1.weight"], "int8_per_token")
    with pytest.raises(InputError, match=r"no such file"):
        prepare_activations(model, grids, "int8_static", tmp_path / "none.json")
    odd = torch.nn.ModuleDict({"layer": torch.nn.Linear(40, 3)})
    with pytest.raises(InputError, match=r"layer: .*40 is no multiple of 32"):
        prepare_activations(odd, ["layer.weight"], "q8_0_blocks")


def test_they_predict_ctranslate2_better_than_weights_alone(weights_dir, clips, tmp_path):
    """Real tiny and clips, teacher-forced, in its int8 runtime.

    Rounding amplifies the last bits of float sums, which no two programs share: features that
    differ by 2e-7 of their value move this runtime's own encoder output by 0.03 and its logits by
    0.3 (RMS). So the decoder is compared on the runtime's encoder output, and the encoder by
    itself.
    """
    weights = openai.load(weights_dir / "tiny.pt")
    state = {name: value.float() for name, value in weights.state.items()}
    grids = assign_grids(weights.dims, "ct2_int8")
    ctranslate2_writer.save(
        tmp_path / "ct2", weights, quantize(state, grids), float_dtype="float32"
    )
    runtime = ctranslate2.models.Whisper(
        str(tmp_path / "ct2"), device="cpu", compute_type="int8", intra_threads=1
    )
    tokenizer = get_tokenizer(multilingual=True)
    models = {}
    for activations in ("none", "int8_per_token"):
        models[activations] = Whisper(weights.dims).eval().requires_grad_(False)
        models[activations].load_state_dict(state)
        prepare(models[activations], grids)
        prepare_activations(models[activations], grids, activations)
    found = {(a, what): [] for a in models for what in ("encoder", "logits")}
    for path, language, text in clips:
        speech = torch.from_numpy(load_audio(path))[None]
        mel = log_mel(speech, torch.tensor([speech.shape[1]]), 80, 480000)
        audio = runtime.encode(ctranslate2.StorageView.from_array(mel.numpy()))
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        prompt[1] = tokenizer.to_language_token(language)
        tokens = prompt + tokenizer.encode(" " + text)
        # Tokens of the prompt are forced, and their logits returned like those of the others.
        (result,) = runtime.generate(
            audio, [tokens], beam_size=1, return_logits_vocab=True,
            suppress_blank=False, suppress_tokens=[],
        )  # fmt: skip
        seen = np.stack([np.array(x) for x in result.logits[0][: len(tokens) - 3]])
        seen, audio = torch.from_numpy(seen), torch.from_numpy(np.array(audio))
        for activations, model in models.items():
            with parametrize.cached():
                encoded = encode(model.encoder, mel)
                hidden = decode_hidden(model.decoder, torch.tensor([tokens]), audio)
                logits = output_logits(model.decoder, hidden)[0, 3:]
            for what, difference in (("encoder", encoded - audio), ("logits", logits - seen)):
                found[activations, what].append(float(difference.square().mean().sqrt()))
    for what in ("encoder", "logits"):
        alone, both = found["none", what], found["int8_per_token", what]
        assert np.mean(both) < 0.6 * np.mean(alone), found
        assert all(b < a for a, b in zip(alone, both, strict=True)), found


def test_training_with_them_predicts_ctranslate2_better(weights_dir, clips, tmp_path):
    """Real tiny after some steps on real clips, with and without: what its int8 encoder puts out.

    Only the encoder: in the decoder the runtime's own spread is as large as the difference.
    """
    weights = openai.load(weights_dir / "tiny.pt")
    tokenizer, batches, distance = get_tokenizer(multilingual=True), [], {}
    for path, language, text in clips[1:4]:
        speech = torch.from_numpy(load_audio(path))[None]
        mel = log_mel(speech, torch.tensor([speech.shape[1]]), 80, -(-speech.shape[1] // 320) * 320)
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        prompt[1] = tokenizer.to_language_token(language)
        batches.append((mel, torch.tensor([prompt + tokenizer.encode(" " + text)])))
    for activations in ("none", "int8_per_token"):
        model = Whisper(weights.dims)
        model.load_state_dict({name: value.float() for name, value in weights.state.items()})
        grids = assign_grids(weights.dims, "ct2_int8")
        prepare(model, grids)
        prepare_activations(model, grids, activations)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        for mel, tokens in batches:
            logits = ours(model, mel, tokens[:, :-1])
            torch.nn.functional.cross_entropy(logits[0, 3:], tokens[0, 4:]).backward()
            optimizer.step()
            optimizer.zero_grad()
        state = model.state_dict()
        assert not torch.equal(state["encoder.conv1.bias"], weights.state["encoder.conv1.bias"])
        folder = tmp_path / activations
        ctranslate2_writer.save(
            folder, Weights(weights.dims, state), quantize(state, grids), float_dtype="float32"
        )
        runtime = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", intra_threads=1
        )
        distance[activations] = []
        for mel, _ in batches:
            full = torch.nn.functional.pad(mel, (0, 3000 - mel.shape[2]))
            seen = runtime.encode(ctranslate2.StorageView.from_array(full.numpy()))
            with torch.no_grad(), parametrize.cached():
                difference = encode(model.encoder, full) - torch.from_numpy(np.array(seen))
            distance[activations].append(float(difference.square().mean().sqrt()))
    assert max(distance["int8_per_token"]) < 0.6 * min(distance["none"]), distance
