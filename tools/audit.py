"""Ask whether a fault is published of any package that requirements.lock pins (`make audit`).

    .venv/bin/python tools/audit.py [options for pip-audit]

pip-audit asks, from an environment of its own (.audit in ours, pinned by tools/audit.lock), so that
it is not among what is checked. Exit code 0: all packages were looked up and nothing is known of
them; 1: there are faults, each in a line; 3: skipped, or not all could be looked up: no pass.

pip-audit itself passes over what a service does not know, and then says "no known vulnerabilities
found" of nothing at all. So a release with well-known faults is looked up first: where nothing is
known of that, the service is out of reach or is none.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from espnet_dq.errors import DQError, WorkError, run

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HOME = Path(sys.prefix) / ".audit"
FAULTY = "pyyaml==5.3"  # runs code from the YAML that it loads: CVE-2020-1747, CVE-2020-14343


class Skipped(DQError):
    """Nothing can be said of all packages: why not."""

    exit_code = 3


def main(argv: list[str] | None = None) -> int:
    """Install pip-audit where it is not, ask, and say what came out."""
    options = sys.argv[1:] if argv is None else argv
    with TemporaryDirectory() as scratch:
        faulty = Path(scratch) / "faulty.txt"
        faulty.write_text(FAULTY, encoding="utf-8")
        install()
        (known,) = ask(faulty, "--no-deps", *options)
        if not known.get("vulns"):
            why = known.get("skip_reason", "no fault of it is known there")
            raise Skipped(
                f"skipped: a service that knows nothing of {FAULTY} cannot be asked: {why}"
            )
        print(judge(ask(LOCK, *options)))
    return 0


def install() -> None:
    """Bring the environment to what its lock file says; a finished one needs no network."""
    uv = Path(sys.executable).with_name("uv")
    lock = Path(__file__).with_name("audit.lock")
    commands = [["venv", "--allow-existing", HOME], ["pip", "sync", "--require-hashes", lock]]
    for command in commands:
        call = [
            uv,
            *command,
            "--quiet",
            "--python",
            sys.executable if command[0] == "venv" else HOME,
        ]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"skipped: pip-audit cannot be installed: {last_line(done.stderr)}")


def ask(requirements: Path, *options: str) -> list[dict]:
    """What pip-audit's JSON says of each package: `name`, and `version` and `vulns` if looked up.

    Raises:
        Skipped: It has written none, as when there is no network.
    """
    with TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        done = subprocess.run(
            [HOME / "bin/pip-audit", "--requirement", requirements, "--disable-pip", "--format",
             "json", "--output", report, "--progress-spinner", "off", *options],
            capture_output=True, text=True,
            # It starts `python -m pip`, which would look in the current folder.
            env=os.environ | {"PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        if not report.is_file():
            raise Skipped(f"skipped: no answer of the service: {last_line(done.stderr)}")
        return json.loads(report.read_text(encoding="utf-8"))["dependencies"]


def judge(packages: list[dict]) -> str:
    """The line for packages of which nothing is known; faults and gaps raise.

    Raises:
        WorkError: There are faults; they are printed.
        Skipped: Packages that were not looked up, or none at all.
    """
    gaps = [f"{p['name']} ({p['skip_reason']})" for p in packages if "skip_reason" in p]
    faulty = [p for p in packages if p.get("vulns")]
    for package in faulty:
        for fault in package["vulns"]:
            names = ", ".join([fault["id"], *fault["aliases"]])
            fixed = " or ".join(fault["fix_versions"]) or "no release"
            print(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    if faulty:
        raise WorkError(f"faults are known of {len(faulty)} of {len(packages)} packages")
    if gaps or not packages:
        why = f": {gaps[0]}" if gaps else ""
        raise Skipped(f"skipped: {len(gaps)} of {len(packages)} packages not looked up{why}")
    return f"audit: no fault is known of any of {len(packages)} packages"


def last_line(text: str) -> str:
    """The last line of what a program said."""
    return (text.strip().splitlines() or ["it says nothing"])[-1][:300]


if __name__ == "__main__":
    run(main)
