"""The manifests that benchmarks/manifest_size.py makes are good ones."""

import pytest

import manifest_size
from espnet_dq.data.formatting import check_disjoint, shared_texts
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.validation import validate


@pytest.mark.parametrize("segments", [False, True])
def test_made_folders_are_good_and_have_nothing_in_common(segments, tmp_path):
    manifest_size.make(tmp_path, 120, segments)
    splits = {name: validate(tmp_path / name) for name in SPLITS}
    assert [len(data.wav) for data in splits.values()] == [100, 10, 10]
    files = {wav for data in splits.values() for wav in data.wav.values()}
    assert len(files) == (manifest_size.AUDIO if segments else 120)
    assert bool(splits["train"].segments) == segments
    check_disjoint(splits)
    assert shared_texts(splits) == []


@pytest.mark.slow
def test_a_command_is_measured_and_its_failure_named(tmp_path):
    code = "x = bytearray(200 << 20); sum(range(5_000_000))"
    found = manifest_size.measure(["-c", code], tmp_path / "log")
    assert 200 < found["peak_mib"] < 300 and 0 < found["cpu_seconds"] <= found["seconds"] + 0.1
    with pytest.raises(manifest_size.WorkError, match="log"):
        manifest_size.measure(["-c", "raise SystemExit(3)"], tmp_path / "log")
