"""Room for what tests write: the whole suite says beforehand that there is too little."""

import shutil
import tempfile
from pathlib import Path

import pytest

# The whole suite held up to 3.4 GB (2026-11-29); killed runs leave theirs behind.
MANY, ROOM = 1000, 5 * 10**9


def no_room(folder: Path | str, need: int) -> str:
    """A line that says that a folder has less than `need` bytes of room; empty if it has."""
    free = shutil.disk_usage(folder).free
    if free >= need:
        return ""
    return (
        f"{folder}: {free / 1e9:.1f} GB of room, and the tests need {need / 1e9:.1f}: remove what "
        "killed runs have left there (pytest-of-*), or name another folder with TMPDIR"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop before the first test where many are to run and the temporary folder is too full."""
    if len(session.items) < MANY or session.config.option.collectonly:
        return
    if line := no_room(tempfile.gettempdir(), ROOM):
        pytest.exit(line, returncode=2)
