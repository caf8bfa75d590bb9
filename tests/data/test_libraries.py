"""What lhotse and datasets themselves read and write. Needs both: pip install lhotse datasets."""

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data, write_cuts
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment
from espnet_dq.data.validation import validate
from local import hf_dataset, lhotse_cuts

SPLITS = ("train", "dev", "test")


@pytest.fixture
def call(clips, tmp_path):
    """A recording of two channels, one clip in each, and both clips' samples."""
    left, right = (soundfile.read(clip[0], dtype="int16")[0] for clip in clips[:2])
    both = np.zeros((len(left) + len(right), 2), np.int16)
    both[: len(left), 0], both[len(left) :, 1] = left, right
    soundfile.write(tmp_path / "a call.wav", both, 16000)
    return tmp_path / "a call.wav", left, right


def test_lhotse_reads_our_cuts(call, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    path, left, right = call
    middle, end = len(left) / 16000, (len(left) + len(right)) / 16000
    data = KaldiDir()
    parts = {
        "a": Segment("call", 0.0, middle, 0),
        "b": Segment("call", middle, end, 1),
        "c": Segment("call", 0.25, 0.75),
    }
    for utt, part in parts.items():
        data.add(utt, path, f"Текст, {utt}!", utt, "ru", part)
    data.save(tmp_path / "data")
    write_cuts.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "x.jsonl.gz")])
    cuts = lhotse.CutSet.from_file(tmp_path / "x.jsonl.gz")
    lhotse.validate(cuts)
    found = {cut.id: cut for cut in cuts}
    for utt, samples in (("a", left), ("b", right)):
        assert np.array_equal(np.round(found[utt].load_audio()[0] * 32768), samples)
    assert found["c"].load_audio().shape == (2, 8000)
    for utt, cut in found.items():
        (said,) = cut.supervisions
        assert (said.text, said.language, said.speaker) == (data.text[utt], "ru", utt)


def test_we_read_lhotses_cuts(call, clips, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    path, left, right = call
    middle = len(left) / 16000

    def save(split, path, *said):
        recording = lhotse.Recording.from_file(path, recording_id=split)
        said = [lhotse.SupervisionSegment(name, split, *more) for name, *more in said]
        cuts = lhotse.CutSet.from_manifests(
            lhotse.RecordingSet.from_recordings([recording]),
            lhotse.SupervisionSet.from_segments(said),
        ).trim_to_supervisions(keep_overlapping=False)
        faster = cuts.perturb_speed(1.1)  # which the file does not hold
        (cuts + faster).to_file(tmp_path / f"cuts_{split}.jsonl.gz")
        return list(cuts)

    cuts = save(
        "train", path, ("a", 0.0, middle, 0, "Hello.", "English", "anna"),
        ("b", middle, len(right) / 16000, 1, "Ja.", "de", "bob"),
    )  # fmt: skip
    for number, split in enumerate(("dev", "test"), 2):
        save(split, clips[number][0], (split, 0.0, 1.0, 0, f"Of {split}.", "en", "carl"))
    lhotse_cuts.main(["--data_root", str(tmp_path), "--out", str(tmp_path / "data")])
    data = validate(tmp_path / "data/train")
    assert data.text == {"anna-a": "Hello.", "bob-b": "Ja."}
    assert data.utt2lang == {"anna-a": "en", "bob-b": "de"}
    options = ["--max_left_out", "60"]
    format_data.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "dump"), *options])
    heard = KaldiDir.load(tmp_path / "dump/train").wav
    for cut in cuts:
        said = cut.supervisions[0]
        mine, _ = soundfile.read(heard[f"{said.speaker}-{said.id}"], dtype="int16")
        assert np.array_equal(np.round(cut.load_audio()[0] * 32768), mine)


@pytest.mark.parametrize("way", ["save_to_disk", "to_parquet"])
def test_we_read_what_datasets_saves(clips, tmp_path, way):
    datasets = pytest.importorskip("datasets")
    made = {}
    for number, split in enumerate(("train", "validation", "test")):
        paths = [str(clips[number + i][0]) for i in (0, 1)]
        rows = {"audio": paths, "sentence": [f"Text {split} {i}." for i in (0, 1)]}
        rows["language"] = ["en", "de"]
        made[split] = datasets.Dataset.from_dict(rows).cast_column(
            "audio", datasets.Audio(decode=False)
        )
    root = tmp_path / "in"
    if way == "save_to_disk":
        datasets.DatasetDict(made).save_to_disk(str(root))
    else:
        (root / "data").mkdir(parents=True)
        embed = datasets.table.embed_table_storage  # as when it is pushed to the Hub
        for split, data in made.items():
            data = data.with_format("arrow").map(embed, batched=True)
            data.to_parquet(root / f"data/{split}-00000-of-00001.parquet")
    columns = ["--text_column", "sentence", "--language_column", "language"]
    hf_dataset.main(["--data_root", str(root), "--out", str(tmp_path / "out"), *columns])
    for number, (split, given) in enumerate(zip(SPLITS, made, strict=True)):
        data = validate(tmp_path / "out" / split)
        assert sorted(data.text.values()) == [f"Text {given} {i}." for i in (0, 1)]
        for utt, text in data.text.items():
            clip = clips[number + int(text[-2])][0]
            mine, theirs = (soundfile.read(x, dtype="int16")[0] for x in (data.wav[utt], clip))
            assert np.array_equal(mine, theirs)
            assert data.utt2lang[utt] == ("en", "de")[int(text[-2])]
