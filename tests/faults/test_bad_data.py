"""A small corpus, a tenth of it broken: every utterance is counted by its cause."""

import json

import pytest

from benchmarks.faults.bad_data import WAYS, Clip, judge, make
from espnet_dq.bin import format_data
from espnet_dq.errors import InputError
from local import kaldi_dir


@pytest.mark.slow
def test_every_way_is_counted_by_cause(clips, tmp_path):
    speech = [Clip(*clip) for clip in clips]
    planted = make(tmp_path / "corpus", speech, utterances=200, broken=2)
    data, dump = tmp_path / "data", tmp_path / "dump"
    kaldi_dir.main(["--data_root", str(tmp_path / "corpus"), "--out", str(data)])
    arguments = ["--data", str(data), "--out", str(dump), "--allow_shared_text"]
    assert format_data.main([*arguments, "--max_left_out", "10"]) == 0
    right, wrong = judge(dump / "left_out.tsv", planted)
    assert wrong == [] and right == dict.fromkeys(WAYS, 2)
    report = json.loads((dump / "format.json").read_text())
    assert sum(report[split]["utterances"] for split in ("train", "dev", "test")) == 180
    with pytest.raises(InputError, match=r"20 of 200 utterances are left out \(10.00 %\): 2 "):
        format_data.main([*arguments, "--max_left_out", "9.9"])
