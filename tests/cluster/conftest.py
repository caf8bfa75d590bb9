"""Slurm on the loopback, and the toys of the other tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.decode.conftest import toy_data, toy_models  # noqa: F401
from tests.task.conftest import corpus, train, trimmed  # noqa: F401

SLURM_SH = Path(__file__).with_name("slurm.sh")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A controller and two nodes, `one` and `two`, that sbatch and srun of this process know."""
    if not os.environ.get("SLURM_TESTS"):
        pytest.skip("they take minutes: SLURM_TESTS=1 make test")
    lacking = [p for p in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(p) is None]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)} here: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons can only be started by root")
    folder = tmp_path_factory.mktemp("slurm") / "run"
    subprocess.run([SLURM_SH, "start", folder], check=True, timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
    subprocess.run([SLURM_SH, "stop", folder], check=True, timeout=60)
