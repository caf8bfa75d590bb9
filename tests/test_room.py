"""Disks fill: the whole suite says so before it starts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.room import no_room

ROOT = Path(__file__).parent.parent


def test_a_full_folder_is_one_line(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert no_room(tmp_path, 0) == ""
    line = no_room(tmp_path, free + 10**12)
    assert line.startswith(f"{tmp_path}: ") and "\n" not in line


@pytest.mark.slow
def test_a_suite_without_room_does_not_start(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one(tmp_path): (tmp_path / 'ran').touch()\n")
    (tmp_path / "conftest.py").write_text(
        "from tests import room\n"
        "from tests.room import pytest_collection_finish\n"
        "room.MANY, room.ROOM = 1, 10**18\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path,
               "--rootdir", tmp_path, "-o", f"pythonpath={ROOT}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "GB of room, and the tests need 1000000000.0" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("ran"))
