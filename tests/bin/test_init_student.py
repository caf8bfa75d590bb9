"""What no export could hold is refused before anything is trained."""

import pytest

from espnet_dq.bin.init_student import main
from espnet_dq.errors import InputError


@pytest.fixture
def init(save_toy, tmp_path):
    """Function (grid, format, preset) that runs the command with such a configuration."""
    toy, config = str(save_toy(seed=0)), tmp_path / "qat.yaml"

    def run(grid, form, preset, *also):
        config.write_text(f"model_conf: {{preset: {preset}}}\n")
        out = ["--out", str(tmp_path / "init"), "--export", form, str(config)]
        return main(["--from", toy, "--teacher", toy, "--grid", grid, "--also", *also, *out])

    return run


@pytest.mark.parametrize(
    "grid,form,preset",
    [("ggml_q8_0", "ggml", "full"), ("ct2_int8", "ct2", "paper"), ("onnx_int8", "onnx", "paper"),
     ("uniform4", "packed", "encoder")],
)  # fmt: skip
def test_what_fits(init, tmp_path, grid, form, preset):
    assert init(grid, form, preset) == 0
    assert (tmp_path / "init/student.pth").is_file()


@pytest.mark.parametrize(
    "grid,form,preset,message",
    [
        (
            "ggml_q8_0",
            "ggml",
            "paper",
            r"preset paper does not fit ggml: encoder\.blocks\.0\..*all matr",
        ),
        (
            "ggml_q4_0",
            "ggml",
            "encoder",
            r"preset encoder does not fit ggml: decoder\.blocks\.0\..*all m",
        ),
        ("uniform4", "ct2", "full", "preset full does not fit ct2: grid uniform4"),
        ("ct2_int8", "ct2", "half", "model_conf: unknown preset 'half'"),
        ("ct2_int8", "ct2", "none", "preset none leaves no weight on the grid"),
    ],
)
def test_what_does_not_fit(init, tmp_path, grid, form, preset, message):
    with pytest.raises(InputError, match=rf"{tmp_path / 'qat.yaml'}: {message}"):
        init(grid, form, preset)
    assert not (tmp_path / "init").exists()
    with pytest.raises(InputError, match="--export tflite: unknown format 'tflite': known are"):
        init(grid, "tflite", preset)


def test_other_grids_that_do_not_fit(init, tmp_path):
    """Hours of training before they would be rounded to."""
    assert init("ct2_int8", "ct2", "full", "ggml_q5_0", "uniform4_g16") == 0
    (tmp_path / "init/student.pth").unlink()
    with pytest.raises(InputError, match=r"\.pt: encoder\..*: grid uniform4_g4096 does"):
        init("ct2_int8", "ct2", "full", "ggml_q5_0", "uniform4_g4096")
    assert not (tmp_path / "init/student.pth").exists()


def test_a_teacher_that_hears_less(save_toy, tmp_path):
    """It would be asked of windows that it cannot hear."""
    toy, short = str(save_toy()), str(save_toy(audio_ctx=500))
    out = ["--grid", "ct2_int8", "--out", str(tmp_path / "init")]
    with pytest.raises(InputError, match=r"\.pt: hears 10 s, less than its student"):
        main(["--from", toy, "--teacher", short, *out])
    assert main(["--from", short, "--teacher", short, *out]) == 0
