"""Audio is decoded again when its source is another, whatever its time, and only then."""

import gzip
import io
import os
import tarfile

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data
from espnet_dq.data.audio import load_audio
from espnet_dq.data.corpus import Clip, prepare
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.listing import unpack
from espnet_dq.data.segments import Segment

TIME = 1_000_000_000  # seconds; the packages of a distribution have all but one


def sound(path, seed, rate=8000):
    """16-bit noise: the same size for each seed."""
    samples = np.random.default_rng(seed).normal(0, 0.1, 2 * rate)
    soundfile.write(path, samples, rate)
    os.utime(path, (TIME, TIME))
    return path


def folders(tmp_path, wav, segment=None):
    """The splits of stage 1, of which train has the entry `wav`."""
    for split in ("train", "dev", "test"):
        entry = wav if split == "train" else str(sound(tmp_path / f"{split}.wav", ord(split[0])))
        utt = f"u-{split}"
        data = KaldiDir({utt: entry}, {utt: f"Text of {split}."}, {utt: utt}, {utt: "en"})
        if segment:
            data.segments = {utt: segment if split == "train" else Segment(f"r-{split}")}
        data.save(tmp_path / "data" / split)


def formatted(tmp_path):
    """The audio of train after stage 2, and its file's number."""
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "dump")]
    format_data.main([*options, "--allow_pipes"])
    path = KaldiDir.load(tmp_path / "dump/train").wav["u-train"]
    return load_audio(path), os.stat(path).st_ino


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "segment", "cat ", "cat <", "cat;cat <"])
def test_stage_2(kind, tmp_path):
    source = sound(tmp_path / "x.wav", 0)
    wav = f"{kind}'{source}'|" if kind.startswith("cat") else str(source)
    folders(tmp_path, wav, Segment("r", 0.5, 1.5) if kind == "segment" else None)
    first, number = formatted(tmp_path)
    assert formatted(tmp_path)[1] == number  # not decoded again
    source.touch()
    assert formatted(tmp_path)[1] == number
    size = source.stat().st_size
    sound(source, 1)
    assert source.stat().st_size == size and source.stat().st_mtime == TIME
    second, _ = formatted(tmp_path)
    assert len(first) == len(second) and not np.allclose(first, second, atol=0.01)
    sound(source, 0)
    assert np.array_equal(formatted(tmp_path)[0], first)


def test_the_default_corpus(tmp_path):
    source = sound(tmp_path / "x.wav", 0)
    clips = [Clip("en", "vm/one", "voice", source, "Say some words")]

    def prepared():
        prepare("tiny", clips, {}, tmp_path / "out")
        return load_audio(KaldiDir.load(tmp_path / "out/parts/tiny").wav["voice-vm-one"])

    first = prepared()
    sound(source, 1)
    assert not np.allclose(first, prepared(), atol=0.01)


def test_archives(tmp_path):
    def pack(content):
        with (
            gzip.GzipFile(tmp_path / "x.tar.gz", "wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            member = tarfile.TarInfo("a.wav")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        os.utime(tmp_path / "x.tar.gz", (TIME, TIME))

    pack(b"one")
    folder = unpack(tmp_path / "x.tar.gz", tmp_path / "out/train")
    number = (folder / "a.wav").stat().st_ino
    again = unpack(tmp_path / "x.tar.gz", tmp_path / "out/train")
    assert again == folder and (folder / "a.wav").stat().st_ino == number
    pack(b"two")
    folder = unpack(tmp_path / "x.tar.gz", tmp_path / "out/train")
    assert (folder / "a.wav").read_bytes() == b"two"
