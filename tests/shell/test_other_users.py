"""A clone and an environment that are another user's: one line that says so, and a way."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_dq.recipe.description import commit

ROOT = Path(__file__).parents[2]
NOBODY = 65534
OWN = "export ESPNET_DQ_VENV=$HOME/espnet_dq_venv"


@pytest.fixture
def project(tmp_path):
    """A clone with its set-up and what sources it, and no environment."""
    root = tmp_path / "my clone"
    for name in ("tools/setup.sh", "requirements.lock", "egs2/dq_whisper/asr1/path.sh", "Makefile"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


def finish(venv, project, python=sys.executable):
    """Leave what a finished set-up of a clone leaves."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(python)
    sha = hashlib.sha256((project / "requirements.lock").read_bytes()).hexdigest()
    (venv / ".lock-sha256").write_text(f"{sha}\n\n{project}\n")


def bash(script, *args, venv=None, as_nobody=False):
    """Run a script; returns the exit code and the last line that it says."""
    command = [shutil.which("bash"), "-c", script, "-", *map(str, args)]
    if as_nobody:
        command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups",
                   *command]  # fmt: skip
    env = os.environ | ({} if venv is None else {"ESPNET_DQ_VENV": str(venv)})
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=env, timeout=60)
    return done.returncode, (done.stdout + done.stderr).splitlines()[-1]


SETUP = '"$1/tools/setup.sh"'


def test_path_sh_and_make_take_the_environment_that_is_named(project, tmp_path):
    venv = tmp_path / "my environment"
    finish(venv, project)
    assert bash(SETUP, project, venv=venv) == (0, f"setup: {venv} is ready")
    source = 'set -euo pipefail; . "$1/egs2/dq_whisper/asr1/path.sh"; echo "$PYTHON" "$PATH"'
    code, said = bash(f"{{ {source}; }} 2>/dev/null", project, venv=venv)
    assert code == 0 and said.startswith(f"{venv}/bin/python {venv}/bin:")
    said = bash('make -n -C "$1" audit | grep audit.py', project, venv=venv)
    assert said == (0, f'"{venv}"/bin/python tools/audit.py')
    assert not (project / ".venv").exists() and not (project / ".tools").exists()
    assert bash(SETUP, project, venv="env") == (
        2, "setup: ESPNET_DQ_VENV=env: must begin with /"
    )  # fmt: skip


@pytest.mark.parametrize("how", ["link", "named"])
def test_an_environment_of_another_clone_is_left_alone(how, project, tmp_path):
    """It runs that clone's code; made anew for this one, it would be taken away from it."""
    venv = tmp_path / "shared"
    finish(venv, tmp_path / "my clone")
    (venv / ".lock-sha256").write_text("another lock\n\n/their clone\n")
    before = sorted((path, path.lstat().st_mtime_ns) for path in venv.rglob("*"))
    if how == "link":
        (project / ".venv").symlink_to(venv)
    place = project / ".venv" if how == "link" else venv
    assert bash(SETUP, project, venv=venv if how == "named" else None) == (
        1,
        f"setup: {place} runs the code of /their clone, not of {project}: give each its own, with "
        "ESPNET_DQ_VENV=FOLDER",
    )
    assert sorted((path, path.lstat().st_mtime_ns) for path in venv.rglob("*")) == before
    assert (project / ".venv").is_symlink() == (how == "link")


other_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can try as another user",
)


@pytest.fixture
def readable(project):
    """The clone, in a folder that others may enter."""
    for folder in (project, *project.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    return project


@other_user
@pytest.mark.parametrize("what", ["none", "out of date", "a link"])
def test_another_user_is_told_who_may_make_it(what, readable, tmp_path):
    place = readable
    if what != "none":
        place = tmp_path / "shared" if what == "a link" else readable / ".venv"
        finish(place, readable)
        (place / ".lock-sha256").write_text(f"an older lock\n\n{readable}\n")
        if what == "a link":
            (readable / ".venv").symlink_to(place)
        place = readable  # where .tools is made
    code, said = bash(SETUP, readable, as_nobody=True)
    assert code == 1 and said == (
        f"setup: no right to write to {place}, to make {readable}/.venv as this clone needs it: "
        f"ask whoever may to run tools/setup.sh, or have an environment of your own: {OWN}"
    )


@other_user
def test_another_user_runs_what_is_finished(readable, tmp_path):
    """Nothing is written for that."""
    finish(readable / ".venv", readable, tmp_path / "python")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 0\n")  # `usable` asks for its version alone
    (tmp_path / "python").chmod(0o755)
    assert bash(SETUP, readable, as_nobody=True) == (0, f"setup: {readable}/.venv is ready")


def test_the_commit_of_a_clone_that_is_somebody_elses(monkeypatch):
    known = commit()
    if known == "unknown":
        pytest.skip("no clone")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests use it
    told = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True)
    assert "dubious ownership" in told.stderr
    assert commit() == known
