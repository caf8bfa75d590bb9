"""tools/setup.sh: what it says when something fails, and that a finished environment is kept."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "dirname", "cut", "id", "sha256sum", "mkdir", "rm", "mv", "grep", "sed", "flock")


@pytest.fixture
def project(tmp_path):
    """A project folder with the script, the lock file, and no environment."""
    root = tmp_path / "my project"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup.sh", root / "tools")
    shutil.copy(ROOT / "requirements.lock", root)
    return root


@pytest.fixture
def bare(tmp_path):
    """An environment whose PATH holds the shell's tools and no Python, no uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(shutil.which(name))
    return {"PATH": str(folder), "HOME": str(tmp_path)}


def setup(project, *args, cwd="/", **options):
    command = [shutil.which("bash"), str(project / "tools/setup.sh"), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, **options)


def finish(project):
    """Leave what a finished set-up leaves."""
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    sha = hashlib.sha256((project / "requirements.lock").read_bytes()).hexdigest()
    (project / ".venv/.lock-sha256").write_text(f"{sha}\n\n{project}\n")


@pytest.fixture
def offline(bare):
    """As `bare`, and a Python and the real uv, for which nothing is in reach."""
    (Path(bare["PATH"]) / "python3").symlink_to(os.path.realpath(sys.executable))
    (Path(bare["PATH"]) / "uv").symlink_to(Path(sys.executable).parent / "uv")
    nowhere = "http://127.0.0.1:9/"  # a port at which nothing listens
    servers = {"UV_DEFAULT_INDEX": nowhere, "UV_PYTHON_INSTALL_MIRROR": nowhere}
    return bare | servers | {"UV_HTTP_RETRIES": "0"}


def script(path, text):
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)


def failed(project, env):
    """The last line of a set-up that fails; nothing says that it is finished."""
    done = setup(project, env=env)
    assert done.returncode == 1 and done.stdout == ""
    assert not (project / ".venv/.lock-sha256").exists()
    return done.stderr.splitlines()[-1]


def test_an_environment_of_somebody_elses_is_kept(project, offline):
    """Nor is a link followed, or removed, that leads to one of ours."""
    (project / ".venv/lib").mkdir(parents=True)
    (project / ".venv/.mine").write_text("mine")
    assert "was not made by this script: move it away" in failed(project, offline)
    assert (project / ".venv/.mine").read_text() == "mine" and (project / ".venv/lib").is_dir()
    (project / ".venv").rename(project / "elsewhere")
    (project / ".venv").symlink_to("elsewhere")
    (project / ".tools/making").touch()
    assert "is a link" in failed(project, offline)
    assert (project / "elsewhere/.mine").exists() and (project / ".venv").is_symlink()


def test_help_names_every_option(project):
    done = setup(project, "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--lock", "--help", "TORCH_BACKEND=cpu", "sclite"))
    unknown = setup(project, "--what")
    assert unknown.returncode == 2 and "unknown option --what" in unknown.stderr
    assert not (project / ".venv").exists() and not (project / ".tools").exists()


def test_no_python_is_one_line(project, bare):
    done = setup(project, env=bare)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "setup: no Python found: install Python 3.12 or 3.13 (or uv, which can fetch it)\n"
    )


def test_python_without_pip_is_one_line(project, bare):
    # -S: no site-packages, so no pip
    script(Path(bare["PATH"]) / "python3", f'exec "{sys.executable}" -S "$@"')
    done = setup(project, env=bare)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "setup: no uv, and no python3 with pip to get it: install one of them"
    ]


def test_a_name_that_does_not_run_is_no_python(project, bare):
    for name in ("python3", "python3.12", "python3.13"):  # as a version manager's shims are
        script(Path(bare["PATH"]) / name, "exit 127")
    done = setup(project, env=bare)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_no_network(project, offline):
    assert failed(project, offline) == (
        "setup: could not install the packages: no network, or the server is out of reach: "
        f"check the connection, see {project}/.tools/setup.log"
    )


def test_only_an_old_python_and_none_to_fetch(project, offline):
    old = "import sys; sys.version_info = (3, 11, 9); exec(sys.argv[2])"
    python = Path(offline["PATH"]) / "python3"
    python.unlink()
    script(python, f"exec '{sys.executable}' -c '{old}' \"$@\"")
    assert failed(project, offline) == (
        "setup: no Python 3.12 or 3.13 found (install one), and uv could not fetch it: no network, "
        f"or the server is out of reach: check the connection, see {project}/.tools/setup.log"
    )


def test_wrong_hash(project, offline):
    with zipfile.ZipFile(project / "toy-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"toy-1.0.dist-info/{name}", text)
    lock = f"--no-index\ntoy==1.0 --hash=sha256:{'0' * 64}\n"
    (project / "requirements.lock").write_text(lock)
    assert failed(project, offline | {"UV_FIND_LINKS": project.as_uri()}) == (
        "setup: could not install the packages: a package has another hash than in "
        f"requirements.lock: do not trust this server, see {project}/.tools/setup.log"
    )


@pytest.mark.parametrize("log", ["has the reason", "is on the full disk"])
def test_full_disk(log, project, bare):
    finish(project)
    (project / ".venv/.lock-sha256").unlink()  # as an interrupted set-up
    (project / ".tools").mkdir()
    (project / ".tools/making").touch()
    said = "  Caused by: failed to write to file: No space left on device (os error 28)"
    script(Path(bare["PATH"]) / "uv", f"[[ $1 == --version ]] || {{ echo '{said}' >&2; exit 2; }}")
    if log == "is on the full disk":
        (project / ".tools/setup.log").symlink_to("/dev/full")
    assert failed(project, bare) == (
        "setup: could not install the packages: the disk is full: make room and run this again"
    )


def test_finished_environment_is_kept_and_fast(project):
    finish(project)
    before = sorted(p for p in project.rglob("*"))
    started = time.monotonic()
    done = setup(project, cwd=project / "tools")
    assert time.monotonic() - started < 5  # 0.1 s on a quiet machine
    assert done.returncode == 0 and ".venv is ready" in done.stderr
    assert sorted(p for p in project.rglob("*")) == before


@pytest.mark.parametrize("change", ["lock", "backend", "folder", "python", "killed"])
def test_anything_else_is_done_again(change, project, bare):
    finish(project)
    env = dict(bare)
    if change == "lock":
        with open(project / "requirements.lock", "a") as f:
            f.write("# changed\n")
    elif change == "backend":
        env["TORCH_BACKEND"] = "cpu"
    elif change == "folder":
        project = project.rename(project.with_name("moved"))
    elif change == "python":
        (project / ".venv/bin/python").unlink()
    elif change == "killed":
        (project / ".venv/.lock-sha256").unlink()
    done = setup(project, env=env)
    # It goes on to look for a Python, of which there is none.
    assert done.returncode == 1 and "no Python found" in done.stderr


def test_path_sh_gives_the_environment(project):
    recipe = project / "egs2/dq_whisper/asr1"
    recipe.mkdir(parents=True)
    shutil.copy(ROOT / "egs2/dq_whisper/asr1/path.sh", recipe)
    finish(project)
    script = 'set -euo pipefail; . "$1"; echo "$PYTHON"; type -P python; echo "$LC_ALL"'
    done = subprocess.run(
        ["bash", "-c", script, "-", str(recipe / "path.sh")],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"OMP_NUM_THREADS": "3"},
    )
    python = str(project / ".venv/bin/python")
    assert done.stdout.splitlines() == [python, python, "C.UTF-8"]


def test_environment_that_would_lead_elsewhere(project):
    """CDPATH takes cd to another folder of that name; SHELLOPTS brings its options along."""
    finish(project)
    (project / "elsewhere/tools").mkdir(parents=True)
    env = os.environ | {"CDPATH": str(project / "elsewhere"), "PYTHONHOME": "/nonexistent"}
    done = subprocess.run(
        ["bash", "tools/setup.sh"], cwd=project, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and ".venv is ready" in done.stderr


@pytest.mark.parametrize("script", ["run.sh", "dq.sh", "local/data.sh"])
def test_cdpath_leads_no_script_elsewhere(script, tmp_path):
    """Called by a relative path, with a folder of that name somewhere else."""
    at = "local" if script == "local/data.sh" else "egs2/dq_whisper/asr1"
    (tmp_path / at).mkdir(parents=True)
    env = os.environ | {"CDPATH": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", f"{at}/{Path(script).name}", "--help"],
        cwd=ROOT, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "--corpus" in done.stdout, done.stderr


def test_path_sh_leaves_no_way_to_the_current_folder(project):
    recipe = project / "egs2/dq_whisper/asr1"
    recipe.mkdir(parents=True)
    shutil.copy(ROOT / "egs2/dq_whisper/asr1/path.sh", recipe)
    finish(project)
    script = 'set -euo pipefail; . "$1"; echo "$PYTHONSAFEPATH ${PYTHONPATH-none} $PYTHON"'
    for given, left in ((":/a:.:b:/c d:", "/a:/c d"), (":", "none"), ("", "none")):
        env = os.environ | {"PYTHONPATH": given, "CDPATH": "/usr", "PYTHONHOME": "/nonexistent"}
        done = subprocess.run(
            ["bash", "-c", script, "-", "egs2/dq_whisper/asr1/path.sh"],
            capture_output=True, text=True, cwd=project, env=env,
        )  # fmt: skip
        assert done.stdout == f"1 {left} {project}/.venv/bin/python\n", done.stderr


def test_what_builds_packages_has_its_hash_too(project, offline):
    with zipfile.ZipFile(project / "setuptools-81.0.0-py3-none-any.whl", "w") as wheel:
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: setuptools\nVersion: 81.0.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"setuptools-81.0.0.dist-info/{name}", text)
    env = {k: v for k, v in offline.items() if k != "UV_DEFAULT_INDEX"}
    env |= {"UV_FIND_LINKS": project.as_uri(), "UV_OFFLINE": "1"}
    for backend in ({}, {"TORCH_BACKEND": "cpu"}):
        assert failed(project, env | backend) == (
            "setup: could not install the packages: a package has another hash than in "
            f"requirements.lock: do not trust this server, see {project}/.tools/setup.log"
        )
