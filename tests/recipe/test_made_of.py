"""Folders that go when they are made of something else, and only then."""

import subprocess

import pytest

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.recipe.made_of import make_way


@pytest.fixture
def exp(tmp_path):
    """Windows, a start and a teacher, and a training half done."""
    for part in ("train", "dev"):
        windows(tmp_path, part, "hello")
    (tmp_path / "start.pth").write_text("start")
    (tmp_path / "teacher.pt").write_text("teacher")
    (tmp_path / "kd").mkdir()
    noted = "cat data/{train,dev}/{utt2sha256,text,utt2lang} | cksum; cksum < start.pth; "
    noted += "cksum < teacher.pt"
    said = subprocess.run(["bash", "-c", noted], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "kd/start").write_bytes(said.stdout)
    (tmp_path / "kd/checkpoint.pth").write_text("hours of work")
    return tmp_path


def windows(exp, part, text):
    data = KaldiDir()
    data.add("u", "u.wav", text, "u", "en", utt2sha256=part)
    data.save(exp / "data" / part)


def begin(exp, **options):
    files = [exp / "start.pth", exp / "teacher.pt"]
    make_way(exp / "kd", "start", exp / "data", files, **options)
    assert (exp / "kd/start").read_text().count("\n") == 3
    return (exp / "kd/checkpoint.pth").exists()


def test_the_same_goes_on_and_another_goes(exp):
    assert begin(exp)
    windows(exp, "dev", "other words")
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


@pytest.mark.parametrize("table", ["text", "utt2lang", "utt2sha256"])
def test_nor_is_a_table_that_breaks_off(table, exp):
    (exp / "data/train" / table).write_text("")
    with pytest.raises(InputError, match=rf"data/train/{table}: no line for u$"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


def test_nor_is_a_note_that_cannot_be_read(exp):
    (exp / "kd/start").unlink()
    (exp / "kd/start").mkdir()
    with pytest.raises(InputError, match="kd/start: Is a directory"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


@pytest.mark.parametrize("note", ["mine\n", "", "1 2\n3 4\n", "1 2\n3 4\n5 6"])
def test_nor_is_one_of_the_users_or_one_that_breaks_off(note, exp):
    (exp / "kd/start").write_text(note)
    with pytest.raises(InputError, match=r"kd/start: is no note of a stage: remove .*/kd, which"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


def test_of_a_folder_without_a_note_it_is_assumed(exp):
    (exp / "kd/start").unlink()
    assert begin(exp) and begin(exp)
