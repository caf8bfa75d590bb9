"""Datasets of Hugging Face on the disk, in the layouts of the Hub and of `save_to_disk`."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError
from local import hf_dataset
from tests.data import small_corpora as small
from tests.data.small_corpora import NAMES, hub, saved, table


@pytest.fixture(scope="module")
def sounds(clips, tmp_path_factory):
    """Bytes of a clip as WAV, FLAC and Ogg."""
    return small.sounds(clips[0][0], tmp_path_factory.mktemp("sounds") / "x")


@pytest.fixture
def rows(sounds):
    """Rows of each split; train has what can be wrong in one."""
    return small.rows_of(sounds)


def options(root, tmp_path, *more):
    columns = ["--text_column", "sentence", "--language_column", "language"]
    return ["--data_root", str(root), "--out", str(tmp_path / "out"), *(more or columns)]


@pytest.mark.parametrize("layout", [hub, saved])
def test_rows_become_utterances(tmp_path, rows, sounds, layout):
    root = layout(tmp_path / "in", rows, sounds)
    columns = ["--text_column", "sentence", "--language_column", "language"]
    given = options(root, tmp_path, *columns, "--speaker_column", "speaker_id")
    assert hf_dataset.main(given) == 0
    out = tmp_path / "out"
    data = validate(out / "train")
    ids = ["0-train-00000-0000000", "1-train-00000-0000001", "2-train-00000-0000002"]
    assert sorted(data.text) == [*ids, "5-train-00000-0000005"]
    assert data.text[ids[0]] == "Hello, there." and data.text[ids[1]] == "Grüß dich"
    assert [data.utt2lang[u] for u in ids] == ["en", "de", "pl"]
    assert data.utt2spk[ids[2]] == "2"
    written = {p.name: p.read_bytes() for p in (out / "audio").iterdir()}
    assert written["train-00000-0000001.ogg"] == sounds["ogg"]
    assert written["train-00000-0000002.wav"] == sounds["wav"]
    report = json.loads((out / "report.json").read_text())
    assert report["en"]["left_out"] == {
        "a path out of the corpus's folder": 1,
        "empty text": 1,
        "no audio in the row": 1,
        "unreadable audio": 1,
    }
    assert report["ga-IE"]["left_out"] == {"not a language of Whisper": 1}
    assert report["unknown"]["left_out"] == {"not a language of Whisper": 1}
    assert [p for p in tmp_path.rglob("evil*")] == []
    # A second run writes no audio again, but for a file that was killed half-way.
    half = out / "audio/train-00000-0000001.ogg"
    half.write_bytes(sounds["ogg"][:99])
    before = {p: p.stat().st_mtime_ns for p in (out / "audio").iterdir()}
    hf_dataset.main(given)
    assert half.read_bytes() == sounds["ogg"]
    assert {p: p.stat().st_mtime_ns for p in before if p != half} == {
        p: t for p, t in before.items() if p != half
    }


def test_folders_of_splits_and_one_language(tmp_path, rows):
    root = tmp_path / "in"
    for split, name in NAMES.items():
        folder = root / "german" / (f"{name}.clean" if split == "train" else name)
        folder.mkdir(parents=True)
        pq.write_table(table(rows[split][:1]), folder / "0000.parquet")
    fixed = ("--text_column", "sentence", "--language", "German")
    hf_dataset.main(options(root, tmp_path, *fixed))
    assert set(validate(tmp_path / "out/test").utt2lang.values()) == {"de"}
    shutil.copytree(root / "german", root / "polish")
    with pytest.raises(InputError, match=r"several datasets \(german, polish\)"):
        hf_dataset.main(options(root, tmp_path, *fixed))


def test_texts_that_stand_once_in_a_dictionary(tmp_path, rows):
    """As pandas writes its categories."""
    content = table(rows["train"][:1])
    place = content.column_names.index("language")
    coded = content.column("language").dictionary_encode()
    (tmp_path / "in").mkdir()
    for split in NAMES.values():
        pq.write_table(
            content.set_column(place, "language", coded), tmp_path / f"in/{split}-0.parquet"
        )
    assert pq.read_schema(tmp_path / f"in/{split}-0.parquet").field("language").type != "string"
    hf_dataset.main(options(tmp_path / "in", tmp_path))
    assert set(validate(tmp_path / "out/test").utt2lang.values()) == {"en"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--language", "ga"], "--language ga: not a language of Whisper"),
        (["--language", "en"], "no column 'text' .it has audio, sentence"),
        (["--language", "en", "--text_column", "speaker_id"], "'speaker_id' does not hold text"),
        (["--language", "en", "--audio_column", "sentence"], "'sentence' does not hold audio"),
        (["--language_column", "lang", "--text_column", "sentence"], "no column 'lang'"),
    ],
)
def test_wrong_columns(tmp_path, rows, sounds, given, said):
    root = hub(tmp_path / "in", rows, sounds)
    with pytest.raises(InputError, match=said):
        hf_dataset.main(options(root, tmp_path, *given))
    assert not (tmp_path / "out").exists()


def test_broken_datasets(tmp_path, rows, sounds):
    root = hub(tmp_path / "hub", rows, sounds)
    (file,) = root.rglob("test-*.parquet")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"test-00000-of-00001\.parquet: "):
        hf_dataset.main(options(root, tmp_path))
    file.unlink()
    with pytest.raises(InputError, match="no parquet or arrow files of the split test"):
        hf_dataset.main(options(root, tmp_path))
    root = saved(tmp_path / "saved", rows, sounds)
    file = root / "validation/data-00000-of-00001.arrow"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"data-00000-of-00001\.arrow: "):
        hf_dataset.main(options(root, tmp_path))
    for state, said in (({}, "not as save_to_disk"), ("../x.arrow", "elsewhere")):
        names = {"_data_files": [{"filename": state}]} if state else state
        (root / "validation/state.json").write_text(json.dumps(names))
        with pytest.raises(InputError, match=said):
            hf_dataset.main(options(root, tmp_path))
