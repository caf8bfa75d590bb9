"""The tests on a real Slurm (`tests/cluster`), each as a line of results.jsonl.

    .venv/bin/python -m benchmarks.faults.cluster

Needs root and Debian's slurm-wlm and munge. The lines take the place of those of an earlier run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.faults.results import RESULTS, put, result

ROOT = Path(__file__).parents[2]
COMMAND = "python -m benchmarks.faults.cluster"
TESTS = {  # test -> stage of the recipe, what is done to it, and what then has happened
    "test_array_decodes_and_a_failed_job_runs_again_alone": (
        9, "Slurm: a job of an array that decodes fails",
        "named with its log; the same command runs it again alone; the texts are those of one job",
    ),
    "test_training_in_two_tasks_is_one": (
        6, "Slurm: training in two tasks on two nodes",
        "losses within 1e-4, weights within 1e-5 (projector 1e-4) of those of one process",
    ),
    "test_interrupted_jobs_leave_the_queue": (
        9, "Slurm: the command that waits for its jobs is ended", "its jobs leave the queue",
    ),
    "test_a_lost_task_ends_the_job_and_the_recipe_goes_on": (
        6, "Slurm: SIGKILL of one of the two training tasks of the recipe",
        "the job ends, the recipe names its log; the same command goes on to the scores",
    ),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run them; 0 if all are ok."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.faults.cluster", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/cluster", f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "SLURM_TESTS": "1"})
        if not report.is_file():
            parser.exit(1, f"{parser.prog}: pytest has left no report\n")
        cases = {case.get("name"): case for case in ElementTree.parse(report).iter("testcase")}
    if cases.keys() != TESTS.keys():
        parser.exit(1, f"{parser.prog}: other tests than are listed: {', '.join(cases)}\n")
    for name, case in cases.items():
        if (skipped := case.find("skipped")) is not None:
            parser.exit(1, f"{parser.prog}: {name} was skipped: {_line(skipped)}\n")
    results = []
    for name, (stage, fault, happened) in TESTS.items():
        found = [x for kind in ("failure", "error") for x in cases[name].iter(kind)]
        said = _line(found[0]) if found else happened
        results.append(result(fault, stage, 1, int(not found), COMMAND, said))
    put(args.out, COMMAND, results)
    return int(any(x["ok"] < x["tries"] for x in results))


def _line(found: ElementTree.Element) -> str:
    """The first line of what pytest says of a test that did not pass."""
    return (found.get("message") or "no word").strip().splitlines()[0]


if __name__ == "__main__":
    raise SystemExit(main())
