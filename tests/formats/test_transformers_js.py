"""Folders for transformers.js: run by ONNX Runtime and Node, read back, compared bit by bit."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import whisper

import espnet_dq as dq
from espnet_dq.api.models import convert
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect, integers, transformers_js
from espnet_dq.formats.onnx.rounding import as_onnx_runtime
from espnet_dq.formats.report import Reference
from espnet_dq.formats.transformers_js import TransformersJs, write
from espnet_dq.formats.transformers_js.graph import cache, caches
from espnet_dq.formats.transformers_js.read import load, read
from espnet_dq.formats.transformers_js.verify import compare
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, candidates, quantize
from espnet_dq.runtimes.onnx import Model
from tests.formats.test_onnx_writer import SHAPES, flip, openais, random_weights
from tests.spread import rms

GRIDS = (None, "onnx_int8", "ggml_q8_0", "ggml_q4_0")
LINEAR = "decoder.blocks.0.mlp.0.weight"


def on_grid(weights, grid):
    """(integers and scales, the values that they stand for)."""
    quantized = quantize(weights.state, assign_grids(weights.dims, grid)) if grid else {}
    values = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
    return quantized, weights.state | values


def make(folder, grid, half=False):
    """(folder, what it should hold)."""
    toy = random_weights(SHAPES["15s"])
    quantized, values = on_grid(toy, grid)
    write.save(folder, toy, quantized, half=half)
    scales = {name: q.scale for name, q in quantized.items()}
    grids = dict.fromkeys(scales, grid)
    return folder, Reference(toy.dims, values, grids, scales, toy.state)


@pytest.fixture(params=GRIDS)
def made(request, tmp_path):
    """Of each grid, what `make` returns."""
    return make(tmp_path / "toy", request.param)


@pytest.fixture
def made_once(tmp_path):
    """What `make` returns of one, for what is beside the weights."""
    return make(tmp_path / "toy", "ggml_q4_0")


def change(folder, side, edit, half=False):
    """Edit one model of a folder in place."""
    path = transformers_js.files(folder, half)[side]
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())


def steps(folder, dims, mel, tokens, sizes, half=False):
    """Logits of tokens taken in steps, the cache of one given to the next."""
    encoder, decoder = (
        onnxruntime.InferenceSession(file) for file in transformers_js.files(folder, half).values()
    )
    (heard,) = encoder.run(None, {"input_features": mel.numpy()})
    shape = len(tokens), dims.n_text_head, 0, dims.n_text_state // dims.n_text_head
    past = {cache(*each): np.zeros(shape, np.float32) for each in caches(dims)}
    found = []
    for i, part in enumerate(torch.split(tokens, sizes, dim=1)):
        inputs = {"input_ids": part.numpy(), "encoder_hidden_states": heard}
        logits, *present = decoder.run(
            None, {**inputs, "use_cache_branch": np.array([i > 0]), **past}
        )
        # Those of cross attention are given once, then they are empty.
        empty = {each for each, array in zip(caches(dims), present, strict=True) if not array.size}
        assert empty == {each for each in caches(dims) if i and each[1] == "encoder"}
        past |= {
            cache(*each): array
            for each, array in zip(caches(dims), present, strict=True)
            if each not in empty
        }
        found.append(logits)
        assert past[cache(0, "decoder", "key")].shape[2] == sum(sizes[: i + 1])
        assert past[cache(0, "encoder", "value")].shape[2] == dims.n_audio_ctx
    return torch.from_numpy(np.concatenate(found, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", SHAPES)
def test_logits_are_openai_whispers(kind, grid, tmp_path):
    # A window of whole seconds, which preprocessor_config.json can name.
    dims = replace(SHAPES[kind], n_audio_ctx=50)
    weights = random_weights(dims)
    quantized, state = on_grid(weights, grid)
    write.save(tmp_path / "toy", weights, quantized)
    for file in transformers_js.files(tmp_path / "toy").values():
        onnx.checker.check_model(file, full_check=True)
    random = torch.Generator().manual_seed(1)
    mel = torch.randn(2, dims.n_mels, 2 * dims.n_audio_ctx, generator=random)
    tokens = torch.randint(dims.n_vocab, (2, 9), generator=random)
    model = openais(dims, state)
    expected = model(mel, tokens)
    assert expected.std() > 0.1
    for sizes in ([9], [4, 1, 3, 1]):
        found = steps(tmp_path / "toy", dims, mel, tokens, sizes)
        if grid not in ("ggml_q8_0", "onnx_int8"):
            assert (found - expected).abs().max() < 1e-4
            continue
        # Its products round what they multiply by, too: noise of the size that our model of it has.
        with as_onnx_runtime(model, read(tmp_path / "toy")[2]):
            noise = rms(model(mel, tokens) - expected)
        assert noise / 2 < rms(found - expected) < 2 * noise


@pytest.mark.slow
def test_nothing_differs_and_it_comes_back(made):
    folder, reference = made
    assert detect.detect(folder) == "transformers_js"
    assert compare(folder, reference).mismatched == 0
    back = load(folder)
    assert back.dims == reference.dims
    for name, tensor in reference.weights.items():
        assert torch.equal(back.state[name].float(), tensor), name
    found = integers.load(folder)
    assert {name: q.grid for name, q in found.items()} == reference.grids


def test_names_say_the_grid(made):
    folder, reference = made
    end = {None: "", "onnx_int8": "_int8", "ggml_q8_0": "_quantized", "ggml_q4_0": "_q4"}
    suffix = end[next(iter(reference.grids.values()), None)]
    assert {p.name for p in (folder / "onnx").iterdir()} == {
        f"encoder_model{suffix}.onnx",
        f"decoder_model_merged{suffix}.onnx",
    }
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json",
        "tokenizer_config.json", "onnx",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS[1:])
def test_one_set_of_integers(grid, tmp_path):
    """From the ONNX folder to this one and back, no byte of either graph changes."""
    toy = random_weights(SHAPES["15s"])
    write.save(tmp_path / "direct", toy, on_grid(toy, grid)[0])
    convert(tmp_path / "direct", tmp_path / "onnx", "onnx")
    convert(tmp_path / "onnx", tmp_path / "again", "transformers_js")
    for one, other in zip(
        transformers_js.files(tmp_path / "direct").values(),
        transformers_js.files(tmp_path / "again").values(),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_one_changed_bit_is_found(side, made):
    folder, reference = made
    name = f"{side}.blocks.0.mlp.0.weight"
    change(folder, side, flip(name, 40))
    rows = {row.name: row for row in compare(folder, reference).rows}
    assert rows.pop(name).integers >= 1
    assert not any(row.integers + row.scales for row in rows.values())


def swap_branches(model):
    (node,) = [node for node in model.graph.node if node.op_type == "If"]
    for attribute in node.attribute:
        attribute.name = {"then_branch": "else_branch"}.get(attribute.name, "then_branch")


def swap_in_the_branch(model):
    (node,) = [node for node in model.graph.node if node.op_type == "If"]
    (made,) = [a.g for a in node.attribute if a.name == "else_branch"]
    one, other = made.output[0].name, made.output[1].name
    for each in made.node:
        for i, name in enumerate(each.output):
            each.output[i] = {one: other, other: one}.get(name, name)


@pytest.mark.slow
@pytest.mark.parametrize("edit", [swap_branches, swap_in_the_branch])
def test_a_wrong_graph_is_found(edit, made):
    folder, reference = made
    change(folder, "decoder", edit)
    rows = {row.name: row for row in compare(folder, reference).rows}
    assert rows["decoder graph"].integers


@pytest.mark.slow
@pytest.mark.parametrize(
    "file,key,value",
    [
        ("preprocessor_config.json", "n_samples", 480_000),
        ("preprocessor_config.json", "nb_max_frames", 3000),
        ("generation_config.json", "decoder_start_token_id", 50257),
        ("config.json", "eos_token_id", 50256),
        ("tokenizer_config.json", "add_prefix_space", True),
    ],
)
def test_a_changed_setting_is_found(file, key, value, made_once):
    folder, reference = made_once
    content = json.loads((folder / file).read_text())
    assert content[key] != value
    (folder / file).write_text(json.dumps(content | {key: value}))
    rows = [row.name for row in compare(folder, reference).rows if row.integers]
    assert file in rows


@pytest.mark.slow
def test_files_that_nobody_asked_for(made_once):
    folder, reference = made_once
    (folder / "onnx/more.bin").touch()
    assert [r.name for r in compare(folder, reference).rows if r.integers] == ["onnx"]
    encoder = transformers_js.files(folder)["encoder"]
    shutil.copy(encoder, encoder.with_name("encoder_model_q4.onnx" if "q4" not in encoder.name
                                           else "encoder_model.onnx"))  # fmt: skip
    with pytest.raises(InputError, match=f"{folder}/onnx: one encoder is needed, and there is enc"):
        load(folder)


@pytest.mark.slow
def test_a_name_of_another_grid_is_found(made):
    folder, reference = made
    if not reference.grids:
        return
    for file in transformers_js.files(folder).values():
        file.rename(file.with_name(re.sub(r"_(int8|quantized|q4)\.", ".", file.name)))
    assert [r.name for r in compare(folder, reference).rows if r.integers] == ["onnx"]


def test_another_whisper_is_told(made):
    folder, reference = made
    with pytest.raises(WorkError, match=r"holds .* expected"):
        compare(folder, replace(reference, dims=SHAPES["multilingual"]))


@pytest.fixture(scope="module")
def tiny(weights_dir, tmp_path_factory):
    """What is on a grid -> folder of the real tiny, with float16 where that has a name."""
    model, folder = dq.load(weights_dir / "tiny.pt"), tmp_path_factory.mktemp("js")
    decoder = dict.fromkeys(candidates(model.dims), "none")
    decoder |= assign_grids(model.dims, "ggml_q4_0", "paper")
    grids = {"ggml_q4_0": "ggml_q4_0", "ggml_q8_0": "ggml_q8_0", "decoder": decoder}
    found = {name: dq.quantize(model, grid) for name, grid in grids.items()} | {"none": model}
    for name, each in found.items():
        dq.save(each, folder / name, "transformers_js", half=name != "ggml_q8_0")
    return {name: folder / name for name in found}


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["ggml_q4_0", "ggml_q8_0"])
def test_the_real_tiny(grid, tiny, clips):
    """Texts of ONNX Runtime and of openai-whisper with the same values, greedy and with beams."""
    weights = load(tiny[grid])
    model = openais(weights.dims, {k: v.float() for k, v in weights.state.items()})
    runtime = Model(tiny[grid], 1)
    for (path, language, _), beams in zip(clips[1:4], (None, 3, None), strict=True):
        mel = whisper.pad_or_trim(whisper.log_mel_spectrogram(load_audio(path)), 3000)
        options = whisper.DecodingOptions(
            language=language, fp16=False, without_timestamps=True, beam_size=beams
        )
        assert whisper.decode(runtime, mel, options).text == model.decode(mel, options).text


SCRIPT = """
import { env, pipeline } from "@huggingface/transformers";
import fs from "fs";
env.allowRemoteModels = false;
env.localModelPath = "";
const [, , folder, asked, clips] = process.argv;
const dtype = JSON.parse(asked);
const session_options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
const options = { dtype, session_options };
const model = await pipeline("automatic-speech-recognition", folder, options);
for (const [file, language] of JSON.parse(clips)) {
  const bytes = Uint8Array.from(fs.readFileSync(file)); // a buffer of its own
  const samples = new Float32Array(bytes.buffer);
  console.log(JSON.stringify((await model(samples, { language, task: "transcribe" })).text));
}
"""
TRANSFORMERS_JS = "4.3.2"


@pytest.fixture(scope="module")
def node(weights_dir, tmp_path_factory):
    """A folder in which Node finds transformers.js; skips without Node."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund",
               f"@huggingface/transformers@{TRANSFORMERS_JS}"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm gives no transformers.js: {done.stderr.strip().splitlines()[-1:]}")
    (folder / "run.mjs").write_text(SCRIPT)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid,dtype",
    [("ggml_q4_0", "q4"), ("ggml_q8_0", "q8"), ("ggml_q4_0", "q4f16"), ("none", "fp16"),
     ("decoder", {"encoder_model": "fp16", "decoder_model_merged": "q4"})],
)  # fmt: skip
def test_transformers_js_says_the_same(grid, dtype, tiny, clips, node, tmp_path):
    """Texts of transformers.js in Node and of what computes in float32 here are equal."""
    asked = []
    for path, language, _ in clips[1:4]:
        samples = tmp_path / f"{path.stem}.f32"
        load_audio(path).astype("<f4").tofile(samples)
        asked.append((str(samples), language))
    done = subprocess.run(
        ["node", "run.mjs", str(tiny[grid]), json.dumps(dtype), json.dumps(asked)],
        cwd=node, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    found = [json.loads(line).strip() for line in done.stdout.splitlines() if line[:1] == '"']
    runtime = Model(tiny[grid], 1)
    expected = []
    for path, language, _ in clips[1:4]:
        # Silence follows the clip, where faster-whisper pads the features.
        mel = whisper.log_mel_spectrogram(load_audio(path), padding=whisper.audio.N_SAMPLES)
        mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES)
        options = whisper.DecodingOptions(language=language, fp16=False, without_timestamps=True)
        expected.append(whisper.decode(runtime, mel, options).text.strip())
    different = sum(one != other for one, other in zip(found, expected, strict=True))
    # Two versions of ONNX Runtime may round what they multiply by apart, where products round it.
    assert different <= (1 if grid == "ggml_q8_0" else 0), (found, expected)


@pytest.mark.slow
def test_the_cards_code_hears_long_audio(node, tmp_path):
    """40 s, in a window of 15: transformers.js warns where it leaves out the rest."""
    folder, _ = make(tmp_path / "toy", "onnx_int8")
    code = TransformersJs.card.usage.replace("PATH", str(folder)).replace("DTYPE", '"int8"')
    script = "const samples = new Float32Array(40 * 16000);\n" + code.replace("LANGUAGE", "en")
    for window, cut in (("15", False), ("0", True)):
        (node / "card.mjs").write_text(script.replace("WINDOW", window))
        done = subprocess.run(
            ["node", "card.mjs"], cwd=node, capture_output=True, text=True, timeout=300
        )
        assert not done.returncode, done.stderr[-2000:]
        assert ("longer than" in done.stderr) is cut
