"""bin.transcribe: files of any kind and length, language given or not."""

import re

import jiwer
import numpy as np
import pytest
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.bin.transcribe import main
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.errors import InputError


def words(text):
    return BasicTextNormalizer()(text)


@pytest.fixture
def long_audio(clips, tmp_path):
    """Two English clips, 35 s apart, and their words."""
    english = [(load_audio(path), text) for path, lang, text in clips if lang == "en"][:2]
    quiet = np.zeros(35 * SAMPLE_RATE, np.float32)
    path = tmp_path / "long.wav"
    save_wav(path, np.concatenate([english[0][0], quiet, english[1][0]]))
    return path, [words(text) for _, text in english]


def test_long_audio_is_heard_to_its_end(long_audio, source_files, capsys):
    path, (first, last) = long_audio
    assert main([str(path), "--model", str(source_files["base"]), "--timestamps"]) == 0
    lines = capsys.readouterr().out.splitlines()
    stamps = [re.fullmatch(r"\[0:00:(\d\d\.\d\d) -> 0:00:(\d\d\.\d\d)\] (.+)", x) for x in lines]
    assert all(stamps)
    assert jiwer.cer(first, words(stamps[0][3])) < 0.4
    assert jiwer.cer(last, words(stamps[-1][3])) < 0.4
    assert float(stamps[-1][1]) >= 30


def test_several_files_one_of_them_bad(clips, weights_dir, tmp_path, capsys):
    path, _, text = next(clip for clip in clips if clip[1] == "es")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    model = str(weights_dir / "base.pt")
    code = main([str(tmp_path / "bad.wav"), str(path), "--model", model])
    out, err = capsys.readouterr()
    assert code == 2 and f"{tmp_path}/bad.wav: " in err
    name, heard = out.rstrip("\n").split("\t")
    assert name == str(path)
    assert jiwer.wer(words(text), words(heard)) < 0.4  # only if the language is detected


def test_unknown_language_is_refused(toy_models):
    with pytest.raises(InputError, match="--language tlh"):
        main(["a.wav", "--model", str(toy_models["torch"]), "--language", "tlh"])
