"""The harness sees what it is there to see; it runs by itself only with `make faults`."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

from benchmarks.faults import judge
from benchmarks.faults.__main__ import lines
from benchmarks.faults.chains import Try
from benchmarks.faults.recipe import counting
from espnet_dq.data.audio import save_wav
from espnet_dq.files import atomic
from tests import toys


def sound(root: Path) -> Path:
    """An experiment of which nothing is broken."""
    toys.save_corpus(root / "dump")
    exp = root / "exp"
    (exp / "done").mkdir(parents=True)
    for stage in range(1, 7):
        (exp / f"done/{stage}").write_text("7\n")
    (exp / "kd").mkdir()
    torch.save({"x": torch.zeros(100)}, exp / "kd/1epoch.pth")
    (exp / "kd/valid.loss.ave.pth").symlink_to("1epoch.pth")
    (exp / "kd/config.yaml").write_text("a: [1, 2, 3]\n")
    (exp / "verify.json").write_text('{"a": 1}\n')
    save_wav(exp / "x.wav", torch.zeros(1000).numpy())
    with zipfile.ZipFile(exp / "model.zip", "w") as archive:
        archive.writestr("x", b"0" * 1000)
    (exp / ".lock").touch()
    return exp


def test_half_written_files_are_seen(tmp_path):
    exp = sound(tmp_path)
    folders = [exp, tmp_path / "dump"]
    assert judge.half_written(folders, exp) == []
    for name in ("exp/kd/1epoch.pth", "exp/x.wav", "exp/verify.json", "exp/model.zip",
                 "exp/done/3", "dump/train/text", "exp/kd/config.yaml"):  # fmt: skip
        path = tmp_path / name
        whole = path.read_bytes()
        for torn in (b"", whole[: len(whole) // 2]):
            path.write_bytes(torn)
            named = path.parent if name.startswith("dump") and torn else path
            found = [f for f in judge.half_written(folders, exp) if f.startswith(f"{named}: ")]
            assert found, (name, torn)
        path.write_bytes(whole)
    changed = bytearray((exp / "kd/1epoch.pth").read_bytes())
    changed[changed.index(b"\0" * 100) + 9] = 1
    (exp / "kd/1epoch.pth").write_bytes(changed)
    assert "checksum" in judge.half_written(folders, exp)[0]
    (exp / "kd/1epoch.pth").unlink()
    assert "valid.loss.ave.pth: leads nowhere" in judge.half_written(folders, exp)[0]
    (exp / "done/6").unlink()  # until it is done it may be so
    (exp / "kd/config.yaml").write_text("")
    assert judge.half_written(folders, exp) == []


def test_temporary_files_are_known_by_their_names(tmp_path):
    for name in ("model.pt", "text", "folder"):
        try:
            with atomic(tmp_path / name) as tmp:
                tmp.write_text("half")
                left = tmp.with_name(tmp.name + "")
                assert judge.leftovers(tmp_path) == [left]
                raise KeyError
        except KeyError:
            pass
    assert judge.leftovers(tmp_path) == []


def test_a_stage_done_twice_is_seen():
    said = (
        "01:02:03 (dq.sh:5) stage 1 (data): finished before\n"
        "01:02:03 (dq.sh:5) stage 2: format\n01:02:04 (dq.sh:9) stage 2: done in 1 s\n"
        "01:02:04 (dq.sh:5) stage 3: weights\n"
    )
    assert judge.started(said) == [2, 3]
    assert judge.done_twice({1}, said) == [] and judge.done_twice({1, 2}, said) == [2]


def test_what_differs_in_the_end_is_named():
    one = {"student: rates": {"wer": {"en": 10.0}}, "texts": "a"}
    assert judge.differing(one, json.loads(json.dumps(one))) == []
    other = {"student: rates": {"wer": {"en": 10.1}}, "texts": "a", "more": 1}
    assert judge.differing(one, other) == ["more", "student: rates"]


def test_a_rename_kills(tmp_path):
    code = "import pathlib\nfor n in range(5): pathlib.Path(f'{n}').rename(f'new{n}')"
    for name in map(str, range(5)):
        (tmp_path / name).touch()
    for at, renamed in ((2, 1), (-2, 3)):
        counter = tmp_path / f"counter{at}"
        ended = subprocess.run(
            [sys.executable, "-c", code.replace("range(5)", f"range({renamed - 1}, 5)")],
            env=os.environ | counting(counter, at), cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        assert ended.returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob("new*"))) == renamed and counter.stat().st_size == 2


def test_a_line_for_each_stage():
    tries = [Try("SIGKILL", 6, "at 0.1"), Try("SIGKILL", 6, "at 0.2", wrong=["x"])]
    (line,) = lines("kill", tries, 13)
    assert (line["stage"], line["tries"], line["ok"], line["wrong"]) == (6, 2, 1, ["x"])
