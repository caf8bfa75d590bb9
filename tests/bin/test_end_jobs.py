"""What killed runs have left in an experiment goes, and nothing else."""

import pytest

from espnet_dq.bin.end_jobs import main
from espnet_dq.errors import WorkError
from tests import toys

LEFT = (".a.tmp-host-123-0a1b2c3d.pt", "data/.b.old-host-1-0a1b2c3d", "kd/.c.tmp-x-2-00000000")
MINE = (".a.tmp12", "a.tmp-host-1-0a1b2c3d", ".a.tmp-host-1-0a1b2c3", "data/.a.tmp-h-z-0a1b2c3d")


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """Jobs in Slurm's queue until they are cancelled; left-overs, a folder among them; others."""
    (tmp_path / "bin").mkdir()
    for name, does in (
        ("scancel", 'echo "$1" >> cancelled'),
        ("squeue", "grep -qx $3 cancelled || echo $3"),
    ):
        toys.save_program(tmp_path / "bin" / name, f"cd {tmp_path}; {does}")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    exp = tmp_path / "exp"
    for number, logs in enumerate(("logs/2/.format.JOB.log", "kd/.train.log", "qat/.train.log")):
        (exp / logs).mkdir(parents=True)
        (exp / logs / "slurm").write_text(str(number))
    (tmp_path / "cancelled").touch()
    (exp / "data").mkdir()
    for name in (*LEFT, *MINE):
        (exp / name).write_text("x")
    (exp / LEFT[1]).unlink()
    (exp / LEFT[1] / "deep").mkdir(parents=True)
    (exp / LEFT[1] / "deep/text").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/.y.tmp-host-1-0a1b2c3d").write_text("of others")
    (exp / "data/linked").symlink_to(tmp_path / "elsewhere")
    (exp / "data/.z.tmp-host-1-0a1b2c3d").symlink_to(tmp_path / "elsewhere")
    return exp


def test_jobs_end_and_what_is_half_written_goes(exp):
    assert main(["--exp", str(exp), "--alone"]) == 0
    assert (exp.parent / "cancelled").read_text().split() == ["0", "1", "2"]
    assert not [*exp.rglob("slurm")]
    assert {str(p.relative_to(exp)) for p in exp.rglob("*.tmp*")} == {*MINE}
    assert not [*exp.rglob("*.old-*")]
    # Through a link nothing goes, only a link that was being made.
    assert (exp / "data/linked/.y.tmp-host-1-0a1b2c3d").exists()


def test_without_locks_others_may_be_at_work(exp):
    with pytest.raises(WorkError, match="without locks nobody knows"):
        main(["--exp", str(exp)])
    assert all((exp / name).exists() for name in (*LEFT, *MINE))
    for note in exp.rglob("slurm"):
        note.unlink()
    assert main(["--exp", str(exp)]) == 0
    assert all((exp / name).exists() for name in (*LEFT, *MINE))
