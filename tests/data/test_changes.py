"""Whether a corpus that the user has is as stage 1 read it, for each that the recipe knows."""

import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from espnet_dq.bin.make_data import main
from espnet_dq.data.audio import save_wav
from espnet_dq.data.changes import Record
from espnet_dq.data.corpora import CORPORA
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.stage_1 import AGAIN
from espnet_dq.errors import InputError
from tests.data import small_corpora as small
from tests.toys import save_corpus

LOCAL = Path(__file__).parents[2] / "local"
# Stage 1 of folders that need no change.
COPY = ["bash", "-ec", 'cp -r "$2"/. "$4"; touch "$4/left_out.tsv"', "-"]


class Source:
    """A corpus, its data, and an experiment that was made of them."""

    def __init__(self, folder: Path, stage_1: list, root: Path, *options: str):
        self.root, self.out, self.exp = root, folder / "data", folder / "exp"
        for path in (self.out, self.exp):
            path.mkdir(parents=True, exist_ok=True)
        self.command = ["--", *map(str, stage_1), "--data_root", str(root), *options]
        self.make()

    def make(self) -> None:
        """Stage 1, and of stage 2 what it keeps for the experiment."""
        assert main(["--out", str(self.out), *self.command]) == 0
        shutil.copy(self.out / "source.jsonl", self.exp)

    def compare(self, *options: str) -> None:
        options = "--out", str(self.out), "--exp", str(self.exp), *options
        before = sorted(self.exp.iterdir())
        try:
            main([*options, *self.command])
        finally:
            assert sorted(self.exp.iterdir()) == before

    def says(self) -> str:
        with pytest.raises(InputError) as error:
            self.compare()
        said = str(error.value)
        assert said.endswith(AGAIN)
        return said


def script(name: str) -> list:
    """One of `local/`, as local/data.sh starts it."""
    return [sys.executable, "-P", LOCAL / f"{name}.py"]


@pytest.mark.parametrize(("student", "knows"), [("tiny", False), ("turbo", True)])
def test_a_language_that_the_student_does_not_know(student, knows, tmp_path):
    """Cantonese, which the first Whispers have no token for, is found before all other work."""
    path = save_corpus(tmp_path / "corpus") / "test/utt2lang"
    path.write_text(path.read_text().replace(" en", " yue", 1))
    out = tmp_path / "data"
    out.mkdir()
    given = ["--out", str(out), "--student", student, "--", *COPY, "--data_root"]
    if knows:
        assert main([*given, str(tmp_path / "corpus")]) == 0
        return
    with pytest.raises(InputError, match=r"utt2lang: .*--student tiny knows no language 'yue'"):
        main([*given, str(tmp_path / "corpus")])


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    save_wav(path, np.random.default_rng(0).normal(0, 0.05, 60000).astype(np.float32))
    return path


def table(root: Path, clip: Path) -> None:
    """metadata.csv, with a path, a folder and a text."""
    shutil.copytree(clip.parent / "wav", root / "clips")
    rows = [f"clips/{p.name},Text {p.stem}" for p in sorted((root / "clips").iterdir())]
    (root / "metadata.csv").write_text("\n".join(["file_name,text", *rows, ""]))


def recordings(root: Path, clip: Path) -> None:
    """Recordings with texts beside."""
    shutil.copytree(clip.parent / "wav", root)
    for path in root.glob("*.wav"):
        path.with_suffix(".txt").write_text(f"Text {path.stem}")


def edit(path: Path, old: str, new: str) -> None:
    """Change a text in a table, in whatever it is written."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path)
        column = rows.schema.get_field_index("sentence")
        changed = pc.replace_substring(rows["sentence"], old, new)
        assert changed != rows["sentence"]
        pq.write_table(rows.set_column(column, "sentence", changed), path)
        return
    gz = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if gz else path.read_bytes()
    assert old.encode() in content
    content = content.replace(old.encode(), new.encode())
    path.write_bytes(gzip.compress(content) if gz else content)


# Corpus -> how it is made, options of its script, and a text in one of its tables.
KINDS = {
    "common_voice": (small.common_voice, [], "sv-SE/dev.tsv", "Text dev"),
    "fleurs": (small.fleurs, [], "data/en_us/dev.tsv", '"raw" Text'),
    "mls": (small.mls, [], "mls_german/dev/transcripts.txt", "das ist"),
    "voxpopuli": (small.voxpopuli, [], "transcribed_data/en/asr_dev.tsv", "Raw, text"),
    "librispeech": (small.librispeech, [], "LibriSpeech/dev-clean/*/*/*.trans.txt", "HELLO"),
    "speechocean762": (small.speechocean762, [], "train/text", "BEAR"),
    "aishell": (small.aishell, [], "data_aishell/transcript/*.txt", "楼市"),
    "csv": (table, ["--language", "en"], "metadata.csv", "Text spk0-000"),
    "recordings": (recordings, ["--language", "en"], "spk0-000.txt", "Text"),
    "kaldi": (small.kaldi, [], "dev/text", "Habari dev 0"),
    "lhotse_cuts": (small.lhotse_cuts, [], "cuts_dev.jsonl.gz", "мир"),
    "hf_dataset": (small.hf_dataset, ["--language_column", "language", "--text_column", "sentence"],
                   "data/validation-*.parquet", "Hello"),
}  # fmt: skip


def test_each_corpus_of_the_users_is_tried():
    assert {*KINDS} - {"recordings"} == {x for x, corpus in CORPORA.items() if corpus.own}


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("kind", KINDS)
def test_a_corrected_word(kind, clip, tmp_path, monkeypatch):
    if kind == "hf_dataset":  # pyarrow does not survive forks
        monkeypatch.delenv("ESPNET_DQ_WARM")
    build, options, place, text = KINDS[kind]
    save_corpus(tmp_path)
    root = tmp_path / "my corpus"
    build(root, clip)
    (name,) = CORPORA["csv" if kind == "recordings" else kind].scripts
    source = Source(tmp_path, script(name), root, *options)
    source.compare()
    path = min(root.glob(place))
    edit(path, text, "Corrected")
    assert "has changed since stage 1 read it: " in (said := source.says())
    assert " with another text (such as " in said and "added" not in said and "audio" not in said


@pytest.fixture
def kaldi(tmp_path):
    return Source(tmp_path, COPY, save_corpus(tmp_path / "src"))


def test_what_has_changed_is_counted(kaldi, tmp_path, capsys):
    root = kaldi.root
    # Copied, or touched: nothing has changed, and the next look is a quick one again.
    for path in root.rglob("*"):
        os.utime(path, ns=(1, 1))
    kaldi.compare()
    assert "another time or size" in capsys.readouterr().err
    kaldi.compare()
    assert not capsys.readouterr().err

    data = KaldiDir.load(root / "train")
    first, second, third, fourth, *_ = sorted(data.wav)
    save_wav(Path(data.wav[first]), np.zeros(16000, np.float32))
    data.text[second] = "another"
    data.utt2lang[fourth] = "de"
    data.add("spk9-new1", data.wav[first], "new", "spk9", "en")
    data.add("spk9-new2", data.wav[first], "new", "spk9", "en")
    data.remove([third])
    data.save(root / "train")
    assert kaldi.says() == (
        f"{root}: has changed since stage 1 read it: 2 recordings added (such as spk9-new1), "
        f"1 recording removed (such as {third}), 1 recording with another text (such as {second}), "
        f"1 recording with other audio (such as {first}), 1 recording with another speaker, "
        f"language or segment (such as {fourth}): --tag NAME makes a new experiment of it, "
        "--stage 1 makes this one again"
    )
    kaldi.compare("--warn")
    assert "has changed since stage 1 read it (" in capsys.readouterr().err


def test_another_experiment_makes_the_data_again(kaldi, tmp_path):
    """Even if the source is then as it was before."""
    text = kaldi.root / "train/text"
    before, mine = text.read_text(), (kaldi.exp / "source.jsonl").read_bytes()
    edit(text, "alpha", "zulu")
    kaldi.make()
    (kaldi.exp / "source.jsonl").write_bytes(mine)
    assert "has changed since stage 1 read it: 4 recordings with another text" in kaldi.says()
    text.write_text(before)
    assert "another experiment has made these data again: 4 recordings with an" in kaldi.says()


def test_a_disk_that_is_not_there(kaldi, tmp_path, capsys):
    """Neither the folder, nor what is in it, nor the audio that its tables name."""
    root, away = kaldi.root, tmp_path / "away"
    (root / "wav").rename(away)
    kaldi.compare()
    shutil.rmtree(root)
    kaldi.compare()
    root.mkdir()
    kaldi.compare()
    said = capsys.readouterr().err.splitlines()
    assert said == [f"warning: {root}: is not there: the data stay as stage 1 read them"] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_what_could_not_be_read_may_be_whole_some_day(tmp_path):
    """Of a table, whose folder is not looked at."""
    save_corpus(tmp_path)
    rows = [f"{p},Text {p.stem}" for p in sorted((tmp_path / "wav").iterdir())]
    file = tmp_path / "mine.csv"
    file.write_text("\n".join(["audio,text", *rows, f"{tmp_path}/late.wav,Late", ""]))
    (tmp_path / "late.wav").write_bytes(b"")
    source = Source(tmp_path, script("table"), file, "--language", "en")
    (tmp_path / "late.wav").unlink()
    source.compare()
    source.make()
    shutil.copy(tmp_path / "wav/spk0-000.wav", tmp_path / "late.wav")
    assert "1 recording added (such as late-" in source.says()


def test_a_record_is_what_was_written(tmp_path):
    (tmp_path / "x").write_text('["file", "a", 1]\n')
    with pytest.raises(InputError, match="x:1: no record of a source"):
        Record.load(tmp_path / "x")
