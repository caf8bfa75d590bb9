"""Folders that go when they are made of something else, and only then."""

import subprocess

import pytest

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.recipe.made_of import make_way


@pytest.fixture
def exp(tmp_path):
    """Windows, a start and a teacher, and a training half done, as dq.sh of before has noted it."""
    for part in ("train", "dev"):
        windows(tmp_path, part, "hello", "en")
    (tmp_path / "start.pth").write_text("start")
    (tmp_path / "teacher.pt").write_text("teacher")
    (tmp_path / "kd").mkdir()
    noted = "cat data/{train,dev}/{utt2sha256,text,utt2lang} | cksum; cksum < start.pth; "
    noted += "cksum < teacher.pt"
    said = subprocess.run(["bash", "-c", noted], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "kd/start").write_bytes(said.stdout)
    (tmp_path / "kd/checkpoint.pth").write_text("hours of work")
    return tmp_path


def windows(exp, part, text, language):
    data = KaldiDir()
    data.add("u", "u.wav", text, "u", language, utt2sha256=part)
    data.save(exp / "data" / part)


def begin(exp, lines=3, **options):
    files = [exp / "start.pth", exp / "teacher.pt"]
    make_way(exp / "kd", "start", exp / "data", files, **options)
    assert (exp / "kd/start").read_text().count("\n") == lines
    return (exp / "kd/checkpoint.pth").exists()


def test_the_same_goes_on_and_another_goes(exp):
    assert begin(exp)
    windows(exp, "dev", "other words", "en")
    assert not begin(exp)
    (exp / "kd/checkpoint.pth").touch()
    assert begin(exp) and not begin(exp, anew=True)
    assert sorted(path.name for path in exp.iterdir()) == ["data", "kd", "start.pth", "teacher.pt"]


def test_what_was_made_of_other_tokens_goes(exp):
    """Texts that older versions began with a space, which their notes do not say."""
    note = (exp / "kd/start").read_text()
    windows(exp, "train", "你好", "zh")
    assert not begin(exp, lines=4)  # nor is it the same data
    now = (exp / "kd/start").read_text()
    assert now.endswith("\n1 0\n") and now.count("\n") == note.count("\n") + 1
    (exp / "kd/start").write_text(now.removesuffix("1 0\n"))
    (exp / "kd/checkpoint.pth").touch()
    assert not begin(exp, lines=4)
    (exp / "kd/checkpoint.pth").touch()
    assert begin(exp, lines=4)


@pytest.mark.parametrize(
    "path", ["start.pth", "teacher.pt", "data/train/utt2sha256", "data/dev/utt2lang"]
)
def test_what_cannot_be_read_is_no_other(path, exp):
    """A disk that is away, downloads that were cleared: no reason to remove hours of work."""
    (exp / path).unlink()
    with pytest.raises(InputError, match=rf"{path}: No such file or directory"):
        begin(exp)
    assert (exp / "kd/checkpoint.pth").exists()


@pytest.mark.parametrize("table", ["text", "utt2lang"])
def test_nor_is_a_table_that_breaks_off(table, exp):
    (exp / "data/train" / table).write_text("v another\n")
    with pytest.raises(InputError, match=r"data/train/\w+: no line for [uv]$"):
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
