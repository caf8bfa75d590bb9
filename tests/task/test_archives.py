"""The teacher's answers, as training reads them, run no commands."""

import kaldiio
import numpy as np
import pytest

from espnet_dq.errors import InputError
from espnet_dq.task.plugin import register


@pytest.mark.parametrize(
    "name", ["touch {} |", "| touch {}", "|touch {};:7", "touch {}:7 | ", "{}"]
)
@pytest.mark.parametrize("key", ["u", "u\u00a0"])
def test_a_command_in_an_scp_is_refused(tmp_path, name, key):
    register()
    from espnet2.train import dataset, iterable_dataset

    ark, scp, ran = tmp_path / "a.ark", tmp_path / "a.scp", tmp_path / "ran"
    kaldiio.save_ark(str(ark), {"a": np.ones((2, 3), np.float32)}, scp=str(scp))
    given = [(str(scp), "x", "kaldi_ark")]
    assert dataset.ESPnetDataset(given)["a"][1]["x"].shape == (2, 3)
    assert next(iter(iterable_dataset.IterableESPnetDataset(given)))[1]["x"].shape == (2, 3)
    with open(scp, "a", encoding="utf-8") as f:
        f.write(f"{key} {name.format(ran)}\n")
    with pytest.raises(InputError, match=r"a\.scp:2: no place in an archive"):
        dataset.ESPnetDataset(given)["u"]
    with pytest.raises(InputError, match="no place in an archive"):
        list(iterable_dataset.IterableESPnetDataset(given))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["touch {} |", "{}"])
def test_a_command_in_wav_scp_is_a_name_to_training(tmp_path, name):
    register()
    from espnet2.train.dataset import ESPnetDataset

    (tmp_path / "wav.scp").write_text(f"u {name.format(tmp_path / 'ran')}\n")
    with pytest.raises(RuntimeError):
        ESPnetDataset([(str(tmp_path / "wav.scp"), "speech", "sound")])["u"]
    assert not (tmp_path / "ran").exists()
