"""Folders that go when they are made of something else, and only then."""

import subprocess

import pytest

from espnet_dq.errors import InputError
from espnet_dq.recipe.made_of import TABLES, make_way


@pytest.fixture
def exp(tmp_path):
    """Windows, a start and a teacher, and a training half done, as dq.sh of before has noted it."""
    for part in ("train", "dev"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for table in TABLES:
            (tmp_path / "data" / part / table).write_text(f"{part} {table}\n")
    (tmp_path / "start.pth").write_text("start")
    (tmp_path / "teacher.pt").write_text("teacher")
    (tmp_path / "kd").mkdir()
    noted = "cat data/{train,dev}/{utt2sha256,text,utt2lang} | cksum; cksum < start.pth; "
    noted += "cksum < teacher.pt"
    said = subprocess.run(["bash", "-c", noted], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "kd/start").write_bytes(said.stdout)
    (tmp_path / "kd/checkpoint.pth").write_text("hours of work")
    return tmp_path


def begin(exp, **options):
    files = [exp / "start.pth", exp / "teacher.pt"]
    make_way(exp / "kd", "start", exp / "data", files, **options)
    assert (exp / "kd/start").read_text().count("\n") == 3
    return (exp / "kd/checkpoint.pth").exists()


def test_the_same_goes_on_and_another_goes(exp):
    assert begin(exp)
    (exp / "data/dev/text").write_text("other words\n")
    assert not begin(exp)
    (exp / "kd/checkpoint.pth").touch()
    assert begin(exp) and not begin(exp, anew=True)
    assert sorted(path.name for path in exp.iterdir()) == ["data", "kd", "start.pth", "teacher.pt"]


@pytest.mark.parametrize(
    "path", ["start.pth", "teacher.pt", "data/train/utt2sha256", "data/dev/utt2lang"]
)
def test_what_cannot_be_read_is_no_other(path, exp):
    """A disk that is away, downloads that were cleared: no reason to remove hours of work."""
    (exp / path).unlink()
    with pytest.raises(InputError, match=rf"{path}: No such file or directory"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


def test_nor_is_a_note_that_cannot_be_read(exp):
    (exp / "kd/start").unlink()
    (exp / "kd/start").mkdir()
    with pytest.raises(InputError, match="kd/start: Is a directory"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


def test_nor_is_one_of_the_users(exp):
    (exp / "kd/start").write_text("mine\n")
    with pytest.raises(InputError, match=r"kd/start: is no note of a stage: remove .*/kd, which"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


def test_of_a_folder_without_a_note_it_is_assumed(exp):
    (exp / "kd/start").unlink()
    assert begin(exp) and begin(exp)
