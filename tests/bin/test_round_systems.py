"""What a run scores without training it: rounded as the functions round, verified, made once."""

import shutil

import pytest
import torch

import espnet_dq as dq
from espnet_dq.bin.round_systems import main
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import integers
from espnet_dq.recipe import rounding as round_systems
from tests import toys


def small(save_toy):
    return save_toy(seed=3, state=32, layers=1, text_ctx=64)


@pytest.fixture
def exp(tmp_path, save_toy):
    """An experiment as stage 8 leaves it, as far as this is concerned."""
    (tmp_path / "exp/export").mkdir(parents=True)
    shutil.copy(small(save_toy), tmp_path / "exp/export/student.pt")
    corpus = toys.save_corpus(tmp_path / "corpus")
    shutil.copytree(corpus / "train", tmp_path / "exp/data/train")
    return tmp_path / "exp"


def equal(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(q.integers, expected[name].integers)
        and torch.equal(q.scale, expected[name].scale)
        for name, q in found.items()
    )


def given(exp, student="/x", systems="student") -> list[str]:
    """A call of the command without --also; models that are not rounded need not be there."""
    words = f"--grid ct2_int8 --student {student} --teacher /x --systems {systems}"
    return ["--exp", str(exp), *words.split()]


@pytest.mark.slow
def test_few_bits_by_clips_and_others_to_the_nearest_values(exp, save_toy):
    untouched, also = small(save_toy), ["--also", "onnx_int8", "ggml_q4_0"]
    assert main([*given(exp, untouched, "untouched_rounded student"), *also]) == 0
    student, export = exp / "export/student.pt", exp / "export"
    nearest = integers.load(export / "rounded_onnx_int8")
    assert equal(nearest, dq.quantize(student, "onnx_int8").quantized)
    by_clips = dq.quantize(student, "ggml_q4_0", exp / "data/train").quantized
    assert not equal(by_clips, dq.quantize(student, "ggml_q4_0").quantized)
    for name in ("rounded_ggml_q4_0.bin", "rounded_ggml_q4_0_by_clips.safetensors"):
        assert equal(integers.load(export / name), by_clips)
    assert dq.verify(export / "untouched_rounded", untouched, "ct2_int8").mismatched == 0
    for grid in ("onnx_int8", "ggml_q4_0"):
        text = (exp / f"verify_rounded_{grid}.txt").read_text()
        assert text.endswith(" 0 mismatched\n") and "decoder.token_embedding" in text
    # It is of this student: nothing is done again.
    before = {p: p.stat().st_mtime_ns for p in export.glob("rounded_*")}
    shutil.rmtree(exp / "data")
    assert main([*given(exp), *also]) == 0
    assert {p: p.stat().st_mtime_ns for p in export.glob("rounded_*")} == before


def test_what_is_not_verified_gets_no_name(exp, monkeypatch):
    def nearest(model, path, to):
        return save(model if to == "packed" else dq.quantize(model, "ggml_q5_0"), path, to=to)

    save = round_systems.save
    monkeypatch.setattr(round_systems, "save", nearest)
    with pytest.raises(WorkError, match=r"export/rounded_ggml_q5_0\.bin: \d+ values differ"):
        main([*given(exp), "--also", "ggml_q5_0"])
    assert {p.name for p in (exp / "export").iterdir()} == {
        "student.pt", "rounded_ggml_q5_0_by_clips.safetensors"
    }  # fmt: skip
    assert " 0 mismatched" not in (exp / "verify_rounded_ggml_q5_0.txt").read_text()


def test_windows_to_round_by_are_needed(exp):
    shutil.rmtree(exp / "data")
    with pytest.raises(InputError, match="data/train"):
        main([*given(exp), "--also", "uniform4_g16"])
    assert [p.name for p in (exp / "export").iterdir()] == ["student.pt"]
