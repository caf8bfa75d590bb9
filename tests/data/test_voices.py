"""Whose voices are scored, as stage 2 says it."""

import pytest

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.voices import Voices


def split(**speakers):
    data = KaldiDir()
    for utt, speaker in speakers.items():
        data.add(utt, f"/{utt}.wav", "a", speaker, "en")
    return data


@pytest.mark.parametrize(
    ("train", "test", "label", "words"),
    [
        ({"a": "x", "b": "y"}, {"c": "x", "d": "y"}, "seen voices", "all 2 speakers of test speak"),
        ({"a": "x"}, {"c": "x"}, "seen voices", "the one speaker of test speaks in train, too: "
         "rates are of seen voices, not of others; train has one speaker"),
        ({"a": "x", "b": "y"}, {"c": "x", "d": "z"}, "some seen voices", "1 of 2 speakers of test"),
        ({"a": "x", "b": "y"}, {"c": "z"}, "other voices", "no speaker of test speaks in train"),
        ({"a": "a", "b": "b"}, {"c": "c"}, "voices not known", "speakers are not known"),
        ({"a": "x", "b": "x"}, {"c": "c"}, "voices not known", "speakers are not known"),
    ],
)  # fmt: skip
def test_voices(train, test, label, words):
    voices = Voices.of(split(**train), split(**test))
    assert voices.label == label and words in str(voices)
