"""The teacher pass and the disk; what a cache holds is tested where training reads it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.distill.cache import CacheSettings, write_cache
from espnet_dq.errors import run
from espnet_dq.quant.checkpoint import Student
from espnet_dq.whisper.dims import model_dims
from espnet_dq.whisper.teacher import Teacher


@pytest.fixture
def inputs(save_toy, tmp_path) -> tuple:
    """A folder of one clip, teacher, student and settings."""
    save_wav(tmp_path / "u.wav", np.zeros(8000, np.float32))
    data = KaldiDir(
        wav={"u": str(tmp_path / "u.wav")},
        text={"u": "hello"},
        utt2spk={"u": "u"},
        utt2lang={"u": "en"},
    )
    data.save(tmp_path / "data")
    saved = torch.load(save_toy(), weights_only=True)
    student = Student(
        dims=model_dims(saved["dims"]),
        state=saved["model_state_dict"],
        grid="ct2_int8",
        preset="none",
        path=save_toy(),
    )
    settings = CacheSettings("block", 1.0, 4, "full", 0.0, encoder=True)
    teacher = Teacher(save_toy(seed=1, state=32, layers=3))
    return tmp_path / "data", teacher, student, settings


def test_full_disk(inputs, tmp_path, full_disk, capsys):
    """One line that names the shard, and nothing of it is left; the next pass finishes."""
    data, *others = inputs
    cache = tmp_path / "cache"

    def write():
        write_cache(data, cache, *others)

    with pytest.raises(SystemExit) as ended, full_disk():
        run(write)
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f": {cache}/shards/" in said and said.endswith("/00000: File too large")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    write()
    assert (cache / "cache.json").is_file() and (cache / "encoder_out.scp").is_file()


def test_shared_by_all_that_want_the_same(inputs, tmp_path):
    """The second finds it, without a teacher to ask; with other settings, it lies elsewhere."""
    data, teacher, student, settings = inputs
    shared = tmp_path / "shared"
    place = write_cache(data, tmp_path / "one", teacher, student, settings, shared)
    assert place.parent == shared and place == (tmp_path / "one").resolve()
    assert str(place) in (tmp_path / "one/teacher_ids.scp").read_text()
    ask, teacher.model = teacher.model, None
    assert write_cache(data, tmp_path / "two", teacher, student, settings, shared) == place
    assert (tmp_path / "two").resolve() == place
    teacher.model = ask
    other = replace(settings, top_k=5)
    assert write_cache(data, tmp_path / "two", teacher, student, other, shared) != place
