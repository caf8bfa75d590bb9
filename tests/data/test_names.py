"""Names that no Kaldi table, file system or UTF-8 can hold: one fault each, never a traceback."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from espnet_dq.data.audio import load_audio, seconds
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import KaldiDir, scan
from espnet_dq.data.listing import Listing, write_listing
from espnet_dq.data.names import key_fault, path_fault
from espnet_dq.data.validation import faults
from local import common_voice, hf_dataset, lhotse_cuts

KEYS = {
    "NUL": "a\0b",
    "surrogate": "a\ud800b",
    "undecoded byte": "a\udcff",
    "mark": "\ufeffab",
    "mark inside": "a\ufeffb",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph": "a\u2029b",
    "group separator": "a\x1db",
    "line end": "a\nb",
    "return": "a\rb",
    "tab": "a\tb",
    "wide space": "a\u3000b",
    "empty": "",
}
PATHS = {
    "NUL": "/a\0b.wav",
    "surrogate": "/a\ud800.wav",
    "undecoded byte": "/a\udcff.wav",
    "long name": f"/{'x' * 256}.wav",
    "long name of two bytes": f"/{'é' * 126}.wav",
    "long path": "/x" * 2100 + ".wav",
    "line end": "/a\nb.wav",
    "return": "/a\rb.wav",
    "space before": " /a.wav",
    "wide space behind": "/a.wav\u3000",
}


def clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    return path


def filled(tmp_path):
    """A listing with a good utterance in each split."""
    listing = Listing()
    for split in listing.splits:
        path = clip(tmp_path / f"{split}.wav")
        listing.add(split, f"good-{split}", "en", None, f"Good {split}.", path, "good")
    return listing


def report(out):
    return json.loads((out / "report.json").read_text())["en"]


@pytest.mark.parametrize("name", KEYS)
def test_keys(name, tmp_path):
    assert key_fault(KEYS[name])
    listing, wav = filled(tmp_path), tmp_path / "train.wav"
    listing.add("train", KEYS[name], "en", None, "Text.", wav, "row 1")
    if name != "empty":  # which means that the speaker is not known
        listing.add("train", "utt", "en", KEYS[name], "Text.", wav, "row 2")
    listing.skip(f"lang{KEYS[name]}", "unknown", f"row {KEYS[name]}", KEYS[name])
    write_listing(listing, tmp_path / "out")
    assert report(tmp_path / "out")["left_out"] == {"a broken row": 2 - (name == "empty")}


@pytest.mark.parametrize("name", PATHS)
def test_paths(name, tmp_path):
    assert path_fault(PATHS[name])
    listing = filled(tmp_path)
    listing.add("train", "utt", "en", None, "Text.", Path(PATHS[name]), "row 1")
    write_listing(listing, tmp_path / "out")
    assert report(tmp_path / "out")["left_out"] == {"a broken row": 1}
    with pytest.raises(AudioFault) as error:
        load_audio(PATHS[name])
    assert error.value.cause == "no such audio file"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800"])
def test_texts(text, tmp_path):
    listing = filled(tmp_path)
    listing.add("train", "utt", "en", None, text, tmp_path / "train.wav", "row 1")
    write_listing(listing, tmp_path / "out")
    assert report(tmp_path / "out")["left_out"] == {"a broken row": 1}


@pytest.mark.parametrize("good", ["a/b", "..", ".", "A", "a", "é" * 300, "a|b", "a\u200bb"])
def test_odd_keys_that_can_be_used(good, tmp_path):
    listing = filled(tmp_path)
    listing.add("train", good, "en", None, "Text.", tmp_path / "train.wav", "row 1")
    write_listing(listing, tmp_path / "out")
    assert (
        good in KaldiDir.load(tmp_path / "out/train").wav
        and not report(tmp_path / "out")["left_out"]
    )


@pytest.mark.parametrize("name", sorted(PATHS.keys() - {"surrogate", "undecoded byte", "line end"}))
def test_paths_in_a_kaldi_folder(name, tmp_path):
    path = clip(tmp_path / "x.wav")
    data = KaldiDir({"a": str(path)}, {"a": "A."}, {"a": "a"}, {"a": "en"})
    data.save(tmp_path / "data")
    (tmp_path / "data/wav.scp").write_text(f"a {PATHS[name]}\n", encoding="utf-8", newline="")
    if name == "space before":
        assert "no such file: /a.wav" in faults(tmp_path / "data")[0]
    else:
        (fault,) = faults(tmp_path / "data")
        assert fault.startswith(f"{tmp_path}/data/wav.scp:1: ")


@pytest.mark.parametrize("name", ["NUL", "mark inside", "next line", "line separator"])
def test_keys_in_a_kaldi_table(name, tmp_path):
    (tmp_path / "text").write_text(f"good x\n{KEYS[name]} x\n", encoding="utf-8")
    entries, (fault,) = scan(tmp_path / "text")
    assert entries == {"good": "x"} and fault.startswith(f"{tmp_path}/text:2: the key ")


def test_links(tmp_path):
    """To themselves, to each other, and to names that no table can hold."""
    listing = filled(tmp_path)
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "one.wav").symlink_to("two.wav")
    (tmp_path / "two.wav").symlink_to("one.wav")
    for name, target in (("line", "a\nb.wav"), ("byte", "a\udcff.wav"), ("space", "a.wav ")):
        clip(tmp_path / "odd.wav").rename(tmp_path / target)
        (tmp_path / f"{name}.wav").symlink_to(target)
    for name in ("self", "one", "line", "byte", "space"):
        listing.add("train", name, "en", None, "Text.", tmp_path / f"{name}.wav", name)
    write_listing(listing, tmp_path / "out")
    assert report(tmp_path / "out")["left_out"] == {"a broken row": 3, "no such audio file": 2}


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "/dev/zero", "/dev/stdin", "link"])
def test_only_regular_files_are_read(kind, tmp_path):
    """A pipe nobody writes to would hang, a device fill the memory."""
    path = tmp_path / "x.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            here = Path.cwd()
            os.chdir(tmp_path)  # the path of a socket is short
            s.bind("x.wav")
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/full" if kind == "link" else kind)
    for read in (load_audio, seconds):
        with pytest.raises(AudioFault) as error:
            read(path)
        assert error.value.cause == "no such audio file"
    data = KaldiDir({"a": str(path)}, {"a": "A."}, {"a": "a"}, {"a": "en"})
    with pytest.raises(Exception, match="no such file"):
        data.audio()
    assert scan(path) == ({}, [f"{path}: no such file"])


def test_lhotse_manifests(tmp_path, capsys):
    for split in ("train", "dev", "test"):
        wav = clip(tmp_path / f"{split}.wav")
        source = {"type": "file", "channels": [0], "source": str(wav)}
        recording = {"id": "r", "duration": 1.0, "sources": [source]}
        said = {"id": f"{split}-1", "start": 0, "duration": 1.0, "text": "Good.", "channel": 0}
        cut = {"type": "MonoCut", "id": "c", "start": 0, "channel": 0, "recording": recording}
        odd = [{"id": key} for key in KEYS.values() if key and not key.isspace()]
        odd += [
            {"speaker": "s\ud800"},
            {"text": "a\ud800"},
            {"text": "a\0b"},
            {"language": "\ud800"},
        ]
        lines = [cut | {"supervisions": [said]}]
        lines += [cut | {"supervisions": [said | {"language": "en"} | x]} for x in odd]
        for path in PATHS.values():
            other = recording | {"sources": [source | {"source": path}]}
            more = said | {"id": f"{split}-2", "language": "en"}
            lines.append(cut | {"recording": other, "supervisions": [more]})
        lines[0]["supervisions"][0]["language"] = "en"
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{split}.jsonl").write_text(content)
    files = [f"--{x}={tmp_path / x}.jsonl" for x in ("train", "dev", "test")]
    lhotse_cuts.main([*files, "--out", str(tmp_path / "out")])
    left_out = json.loads((tmp_path / "out/report.json").read_text())
    assert left_out["en"]["left_out"]["a broken row"] >= 3 * 15
    assert "\\ud800" in left_out and left_out["en"]["train"] >= 1


@pytest.mark.slow
def test_parquet(tmp_path):
    """Strings of Arrow are any bytes."""
    bytes_ = clip(tmp_path / "x.wav").read_bytes()
    texts = [b"Good.", b"a\xff", b"a\xed\xa0\x80", b"a\0b"]
    for split in ("train", "dev", "test"):
        text = pa.array(texts, pa.binary()).view(pa.string())
        speakers = pa.array(["s", "a\0", "a\ufeff", "a\u2028b"])
        audio = pa.array([{"bytes": bytes_, "path": "x\0.wav"}] * 4)
        table = pa.table({"audio": audio, "text": text, "speaker": speakers})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    options = ["--data_root", str(tmp_path), "--language", "en", "--out", str(tmp_path / "out")]
    hf_dataset.main([*options, "--speaker_column", "speaker"])
    found = report(tmp_path / "out")
    assert found["train"] == 1 and found["left_out"] == {"a broken row": 9}


def test_tables_with_tabs(tmp_path):
    folder = tmp_path / "cv/en"
    for split in ("train", "dev", "test"):
        clip(folder / f"clips/{split}.wav")
        names = [f"{split}.wav", "a\0.wav", f"{'x' * 256}.wav", "\ufeff.wav", "a\u2028b.wav"]
        lines = [f"c\t{name}\tGood {split}." for name in names]
        text = "\n".join(["client_id\tpath\tsentence", *lines]) + "\n"
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")
    common_voice.main(["--data_root", str(tmp_path / "cv"), "--out", str(tmp_path / "out")])
    found = report(tmp_path / "out")
    assert found["train"] == 1 and sum(found["left_out"].values()) == 12
