"""Cuts in and out, in the layout that lhotse 1.33 writes."""

import gzip
import json

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data, write_cuts
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError
from local import lhotse_cuts
from tests.data import small_corpora as small
from tests.data.small_corpora import cut, manifest, said

LENIENT = ["--allow_shared_text", "--max_left_out", "100"]


@pytest.fixture
def root(clips, tmp_path):
    """cuts_{train,dev,test}.jsonl.gz, train with all that can be in a cut."""
    small.lhotse_cuts(tmp_path, clips[0][0])
    return tmp_path


@pytest.fixture
def recording(root):
    """lhotse's Recording of the file that all cuts are of."""
    with gzip.open(root / "cuts_dev.jsonl.gz", "rt", encoding="utf-8") as f:
        return json.loads(f.readline())["recording"]


def test_cuts_become_utterances(root, recording):
    out = root / "out"
    assert lhotse_cuts.main(["--data_root", str(root), "--out", str(out)]) == 0
    data = validate(out / "train")
    assert data.segments == {
        "anna-1": Segment("call_1", 1.25, 2.25, 0),
        "bob_2": Segment("call_1", 0.5, 1.0, 1),
        "anna-3": Segment("call_1", 0.0, 2.0),
    }
    assert data.utt2lang == {"anna-1": "ru", "bob_2": "en", "anna-3": "ru"}
    assert data.utt2spk == {"anna-1": "anna", "bob_2": "bob", "anna-3": "anna"}
    assert data.text["anna-1"] == "Привет, мир."
    report = json.loads((out / "report.json").read_text())
    assert report["ru"]["left_out"] == {
        "a recording with transforms": 1,
        "a supervision outside its recording": 1,
        "an id that stands twice": 1,
        "audio that is not one file": 2,
        "empty text": 1,
    }
    assert report["Irish"]["left_out"] == {"not a language of Whisper": 1}
    assert report["unknown"]["left_out"] == {"a MixedCut": 1, "a PaddingCut": 1}
    format_data.main(["--data", str(out), "--out", str(root / "dump"), *LENIENT])
    whole, _ = soundfile.read(recording["sources"][0]["source"], dtype="int16")
    mine, _ = soundfile.read(KaldiDir.load(root / "dump/train").wav["bob_2"], dtype="int16")
    assert np.array_equal(mine, whole[8000:16000, 1])


def test_out_and_in_again(root):
    """write_cuts is the inverse; of whole recordings, too, whose folders have no segments."""
    out, again = root / "out", root / "again"
    lhotse_cuts.main(["--data_root", str(root), "--out", str(out)])
    format_data.main(["--data", str(out), "--out", str(root / "dump"), *LENIENT])
    for source, kind in ((out, "MultiCut"), (root / "dump", "MonoCut")):
        again.mkdir(exist_ok=True)
        for name in ("train", "dev", "test"):
            file = again / f"cuts_{name}.jsonl.gz"
            assert write_cuts.main(["--data", str(source / name), "--out", str(file)]) == 0
        with gzip.open(again / "cuts_train.jsonl.gz", "rt", encoding="utf-8") as f:
            cuts = {x["id"]: x for x in map(json.loads, f)}
        assert cuts["anna-3"]["type"] == kind
        assert cuts["anna-1"]["supervisions"][0]["start"] == 0.0
        assert cuts["anna-1"]["duration"] == 1.0
        lhotse_cuts.main(["--data_root", str(again), "--out", str(again / "out")])
        assert validate(again / "out/train") == validate(source / "train")
        assert (again / "out/train/segments").exists() == (source / "train/segments").exists()


def test_several_manifests_and_one_language(root, recording):
    more = manifest(root / "more.jsonl.gz", cut(recording, [said("x", 5.0, 0.5, language=None)]))
    files = [x for n in ("train", "dev", "test") for x in (f"--{n}", f"{root}/cuts_{n}.jsonl.gz")]
    options = [*files, "--train", str(more), "--language", "uk", "--out", str(root / "out")]
    lhotse_cuts.main(options)
    data = validate(root / "out/train")
    assert data.utt2lang.keys() == {"anna-1", "bob_2", "anna-3", "anna-8", "anna-x"}
    assert set(data.utt2lang.values()) == {"uk"}


def test_commands_only_when_asked_for(root, recording):
    path = recording["sources"][0]["source"]
    command = {"type": "command", "channels": [0, 1], "source": f"cat '{path}'"}
    spoken = cut(recording | {"sources": [command]}, [said("a", 0.0, 1.0)])
    manifest(root / "cuts_dev.jsonl.gz", spoken)
    options = ["--data_root", str(root), "--out", str(root / "out")]
    with pytest.raises(InputError, match=r"cuts_dev\.jsonl\.gz:1: a command, .*--allow_pipes"):
        lhotse_cuts.main(options)
    lhotse_cuts.main([*options, "--allow_pipes"])
    assert validate(root / "out/dev", allow_pipes=True).wav == {"anna-a": f"cat '{path}' |"}
    with pytest.raises(InputError, match="--allow_pipes"):
        write_cuts.main(["--data", str(root / "out/dev"), "--out", str(root / "x.jsonl.gz")])
    # A file's name is never taken for a command.
    evil = {"type": "file", "channels": [0, 1], "source": "touch x |"}
    manifest(
        root / "cuts_dev.jsonl.gz",
        cut(recording | {"sources": [evil]}, [said("a", 0.0, 1.0)]),
        cut(recording, [said("b", 0.0, 1.0)]),
    )
    lhotse_cuts.main([*options, "--allow_pipes"])
    assert validate(root / "out/dev").wav == {"anna-b": path}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", ":1: Expecting"),
        ("[]", ":1: no cut"),
        ('{"id": "a"}', ":1: no cut"),
        (
            '{"type": "MonoCut", "recording": {"id": 1}, "supervisions": [{"language": "en"}]}',
            ":1: ",
        ),
        ('{"type": "MonoCut", "recording": 7, "supervisions": [{"language": "en"}]}', ":1: "),
        ('{"type": "MonoCut", "recording": {"id": 1}, "supervisions": [7]}', ":1: "),
    ],
)
def test_broken_manifests(root, line, what):
    with gzip.open(root / "cuts_dev.jsonl.gz", "wt") as f:
        f.write(line)
    with pytest.raises(InputError) as error:
        lhotse_cuts.main(["--data_root", str(root), "--out", str(root / "out")])
    assert str(error.value).startswith(f"{root}/cuts_dev.jsonl.gz{what}")


def test_broken_and_missing_files(root):
    options = ["--data_root", str(root), "--out", str(root / "out")]
    (root / "cuts_test.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"cuts_test\.jsonl\.gz"):
        lhotse_cuts.main(options)
    (root / "cuts_test.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"cuts_test\.jsonl\.gz: no such file"):
        lhotse_cuts.main(options)
    with pytest.raises(InputError, match="neither --data_root nor --train"):
        lhotse_cuts.main([])
    with pytest.raises(InputError, match=r"wants the ending \.jsonl\.gz"):
        write_cuts.main(["--data", str(root), "--out", "cuts.json"])
