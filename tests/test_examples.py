"""examples/hf_trainer.py on toys: trained, exported, verified, decoded in faster-whisper."""

import runpy
from pathlib import Path

import pytest
import torch

import espnet_dq as dq
from espnet_dq.errors import InputError
from tests import toys
from tests.task.toy_recipe import make_corpus

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "examples/hf_trainer.py"))
main = SCRIPT["main"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A student whose positions alone decide what it says, a teacher, and a corpus of noise."""
    folder = tmp_path_factory.mktemp("example")
    student = toys.ending(toys.make_model(state=32, layers=1, text_ctx=64))
    toys.save_model(folder / "student.pt", student)
    toys.save_model(folder / "teacher.pt", toys.make_model(1, 32, 3))
    make_corpus(folder, ["hello there", "guten Tag"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [None, "teacher.pt"])
def test_a_folder_of_speech_becomes_a_verified_folder_of_ctranslate2(
    teacher, place, tmp_path, capsys
):
    out = tmp_path / "student_ct2"
    given = ["--model", str(place / "student.pt"), "--train", str(place / "data"), "--dev",
             str(place / "data"), "--out", str(out), "--steps", "2", "--batch", "2"]  # fmt: skip
    if teacher:
        given += ["--teacher", str(place / teacher)]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert f"{out}: 0 mismatches in " in said
    assert "u0.wav: " in said and "de: " in said and "% of the words are wrong" in said
    trained = dq.load(out).quantized
    rounded = dq.quantize(dq.load(place / "student.pt"), "ct2_int8").quantized
    name = "decoder.blocks.0.mlp.2.weight"
    assert trained.keys() == rounded.keys()
    assert not torch.equal(trained[name].integers, rounded[name].integers)


def test_recordings_with_texts(tmp_path):
    read = SCRIPT["read"]
    with pytest.raises(InputError, match=r"neither wav\.scp nor texts"):
        read(tmp_path, "en")
    (tmp_path / "a[1].txt").write_text(" Hello. \n")
    with pytest.raises(InputError, match="0 recordings of that name beside it"):
        read(tmp_path, "en")
    (tmp_path / "a[1].wav").touch()
    with pytest.raises(InputError, match="say their --language"):
        read(tmp_path, None)
    assert read(tmp_path, "en") == [(str(tmp_path / "a[1].wav"), "Hello.", "en")]
    (tmp_path / "a[1].mp3").touch()
    with pytest.raises(InputError, match="2 recordings of that name"):
        read(tmp_path, "en")
