"""ggml files: as whisper.cpp's own, our integers as they are, and run by whisper.cpp."""

import gguf
import numpy as np
import pytest
import torch

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes import load_runtime

GRIDS = ["ggml_q8_0", "ggml_q5_1", "ggml_q5_0", "ggml_q4_1", "ggml_q4_0"]


def test_whisper_cpps_own_file(weights_dir, source_files, tmp_path):
    """tiny.pt was made from whisper.cpp's published ggml-tiny.bin: written, each part is its own.

    Only the order of the tensors differs, and the sign of a zero among the mel filters.
    """
    out = tmp_path / "tiny.bin"
    write("ggml", out, openai.load(weights_dir / "tiny.pt"), {}, "float16")
    theirs = source_files["tiny"] / "ggml-tiny.bin"
    mine, published = ggml.read(out), ggml.read(theirs)
    assert mine.tokens == published.tokens and mine.ftype == published.ftype
    assert np.array_equal(mine.filters, published.filters)
    assert out.stat().st_size == theirs.stat().st_size
    assert mine.tensors.keys() == published.tensors.keys()
    for name, tensor in mine.tensors.items():
        other = published.tensors[name]
        assert tensor.kind == other.kind and np.array_equal(tensor.raw, other.raw), name


@pytest.fixture(params=GRIDS)
def written(request, toy, tmp_path):
    """(file on a grid, its checkpoint, grid)."""
    path, checkpoint = tmp_path / "toy.bin", tmp_path / "toy.pt"
    save_pt(checkpoint, toy, dtype=torch.float32)
    names = assign_grids(toy.dims, request.param)
    write("ggml", path, toy, quantize(toy.state, names), "float16")
    return path, checkpoint, request.param


@pytest.mark.slow
def test_blocks_are_those_of_gguf(written, toy):
    path, _, grid = written
    kind = gguf.GGMLQuantizationType[grid.removeprefix("ggml_").upper()]
    names = assign_grids(toy.dims, grid)
    assert "decoder.token_embedding.weight" in names and "encoder.conv1.weight" not in names
    stored = ggml.read(path).tensors
    for name, found in ggml.load(path).state.items():
        tensor = toy.state[name]
        if name in names:
            blocks = gguf.quantize(tensor.numpy(), kind)
            assert stored[name].kind == kind and np.array_equal(stored[name].raw, blocks.flatten())
            expected = gguf.dequantize(blocks, kind)
            assert np.array_equal(found.numpy(), expected.reshape(tensor.shape)), name
        else:
            dtype = torch.float16 if tensor.dim() == 3 else torch.float32
            assert found.dtype == dtype and torch.equal(found, tensor.to(dtype)), name


def against(path, checkpoint, grid):
    return verify([str(path), "--against", str(checkpoint), "--grid", grid])


@pytest.mark.slow
def test_verify_sees_one_changed_bit(written, toy, capsys):
    path, checkpoint, grid = written
    assert against(path, checkpoint, grid) == 0
    assert " 0 mismatched" in capsys.readouterr().out.splitlines()[-1]
    data, name = path.read_bytes(), b"decoder.blocks.0.mlp.0.weight"
    start = data.index(name) + len(name)
    bias = data.index(b"encoder.ln_post.bias") + 30
    # A scale, an integer, a float, a mel filter, a token, the ftype.
    for at in (start, start + 20, bias, 4 + 44 + 8 + 2000, 4 + 44 + 8 + 80 * 201 * 4 + 8, 44):
        broken = bytearray(data)
        broken[at] ^= 1
        path.write_bytes(broken)
        assert against(path, checkpoint, grid) == 1, at
    path.write_bytes(data)
    changed = toy.state[name.decode()].clone()
    changed[0, 5] = -changed[0].abs().max()
    toy.state[name.decode()] = changed
    save_pt(checkpoint, toy, dtype=torch.float32)
    assert against(path, checkpoint, grid) == 1


def test_a_float32_checkpoint_runs_in_whisper_cpp(weights_dir, clips, tmp_path):
    """Regression: a float32 file was written, on which whisper.cpp aborted the process."""
    weights = openai.load(weights_dir / "tiny.pt")
    weights.state["decoder.ln.bias"] = weights.state["decoder.ln.bias"].float() + 1e-6
    save_pt(tmp_path / "tiny.pt", weights, dtype=torch.float32)
    out = tmp_path / "tiny.bin"
    assert convert(["--from", str(tmp_path / "tiny.pt"), "--to", "ggml", "--out", str(out)]) == 0
    path, lang, _ = clips[0]
    assert load_runtime("whisper.cpp", out, threads=1).decode([load_audio(path)], lang)[0].text
    with pytest.raises(InputError, match="float16, not float32"):
        write("ggml", tmp_path / "a.bin", weights, {}, "float32")


def test_wrong_combinations_are_refused(toy, tmp_path):
    names = assign_grids(toy.dims, "ggml_q5_0")
    first = next(iter(names))
    some = {name: grid for name, grid in names.items() if name != first}
    with pytest.raises(InputError, match=r"whisper\.cpp wants all matrices"):
        write("ggml", tmp_path / "a.bin", toy, quantize(toy.state, some), "float16")
    with pytest.raises(InputError, match="ggml_q4_0, ggml_q5_0"):
        mixed = quantize(toy.state, names | {first: "ggml_q4_0"})
        write("ggml", tmp_path / "a.bin", toy, mixed, "float16")
    with pytest.raises(InputError, match="ct2_int8 does not fit ggml"):
        write(
            "ggml",
            tmp_path / "a.bin",
            toy,
            quantize(toy.state, dict.fromkeys(names, "ct2_int8")),
            "float16",
        )
    with pytest.raises(InputError, match=r"is a folder, and a file is to be written"):
        write("ggml", tmp_path, toy, {}, "float16")
    toy.state[first] = torch.full_like(toy.state[first], 1e9)
    with pytest.raises(InputError, match=rf"{first}: .*float16"):
        write("ggml", tmp_path / "a.bin", toy, quantize(toy.state, names), "float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_whisper_cpp_says_what_torch_says_on_the_grid(weights_dir, clips, tmp_path):
    """whisper.cpp rounds activations and computes in float16, so a clip may differ; most do not.

    Of ggml_q8_0, `test_whisper_cpp_logits` compares what decides the words.
    """
    grid = "ggml_q5_0"
    weights = openai.load(weights_dir / "tiny.pt")
    names = assign_grids(weights.dims, grid)
    on_grid = {name: get_grid(grid).fake(weights.state[name]) for name in names}
    path = tmp_path / "tiny.bin"
    write("ggml", path, weights, quantize(weights.state, names), "float16")
    floats = openai.Weights(weights.dims, weights.state | on_grid)
    save_pt(tmp_path / "tiny.pt", floats, dtype=torch.float32)
    cpp = load_runtime("whisper.cpp", path, threads=1)
    assert cpp.compute_type == grid.removeprefix("ggml_") and "ru" in cpp.languages
    ours = load_runtime("torch", tmp_path / "tiny.pt", threads=1)
    same = 0
    for clip, language, _ in clips:
        audio = [load_audio(clip)]
        said = cpp.decode(audio, language)
        assert said[0].text
        same += said == ours.decode(audio, language)
    assert same >= len(clips) // 2


def test_whisper_cpp_is_only_given_whole_files(source_files, tmp_path):
    data = (source_files["tiny"] / "ggml-tiny.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_runtime("whisper.cpp", tmp_path / "cut.bin")
