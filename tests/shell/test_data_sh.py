"""local/data.sh, run as a user runs it; nothing is downloaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_dq.data.corpora import CORPORA
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.validation import faults

DATA_SH = Path(__file__).resolve().parents[2] / "local/data.sh"


def data_sh(*arguments, cwd, **env):
    return subprocess.run(
        ["bash", str(DATA_SH), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def corpus(tmp_path):
    """A user's folders, with spaces and relative paths, in a language of their own."""
    root = tmp_path / "my corpus"
    for name in ("train", "dev", "test"):
        data = KaldiDir()
        for i in range(2):
            audio = root / "audio" / f"{name} {i}.flac"
            audio.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(audio, np.random.default_rng(i).normal(0, 0.1, 48000), 16000)
            utt = f"ann-{name}{i}"
            data.add(utt, f"audio/{audio.name}", f"Habari {name} {i}", "ann", "sw")
        data.save(root / name)
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_own_folders(corpus, tmp_path):
    (corpus / "audio/train 1.flac").write_bytes(b"")
    done = data_sh(
        "--corpus", "kaldi", "--data_root", corpus, "--out", tmp_path / "out", cwd=corpus
    )
    assert done.returncode == 0, done.stderr
    for name in ("train", "dev", "test"):
        assert faults(tmp_path / "out" / name) == []
    assert KaldiDir.load(tmp_path / "out/test").wav == {
        f"ann-test{i}": str(corpus / f"audio/test {i}.flac") for i in range(2)
    }
    assert json.loads((tmp_path / "out/report.json").read_text()) == {
        "sw": {
            "train": 1,
            "dev": 2,
            "test": 2,
            "minutes": 0.25,
            "left_out": {"empty audio": 1},
        }
    }
    assert "left out 1: empty audio" in done.stdout
    assert "train 1.flac" in done.stdout + done.stderr
    listed = (tmp_path / "out/left_out.tsv").read_text().splitlines()
    assert len(listed) == 2 and listed[1].startswith("ann-train1\tsw\tempty audio\t")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_one_folder_for_each_split(corpus, tmp_path):
    (corpus / "test").rename(tmp_path / "elsewhere")
    own = ("--corpus", "kaldi", "--train", "train", "--dev", "dev")
    done = data_sh(*own, "--test", tmp_path / "elsewhere", "--out", "out", cwd=corpus)
    assert done.returncode == 0, done.stderr
    assert len(KaldiDir.load(corpus / "out/test").wav) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_file_of_paths_and_texts(corpus, tmp_path):
    audio = sorted((corpus / "audio").iterdir())
    rows = "".join(f"audio/{path.name},Habari {path.stem}\n" for path in audio)
    (corpus / "my table.csv").write_text(f"file,text\n{rows}")
    own = ("--corpus", "csv", "--data_root", "my table.csv", "--language", "Swahili")
    done = data_sh(
        *own, "--audio_column", "file", "--split", "1/1/1", "--out", tmp_path / "out", cwd=corpus
    )
    assert done.returncode == 0, done.stderr
    assert sum(len(KaldiDir.load(tmp_path / "out" / x).wav) for x in ("train", "dev", "test")) == 6
    done = data_sh(*own, "--out", tmp_path / "none", cwd=corpus)
    assert done.returncode == 2 and "name it with --audio_column" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_broken_folder_is_refused(corpus, tmp_path):
    (corpus / "dev/utt2lang").write_text("ann-dev0 sw\nann-dev1 klingon\n")
    done = data_sh(
        "--corpus", "kaldi", "--data_root", corpus, "--out", tmp_path / "out", cwd=corpus
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "dev/utt2lang: 'ann-dev1'" in last and "klingon" in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_own_folders_are_not_overwritten(corpus):
    done = data_sh("--corpus", "kaldi", "--data_root", ".", "--out", ".", cwd=corpus)
    assert done.returncode == 2 and "would overwrite" in done.stderr
    assert faults(corpus / "train") != [] or (corpus / "train/text").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--what"], "unknown option: --what"),
        (["--corpus"], "--corpus needs a value"),
        (["--corpus", "timit"], "unknown corpus: timit"),
        (["--corpus", "kaldi"], "needs --data_root"),
        (["--corpus", "fleurs"], "needs --data_root"),
        (["--corpus", "kaldi", "--language", "it"], "needs --data_root"),
        (["--corpus", "kaldi", "--data_root", "/nope"], "--data_root /nope: no such folder"),
        (["--corpus", "csv", "--data_root", "/nope"], "/nope: no such file or folder"),
        (["--corpus", "aishell", "--data_root", "no pe"], "--data_root no pe: no such folder"),
        (["--corpus", "kaldi", "--dev", "/nope"], "--dev /nope: no such file or folder"),
        (["--data_root", "x"], "--data_root goes with a corpus of your own"),
        (["--corpus", "debian7", "--allow_pipes"], "--allow_pipes goes with a corpus of"),
        (["--nj", "0"], "--nj must be"),
        (["--nj", "two"], "--nj must be"),
    ],
)
def test_wrong_use(tmp_path, arguments, said):
    done = data_sh(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_help_names_each_option(tmp_path):
    done = data_sh("--help", cwd=tmp_path, PYTHON="/nonexistent")
    assert done.returncode == 0
    own = ("allow_pipes", "language", "languages", "audio_column", "split")
    for option in ("corpus", "data_root", "train", *own, "out", "downloads", "nj", "help"):
        assert f"--{option} " in done.stdout


@pytest.mark.slow
def test_each_corpus_has_its_script_and_a_place_in_the_docs(tmp_path):
    """What data.sh and the recipe's --help promise is there, and runs as far as its arguments."""
    root = DATA_SH.parents[1]
    docs = (root / "docs/corpora.md").read_text()
    scripts = {p.stem for p in root.glob("local/*.py") if "def main" in p.read_text()}
    assert {s for corpus in CORPORA.values() for s in corpus.scripts} == scripts - {"split"}
    for name, corpus in CORPORA.items():
        assert f"--corpus {name} " in docs or not corpus.own
        assert name in data_sh("--help", cwd=tmp_path).stdout
    done = data_sh("--corpus", "mls", "--data_root", "none", "--nj", "2", cwd=tmp_path)
    assert done.returncode == 2 and "--data_root none: no such folder" in done.stderr
    done = data_sh("--corpus", "mls", "--data_root", ".", "--allow_pipes", cwd=tmp_path)
    assert done.returncode == 2 and "unrecognized arguments: --allow_pipes" in done.stderr
