"""The reader against CTranslate2's own writer and runtime, and our writer against both."""

import json
import struct
import tracemalloc
from dataclasses import replace

import ctranslate2
import numpy as np
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from whisper.model import Whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.errors import InputError
from espnet_dq.formats.ct2 import read as reader
from espnet_dq.formats.ct2 import write as writer
from espnet_dq.formats.ct2.binary import read_variables
from espnet_dq.formats.ct2.config import config, preprocessor
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.quant.grids import get_grid
from espnet_dq.whisper.dims import SIZES
from espnet_dq.whisper.vocabulary import own_vocabulary


@pytest.fixture(scope="module")
def folder(toy_weights, toy_quantized, tmp_path_factory):
    """The toy's CTranslate2 folder, on the grid."""
    path = tmp_path_factory.mktemp("ct2") / "toy"
    writer.save(path, toy_weights(), toy_quantized)
    return path


def test_integers_and_scales_are_ours(folder, toy, toy_quantized):
    pieces = reader.split(read_variables(folder / "model.bin"), folder)
    for name, tensor in toy.state.items():
        piece = pieces[name]
        if name in toy_quantized:
            assert np.array_equal(piece.values, toy_quantized[name].integers.numpy())
            assert piece.scale.tobytes() == toy_quantized[name].scale.numpy().tobytes()
        else:
            assert piece.values.tobytes() == tensor.half().numpy().tobytes(), name


@pytest.mark.slow
def test_the_file_is_what_ctranslate2s_own_converter_writes(toy, tmp_path):
    """Every variable, bit for bit, from the same float32 weights by way of transformers."""
    save_pt(tmp_path / "toy.pt", toy, dtype=torch.float32)
    for to, grid in (("ct2", "ct2_int8"), ("hf", "none")):
        paths = ["--from", str(tmp_path / "toy.pt"), "--out", str(tmp_path / to)]
        assert convert([*paths, "--to", to, "--grid", grid]) == 0
    own = TransformersConverter(str(tmp_path / "hf"))
    own.convert(str(tmp_path / "own"), quantization="int8_float16")
    found, expected = (read_variables(tmp_path / name / "model.bin") for name in ("ct2", "own"))
    # Theirs ties the weight before it has scales; ours, the scales as well.
    tied = found["decoder/embeddings/weight_scale"]
    assert found.pop("decoder/projection/weight_scale") is tied
    assert found.keys() == expected.keys()
    assert sum(values.dtype == np.int8 for values in expected.values()) > 20
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name], values), name


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int16", "bfloat16", "int8_bfloat16"])
def test_other_types_of_ctranslate2s_own_converter(toy, tmp_path, quantization):
    """They are read, and can be put on a grid; int16 has one scale for all of a matrix."""
    save_pt(tmp_path / "toy.pt", toy, dtype=torch.float32)
    paths = ["--from", str(tmp_path / "toy.pt"), "--out", str(tmp_path / "hf")]
    assert convert([*paths, "--to", "hf", "--grid", "none"]) == 0
    own = TransformersConverter(
        str(tmp_path / "hf"), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    own.convert(str(tmp_path / "own"), quantization=quantization)
    loaded = reader.load(tmp_path / "own")
    # int16: 2^10 steps to the largest, cut off; bfloat16: 8 bits; int8: 127 to a row's largest.
    steps = {"int16": 2**10, "bfloat16": 2**8, "int8_bfloat16": 254}[quantization]
    for name, tensor in toy.state.items():
        error = (loaded.state[name].float() - tensor.float()).abs().max()
        assert error <= 1.01 * tensor.abs().max() / steps, name
    options = ["--from", str(tmp_path / "own"), "--to", "ct2", "--out", str(tmp_path / "ours")]
    assert convert([*options, "--grid", "ct2_int8"]) == 0
    model = ctranslate2.models.Whisper(str(tmp_path / "ours"))
    assert model.is_multilingual


@pytest.mark.parametrize("n_vocab", [51864, 51865, 51866])
def test_ctranslate2_knows_whether_it_is_multilingual(save_toy, trim, n_vocab, tmp_path):
    """Of whole and trimmed vocabularies."""
    whole = save_toy(state=32, layers=1, n_vocab=n_vocab)
    paths = {"whole": whole}
    if n_vocab > 51864:
        paths["trimmed"] = trim(whole, ["hello there", "привет"])
    for name, path in paths.items():
        options = ["--from", str(path), "--to", "ct2", "--out", str(tmp_path / name)]
        assert convert([*options, "--grid", "ct2_int8"]) == 0
        model = ctranslate2.models.Whisper(str(tmp_path / name))
        assert model.is_multilingual == (n_vocab > 51864)
        if n_vocab > 51864:
            assert model.num_languages == n_vocab - 51766


def test_a_vocabulary_that_ctranslate2_would_take_for_english(save_toy, trim):
    weights = openai.load(trim(save_toy(state=32, layers=1), ["привет"]))
    kept = [i for i in weights.dims.kept if i != 50256]
    dims = own_vocabulary(replace(SIZES["tiny"], n_vocab=len(kept)), kept, "toy")
    with pytest.raises(InputError, match="trim the whole one again"):
        writer.check_vocabulary(dims)


def test_load_gives_the_grids_values(folder, toy, toy_quantized):
    loaded = reader.load(folder)
    assert loaded.dims == toy.dims
    for name, q in toy_quantized.items():
        assert torch.equal(loaded.state[name], get_grid("ct2_int8").dequantize(q)), name


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_round_trip(toy, tmp_path, dtype):
    writer.save(tmp_path / "f", toy, {}, float_dtype=dtype)
    loaded = reader.load(tmp_path / "f")
    for name, tensor in toy.state.items():
        assert torch.equal(loaded.state[name], tensor.to(getattr(torch, dtype))), name


def test_runtime_computes_what_torch_does_on_the_same_weights(folder):
    """A swapped query and key, or a transposed matrix, would not survive this."""
    weights = reader.load(folder)
    model = Whisper(weights.dims).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in weights.state.items()})
    mel = torch.randn(1, 80, 100, generator=torch.Generator().manual_seed(1))
    runtime = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)
    features = ctranslate2.StorageView.from_array(mel.numpy())
    encoded = np.array(runtime.encode(features))
    with torch.no_grad():
        assert np.abs(encoded - model.encoder(mel).numpy()).max() < 1e-3

    # The decoder, through the scores of forced tokens: text tokens after a prompt.
    prompt = [50258, 50259, 50359, 50363]
    result = runtime.generate(
        features,
        [prompt],
        beam_size=1,
        max_length=12,
        suppress_blank=False,
        suppress_tokens=[],
        return_scores=True,
    )[0]
    tokens = list(prompt)
    with torch.no_grad():
        for token in result.sequences_ids[0]:
            logits = model.decoder(torch.tensor([tokens]), torch.from_numpy(encoded))[0, -1]
            logits = logits[:50364]  # no timestamps after <|notimestamps|>
            assert logits[token] > logits.max() - 1e-3
            tokens.append(token)
    assert len(tokens) > len(prompt) + 2


def test_size_and_companions(folder, toy):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.bin",
        "config.json",
        "vocabulary.json",
        "tokenizer.json",
        "preprocessor_config.json",
    }
    assert json.loads((folder / "preprocessor_config.json").read_text())["chunk_length"] == 1
    # The embedding is stored once, and the zero bias of the keys is there.
    variables = read_variables(folder / "model.bin")
    assert variables["decoder/projection/weight"] is variables["decoder/embeddings/weight"]
    assert (folder / "model.bin").stat().st_size < 1.02 * sum(
        tensor.numel() + 4 * len(tensor) for tensor in toy.state.values()
    )
    assert not variables["encoder/layer_0/self_attention/linear_0/bias"][64:128].any()


def test_config_equals_the_published_one(source_files):
    published = json.loads((source_files["base"] / "config.json").read_text())
    ours = config(SIZES["base"], None, False)
    assert ours == {key: published[key] for key in ours} and ours.keys() == published.keys()


def test_preprocessor():
    dims = SIZES["base"]
    assert preprocessor(dims)["chunk_length"] == 30
    dims = type(dims)(**{**vars(dims), "n_audio_ctx": 750, "n_mels": 128})
    assert preprocessor(dims)["chunk_length"] == 15 and preprocessor(dims)["feature_size"] == 128
    with pytest.raises(InputError, match="n_audio_ctx = 751"):
        preprocessor(type(dims)(**{**vars(dims), "n_audio_ctx": 751}))


def test_float16_file_of_another_writer(source_files):
    """The published base: fp16, older converter; every name and shape as openai-whisper's."""
    weights = reader.load(source_files["base"])
    assert weights.dims == SIZES["base"]
    assert {t.dtype for t in weights.state.values()} <= {torch.float16, torch.float32}


def test_writer_refuses_what_does_not_fit(toy, toy_quantized, tmp_path):
    key = "encoder.blocks.0.attn.key.weight"
    some = {key: toy_quantized[key]}
    with pytest.raises(InputError, match="quantize all or none"):
        writer.save(tmp_path / "x", toy, some)
    with pytest.raises(InputError, match="no Whisper weight"):
        writer.save(tmp_path / "x", toy, {"nothing.weight": toy_quantized[key]})
    other = get_grid("uniform8").quantize(toy.state[key])
    with pytest.raises(InputError, match="on grid uniform8"):
        writer.save(tmp_path / "x", toy, {key: other})
    with pytest.raises(InputError, match="not int8 of shape"):
        writer.save(tmp_path / "x", toy, {"decoder.token_embedding.weight": toy_quantized[key]})
    assert not list(tmp_path.iterdir())


def _headers(data):
    """Offsets where a header field of model.bin starts or ends."""
    cut = [0, 2, 4, 6, 6 + 12]
    at = 4 + 2 + 12 + 4
    cut += [at, at + 4]
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        rank = data[at + 2 + length]
        end = at + 2 + length + 1 + 4 * rank
        (size,) = struct.unpack_from("<I", data, end + 1)
        cut += [at + 1, at + 2, at + 2 + length, at + 3 + length, end, end + 1, end + 5]
        at = end + 5 + size
        cut.append(at)
    return [*cut, at + 1, at + 4, at + 5, len(data) - 1]


@pytest.mark.slow
def test_truncated_at_each_header(folder, tmp_path):
    data = (folder / "model.bin").read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    for size in sorted(set(_headers(data)), reverse=True):
        with open(path, "r+b") as f:
            f.truncate(size)
        with pytest.raises(InputError, match=r"model\.bin"):
            reader.load(tmp_path)


def test_forged_headers_take_no_memory(folder, tmp_path):
    data = (folder / "model.bin").read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        for at in _headers(data)[:60]:
            with open(path, "r+b") as f:
                f.seek(at)
                f.write(b"\xff\xff\xff\x7f")
            try:
                read_variables(path)  # some bytes are values, where anything is allowed
            except InputError as e:
                assert "model.bin" in str(e)
            with open(path, "r+b") as f:
                f.seek(at)
                f.write(data[at : at + 4])
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    read_variables(path)


def test_trailing_bytes_and_foreign_models(folder, tmp_path):
    data = (folder / "model.bin").read_bytes()
    path = tmp_path / "model.bin"
    for broken, message in (
        (data + b"\0", "too many"),
        (struct.pack("<I", 5) + data[4:], "binary version 5"),
        (data.replace(b"WhisperSpec", b"MarianModel"), "MarianModel"),
        (data.replace(b"decoder/num_heads", b"decoder/mum_heads"), "num_heads is missing"),
        (data.replace(b"encoder/conv1/weight\0", b"encoder/conv9/weight\0"), "conv1/weight"),
        (data.replace(b"encoder/conv1/weight_scale", b"encoder/conv1/weight_sc4le"), "conv1"),
        (data.replace(b"encoder/layer_0/", b"encoder/layer_9/"), "is missing"),
    ):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=message):
            reader.load(tmp_path)
