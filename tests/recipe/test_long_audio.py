"""The files that benchmarks/long_audio.py makes hold the clips in order, with pauses."""

import numpy as np
import pytest
import soundfile

import long_audio
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError


def test_clips_in_the_order_of_their_texts(tmp_path):
    data = KaldiDir()
    for k in range(1, 5):
        save_wav(tmp_path / f"{k}.wav", np.full(16000, k / 8, np.float32))
        data.wav[f"u{k}"], data.text[f"u{k}"] = str(tmp_path / f"{k}.wav"), str(k)
        data.utt2lang[f"u{k}"] = "ru" if k == 4 else "en"
    texts = long_audio.make(data, "en", 0.4, tmp_path / "long.wav")
    audio, rate = soundfile.read(tmp_path / "long.wav")
    assert rate == 16000 and 24 <= len(audio) / rate < 28 and set(texts) == {"1", "2", "3"}
    loud = np.round(8 * audio).astype(int)
    changes = loud[np.flatnonzero(np.diff(loud, prepend=0))]
    assert [str(x) for x in changes if x] == texts
    with pytest.raises(InputError, match="--language fr: no clips"):
        long_audio.make(data, "fr", 0.1, tmp_path / "none.wav")
