import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from espnet_dq.data.parallel import parallel_map
from espnet_dq.errors import InputError

ROOT = Path(__file__).parents[2]

CRASHES = {"SIGSEGV", "SIGKILL", "exit", "sys.exit", "memory"}


def work(job):
    number, kind = job
    if kind.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, kind))
    elif kind == "exit":
        os._exit(0)
    elif kind == "sys.exit":
        sys.exit(3)
    elif kind == "memory":
        raise MemoryError
    elif kind == "error":
        raise InputError(f"job {number}")
    return number, os.getpid()


def died(job):
    return job[0], "died"


def results(kinds, nj):
    jobs = list(enumerate(kinds))
    return list(parallel_map(work, iter(jobs), len(jobs), nj, "test", died))


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CRASHES))
@pytest.mark.parametrize("nj", [1, 3])
def test_a_job_that_ends_its_worker_costs_only_itself(kind, nj):
    kinds = ["good"] * 40
    kinds[0] = kinds[17] = kinds[18] = kinds[39] = kind
    found = results(kinds, nj)
    assert [number for number, _ in found] == list(range(40))
    assert [n for n, pid in found if pid == "died"] == [0, 17, 18, 39]
    assert os.getpid() not in [pid for _, pid in found]


def test_the_only_job():
    assert results(["SIGSEGV"], 4) == [(0, "died")] and results([], 2) == []


def test_an_error_of_the_work_ends_it():
    kinds = ["good"] * 30
    kinds[3], kinds[20] = "SIGSEGV", "error"
    with pytest.raises(InputError, match="job 20"):
        results(kinds, 2)


@pytest.mark.slow
def test_an_error_beside_a_crash_in_one_chunk():
    kinds = ["good"] * 64
    kinds[4], kinds[5] = "SIGKILL", "error"
    with pytest.raises(InputError, match="job 5"):
        results(kinds, 1)


def test_millions_are_not_asked_for_at_once():
    taken = []

    def jobs():
        for number in range(10_000):
            taken.append(number)
            yield number, "good"

    found = parallel_map(work, jobs(), 10_000, 2, "test", partial(died))
    next(found)
    assert len(taken) < 500
    found.close()


@pytest.mark.parametrize("own", [False, True])
def test_a_script_is_not_run_again(own, tmp_path):
    """Of somebody who calls us without `if __name__ == "__main__"`; but for its own function."""
    script = tmp_path / "script.py"
    guard = 'if __name__ == "__main__":\n    ' * own
    script.write_text(
        "from espnet_dq.data.parallel import parallel_map\n"
        "print('begun')\n"
        "def double(job):\n    return 2 * job\n"
        f"work = {'double' if own else 'abs'}\n"
        f"{guard}print(*parallel_map(work, [-3, 4], 2, 2, 'x', str))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == ("-6 8" if own else "3 4")
    assert (ran.stdout.count("begun") > 1) is own
