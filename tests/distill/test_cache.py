"""The teacher pass and the disk; what a cache holds is tested where training reads it."""

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


def test_full_disk(save_toy, tmp_path, full_disk, capsys):
    """One line that names the shard, and nothing of it is left; the next pass finishes."""
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
    teacher = Teacher(save_toy(seed=1, state=32, layers=3), student.dims)
    cache = tmp_path / "cache"

    def write():
        write_cache(tmp_path / "data", cache, teacher, student, settings)

    with pytest.raises(SystemExit) as ended, full_disk():
        run(write)
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f": {cache}/shards/" in said and said.endswith("/00000: File too large")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    write()
    assert (cache / "cache.json").is_file() and (cache / "encoder_out.scp").is_file()
