"""The size rule against the figures that the method page derives from the paper."""

import pytest
import whisper

from espnet_dq.errors import InputError
from espnet_dq.quant.prepare import PRESETS
from espnet_dq.report.size import MIB, grid_bits, paper_rule_bytes, small_bytes
from espnet_dq.whisper.dims import weight_shapes

# Dimensions of OpenAI's multilingual models.
DIMS = {
    "tiny": (80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4),
    "base": (80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6),
    "small": (80, 1500, 768, 12, 12, 51865, 448, 768, 12, 12),
}


def shapes(name):
    return weight_shapes(whisper.ModelDimensions(*DIMS[name]))


def test_small_is_the_reference():
    assert paper_rule_bytes(shapes("small")) == 2 * 241_734_912 == small_bytes()
    assert round(small_bytes() / MIB, 2) == 461.07


@pytest.mark.parametrize(
    ("model", "preset", "bits", "mib", "ratio"),
    [
        ("base", "paper", 8, 89.13, 5.17),
        ("tiny", "paper", 8, 44.02, 10.47),
        ("base", "full", 8, None, 6.56),
        ("tiny", "full", 8, None, 12.54),
        ("base", "paper", 4, None, 7.15),
        ("tiny", "paper", 4, None, 15.36),
    ],
)
def test_the_papers_figures(model, preset, bits, mib, ratio):
    size = paper_rule_bytes(shapes(model), preset, bits)
    assert mib is None or round(size / MIB, 2) == mib
    assert round(small_bytes() / size, 2) == ratio


def test_unknown_preset():
    with pytest.raises(InputError, match="unknown preset"):
        paper_rule_bytes(shapes("tiny"), "half", 8)


def test_the_two_sides_make_the_whole():
    floats = paper_rule_bytes(shapes("tiny"))
    saved = {p: floats - paper_rule_bytes(shapes("tiny"), p, 4) for p in PRESETS}
    assert saved["paper"] + saved["encoder"] == saved["full"] and saved["none"] == 0


def test_bits_of_a_grid_and_of_a_table():
    assert grid_bits("uniform3_g32") == 3
    table = {"a.weight": "ct2_int8", "b.weight": "ggml_q5_0", "c.weight": "none"}
    assert grid_bits(table) == {"a.weight": 8, "b.weight": 5}
