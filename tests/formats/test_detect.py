import pytest

from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.openai.write import save as save_pt


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
