"""Hugging Face folders: ours in transformers, its own and bad ones in our loader."""

import json
import shutil

import pytest
import torch
import whisper
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from whisper.decoding import DecodingOptions, DecodingTask
from whisper.model import ModelDimensions, Whisper, sinusoids

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect, hf
from espnet_dq.formats.hf.write import save as save_hf
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.report import NO_TENSORS
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes
from espnet_dq.whisper.weights import Weights
from tests.formats.test_tokenizer_json import TEXTS
from tests.spread import bound

SHAPES = {  # positions for 2 s; turbo's proportions are 128 mels and fewer decoder layers
    "multilingual": ModelDimensions(80, 100, 64, 2, 2, 51865, 16, 64, 2, 3),
    "turbo": ModelDimensions(128, 100, 64, 4, 3, 51866, 16, 64, 2, 1),
    "english": ModelDimensions(80, 100, 64, 2, 2, 51864, 16, 64, 2, 2),
}
WEIGHT = "model.decoder.layers.0.fc1.weight"
EMBEDDING = "model.decoder.embed_tokens.weight"


def random_weights(dims):
    """float16 values, no two tensors alike."""
    random = torch.Generator().manual_seed(3)
    shapes = weight_shapes(dims).items()
    state = {name: (0.1 * torch.randn(shape, generator=random)).half() for name, shape in shapes}
    positions = sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    return Weights(dims, state | {"encoder.positional_embedding": positions.half()})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Shape -> (weights, the folder they were saved to)."""
    made = {}
    for shape, dims in SHAPES.items():
        folder = tmp_path_factory.mktemp("hf") / shape
        made[shape] = random_weights(dims), folder
        save_hf(folder, made[shape][0], {})
    return made


@pytest.fixture
def copied(folders, tmp_path):
    """A copy of the English-only folder, to be damaged."""
    return shutil.copytree(folders["english"][1], tmp_path / "copy")


def load_stock(folder):
    """transformers' model, in float32; nothing may be missing or left over."""
    model, found = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    assert not any(found.values()), found
    return model.eval()


def openais(weights):
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    return model.eval().float()


def logits_of_both(weights, folder, mel, tokens):
    with torch.no_grad():
        theirs = load_stock(folder)(input_features=mel, decoder_input_ids=tokens).logits
        return openais(weights)(mel, tokens), theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_stock_transformers_computes_openais_logits(folders, shape):
    weights, folder = folders[shape]
    mel = torch.randn(2, weights.dims.n_mels, 200, generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(0, 50000, (2, 9), generator=torch.Generator().manual_seed(2))
    ours, theirs = logits_of_both(weights, folder, mel, tokens)
    assert ours.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-4


def test_logits_of_tiny_on_speech(weights_dir, clips, tmp_path):
    weights = openai.load(weights_dir / "tiny.pt")
    save_hf(tmp_path / "tiny", weights, {})
    path, _, text = next(clip for clip in clips if clip[1] == "ru")
    mel = whisper.log_mel_spectrogram(load_audio(path), padding=whisper.audio.N_SAMPLES)
    mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES)[None]
    tokenizer = whisper.tokenizer.get_tokenizer(True, language="ru")
    prompt = tokenizer.sot_sequence_including_notimestamps
    tokens = torch.tensor([[*prompt, *tokenizer.encode(f" {text}")]])
    ours, theirs = logits_of_both(weights, tmp_path / "tiny", mel, tokens)
    assert (ours - theirs).abs().max() <= bound(openais(weights), mel, tokens)


@pytest.mark.parametrize("shape", SHAPES)
def test_generates_with_openais_prompt_and_suppression(folders, shape):
    weights, folder = folders[shape]
    model, processor = load_stock(folder), WhisperProcessor.from_pretrained(folder)
    task = DecodingTask(Whisper(weights.dims), DecodingOptions(without_timestamps=True))
    settings, tokenizer = model.generation_config, task.tokenizer
    assert settings.suppress_tokens == list(task._get_suppress_tokens())
    assert settings.begin_suppress_tokens == [*tokenizer.encode(" "), tokenizer.eot]
    assert settings.eos_token_id == tokenizer.eot
    assert settings.no_timestamps_token_id + 1 == tokenizer.timestamp_begin
    assert settings.prev_sot_token_id == tokenizer.sot_prev
    prompt, options = [tokenizer.sot, tokenizer.no_timestamps], {}
    if shape == "english":
        assert list(task.initial_tokens) == prompt
    else:
        numbers = tokenizer.all_language_tokens
        assert settings.lang_to_id == {tokenizer.decode([number]): number for number in numbers}
        options = {"language": "cs", "task": "translate"}
        prompt[1:1] = [tokenizer.to_language_token("cs"), tokenizer.translate]
    audio = torch.randn(32000, generator=torch.Generator().manual_seed(1)).numpy() / 10
    features = processor(audio, sampling_rate=16000, return_tensors="pt").input_features
    assert tuple(features.shape) == (1, weights.dims.n_mels, 200)
    options |= {"max_new_tokens": 4, "force_unique_generate_call": True}
    (said,) = model.generate(features, **options).tolist()
    assert said[: len(prompt)] == prompt and len(said) > len(prompt)
    assert not {*settings.suppress_tokens} & {*said[len(prompt) :]}
    assert isinstance(processor.decode(said), str)


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_are_openais(folders, shape):
    weights, folder = folders[shape]
    theirs = WhisperProcessor.from_pretrained(folder).tokenizer
    tokenizer = any_tokenizer(weights.dims.n_vocab)
    assert len(theirs) == weights.dims.n_vocab
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert theirs(text, add_special_tokens=False).input_ids == ids, text
        assert theirs.decode(ids) == tokenizer.decode(ids) == text
        assert theirs(text).input_ids == [
            tokenizer.sot,
            tokenizer.no_timestamps,
            *ids,
            tokenizer.eot,
        ]
    for token, number in tokenizer.encoding._special_tokens.items():
        assert theirs.convert_tokens_to_ids(token) == number
    times = [tokenizer.timestamp_begin, *tokenizer.encode(" hi"), tokenizer.timestamp_begin + 75]
    assert theirs.decode(times, decode_with_timestamps=True) == "<|0.00|> hi<|1.50|>"
    assert theirs.decode([*times, tokenizer.eot], skip_special_tokens=True) == " hi"


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_in_float16(folders, shape, tmp_path):
    weights, _ = folders[shape]
    save_pt(tmp_path / "first.pt", weights)
    steps = [tmp_path / "first.pt", tmp_path / "hf", tmp_path / "last.pt"]
    for source, form, out in zip(steps, ("hf", "openai"), steps[1:], strict=False):
        assert convert(["--from", str(source), "--to", form, "--out", str(out)]) == 0
    assert detect.detect(tmp_path / "hf") == "hf"
    for path in steps[1:]:
        back = detect.load(path)
        assert back.dims == weights.dims
        for name, tensor in weights.state.items():
            assert back.state[name].dtype == torch.float16
            assert torch.equal(back.state[name], tensor), name


def test_folder_is_shared_and_the_embedding_stored_once(folders):
    _, folder = folders["turbo"]
    names = {path.name for path in folder.iterdir()}
    assert {"generation_config.json", "preprocessor_config.json", "tokenizer.json"} < names
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1
    assert "proj_out.weight" not in load_file(folder / hf.FILE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_transformers_saves_in_several_files(folders, dtype, tmp_path):
    weights, folder = folders["multilingual"]
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    model.save_pretrained(tmp_path / "saved", max_shard_size="5MB")
    assert (tmp_path / "saved" / hf.INDEX).is_file()
    assert detect.detect(tmp_path / "saved") == "hf"
    back = detect.load(tmp_path / "saved")
    for name, tensor in weights.state.items():
        expected = tensor.to(dtype)
        if dtype in (torch.bfloat16, torch.float64):
            expected = expected.float()
        assert back.state[name].dtype == expected.dtype, name
        assert torch.equal(back.state[name], expected), name


@pytest.fixture(params=["ct2_int8", "ggml_q5_0", "uniform3"])
def on_grid(request, folders, tmp_path):
    """(folder of a model on a grid, the checkpoint it was made from, the grid)."""
    save_pt(tmp_path / "toy.pt", folders["english"][0])
    options = ["--from", str(tmp_path / "toy.pt"), "--grid", request.param]
    assert convert([*options, "--to", "hf", "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out", tmp_path / "toy.pt", request.param


def mismatched(folder, checkpoint, grid, out):
    code = verify([str(folder), "--against", str(checkpoint), "--grid", grid, "--json", str(out)])
    report = json.loads(out.read_text())
    assert code == int(report["mismatched"] > 0)
    return report


@pytest.mark.slow
def test_verified_to_the_bit(on_grid, tmp_path):
    folder, checkpoint, grid = on_grid
    report = mismatched(folder, checkpoint, grid, tmp_path / "v.json")
    assert report["mismatched"] == 0
    stored = [r for r in report["rows"] if r["kind"] not in NO_TENSORS and r["bytes"]]
    assert {row["grid"] for row in stored} == {grid, "float32", "bytes"}
    size = (folder / hf.FILE).stat().st_size + (folder / "tokenizer.json").stat().st_size
    assert 0.99 * size < report["bytes"] <= size
    weight, name = openai.load(checkpoint).state["decoder.blocks.0.mlp.0.weight"], WEIGHT
    values = load_stock(folder).state_dict()[name]
    assert torch.equal(values, get_grid(grid).fake(weight.float()))
    for name in (WEIGHT, "model.encoder.layer_norm.bias", EMBEDDING):
        tensors = load_file(folder / hf.FILE)
        flat = tensors[name].view(torch.int32).view(-1)
        flat[7] ^= 1  # the lowest bit of one value
        changed = shutil.copytree(folder, tmp_path / name)
        save_file(tensors, changed / hf.FILE, {"format": "pt"})
        assert mismatched(changed, checkpoint, grid, tmp_path / "v.json")["mismatched"] == 1
    # Halved, every weight is off its grid, whatever its values.
    tensors = {name: tensor.half() for name, tensor in load_file(folder / hf.FILE).items()}
    save_file(tensors, folder / hf.FILE, {"format": "pt"})
    rows = mismatched(folder, checkpoint, grid, tmp_path / "v.json")["rows"]
    assert all(row["integers"] for row in rows if row["grid"] == grid)


@pytest.mark.slow
def test_verify_sees_the_vocabulary_and_the_model(folders, copied, tmp_path):
    weights, _ = folders["english"]
    save_pt(tmp_path / "toy.pt", weights)
    args = copied, tmp_path / "toy.pt", "none", tmp_path / "v.json"
    assert mismatched(*args)["mismatched"] == 0
    path = copied / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    vocab["Ġthe"], vocab["ÃŁ"] = vocab["ÃŁ"], vocab["Ġthe"]
    path.write_text(json.dumps(content), encoding="utf-8")
    wrong = {row["name"]: row["integers"] for row in mismatched(*args)["rows"] if row["integers"]}
    assert wrong == {"vocabulary": 2, "tokenizer.json": 1}
    for key, value in (("decoder_layers", 1), ("encoder_attention_heads", 4)):
        change_json(copied / "config.json", key, value)
        with pytest.raises(WorkError, match="holds ModelDimensions"):
            mismatched(*args)


def change_json(path, key, value):
    content = json.loads(path.read_text())
    content[key] = value
    if value is None:
        del content[key]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("d_model", None, "d_model is missing"),
        ("d_model", "wide", "n_audio_state = 'wide'"),
        ("d_model", 1 << 40, "not within"),
        ("vocab_size", 51865, "token_embedding"),
        ("encoder_layers", 3, "model.encoder.layers.2.* is missing"),
        ("decoder_layers", 1, "layers.1.* is not a Whisper weight"),
        ("model_type", "bart", "model_type is 'bart'"),
        ("scale_embedding", True, "scale_embedding is True"),
        ("activation_function", "relu", "activation_function is 'relu'"),
    ],
)
def test_bad_configuration(copied, key, value, message):
    change_json(copied / "config.json", key, value)
    with pytest.raises(InputError, match=message) as caught:
        detect.load(copied)
    assert str(copied) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda t: t.pop(WEIGHT), f"{WEIGHT} is missing"),
        (lambda t: t.update(more=torch.zeros(1)), "more is not a Whisper weight"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].T.contiguous()}), "mlp.0.weight has shape"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].to(torch.int8)}), "int8, expected a float"),
        (lambda t: t.update({"proj_out.weight": t[EMBEDDING] + 1}), "proj_out.weight is not"),
    ],
)
def test_bad_tensors(copied, edit, message):
    tensors = load_file(copied / hf.FILE)
    edit(tensors)
    save_file(tensors, copied / hf.FILE, {"format": "pt"})
    with pytest.raises(InputError, match=message) as caught:
        detect.load(copied)
    assert str(copied) in str(caught.value)


def test_tied_projection_may_be_stored(folders, copied):
    weights, _ = folders["english"]
    tensors = load_file(copied / hf.FILE)
    save_file(tensors | {"proj_out.weight": tensors[EMBEDDING].clone()}, copied / hf.FILE)
    assert torch.equal(
        detect.load(copied).state["decoder.token_embedding.weight"],
        weights.state["decoder.token_embedding.weight"],
    )


def test_truncated(copied):
    path = copied / hf.FILE
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=f"{path}: not a readable safetensors file"):
            detect.load(copied)
    for text in ("", "[]", "[" * 100_000, '{"d_model": 1'):
        (copied / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config.json: not "):
            detect.load(copied)


def test_a_pickle_that_is_none(copied):
    (copied / hf.FILE).rename(copied / hf.PICKLE)
    with pytest.raises(InputError, match=r"pytorch_model.bin: not a torch checkpoint"):
        detect.load(copied)


@pytest.mark.parametrize(
    "table,message",
    [
        (None, "weight_map is missing"),
        ({"a": "../model.safetensors"}, "no file beside it"),
        ({"a": "/etc/passwd"}, "no file beside it"),
        ({"a": "pytorch_model.bin"}, "no file beside it"),
        ({"a": 3}, "no file beside it"),
        ({"a": ""}, "no file beside it"),
        ({"a": "\0.safetensors"}, "no file beside it"),
        ({"a": f"{'x' * 300}.safetensors"}, "no file beside it"),
        ({"a": "none.safetensors"}, "none.safetensors: no such file"),
        ({"a": "part.safetensors"}, "a is in the index only"),
    ],
)
def test_bad_index(copied, table, message):
    (copied / hf.FILE).rename(copied / "part.safetensors")
    content = {} if table is None else {"weight_map": table}
    (copied / hf.INDEX).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        detect.load(copied)


def test_nothing_appears_when_saving_fails(folders, tmp_path):
    weights, _ = folders["english"]
    dims = ModelDimensions(**vars(weights.dims) | {"n_audio_ctx": 99})
    positions = weights.state["encoder.positional_embedding"][:99]
    odd = Weights(dims, weights.state | {"encoder.positional_embedding": positions})
    with pytest.raises(InputError, match="no whole number of seconds"):
        save_hf(tmp_path / "out", odd, {})
    assert not [*tmp_path.iterdir()]
    quantized = {"nothing": get_grid("ct2_int8").quantize(torch.ones(2, 2))}
    with pytest.raises(InputError, match="nothing is quantized"):
        save_hf(tmp_path / "out", weights, quantized)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="a hf folder is to be written"):
        write("hf", tmp_path / "out", weights, {}, "float16")
