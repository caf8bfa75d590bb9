import json

import pytest
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.write import check_grids, write


def test_by_content_not_by_name(toy, tmp_path):
    save_pt(tmp_path / "model.bin.pt", toy)
    (tmp_path / "model.bin.pt").rename(tmp_path / "checkpoint")
    assert detect.detect(tmp_path / "checkpoint") == "openai"
    assert detect.load(tmp_path / "checkpoint").dims == toy.dims
    ctranslate2_writer.save(tmp_path / "ct2", toy, {})
    assert detect.load(tmp_path / "ct2").dims == toy.dims


def test_nothing_that_is_read(tmp_path):
    for message in ("no such file", "nor a torch checkpoint", "holds neither model.bin"):
        with pytest.raises(InputError, match=message):
            detect.load(tmp_path / "x")
        if message.startswith("no such"):
            (tmp_path / "x").write_bytes(b"")
        elif message.startswith("nor"):
            (tmp_path / "x").unlink()
            (tmp_path / "x").mkdir()


def test_a_file_in_a_folder_of_its_own_is_named(toy_weights, tmp_path):
    """As `publish` writes them; they have the names of other formats' files."""
    for form, name in (("ggml", "model.bin"), ("packed", "model.safetensors")):
        (tmp_path / form).mkdir()
        write(form, tmp_path / form / name, toy_weights(), {}, "float16")
        with pytest.raises(InputError, match=rf"{form}: holds a .*, .*/{name}: give that"):
            detect.load(tmp_path / form)
        assert detect.detect(tmp_path / form / name) == form


def test_bands_that_openai_whisper_cannot_hear(toy_weights, tmp_path):
    write("hf", tmp_path / "hf", toy_weights(), {}, "float16")
    path = tmp_path / "hf/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_mel_bins": 40}))
    with pytest.raises(InputError, match=r"config\.json: n_mels = 40: .* 80 and 128 only"):
        detect.load(tmp_path / "hf")


@pytest.mark.parametrize("form", ["ct2", "hf", "transformers_js"])
def test_a_window_of_no_whole_seconds_is_refused_before_the_work(form, tmp_path):
    dims = ModelDimensions(80, 625, 64, 2, 1, 51865, 448, 64, 2, 1)
    with pytest.raises(InputError, match=r"n_audio_ctx = 625 is no whole number of seconds"):
        check_grids(form, dims, {})
    check_grids("ggml", dims, {})
