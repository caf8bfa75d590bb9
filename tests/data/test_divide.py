"""A corpus of one's own is divided: no speaker, text or piece is in two splits."""

import itertools

import numpy as np
import pytest

from espnet_dq.data.formatting import check_disjoint
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import SEAM, Segment, runs
from espnet_dq.data.splits import divide, shares

SPLITS = ("train", "dev", "test")


def corpus(speakers, texts, repeat=1):
    """Utterances of each speaker (None: not known) with each text, `repeat` times."""
    data = KaldiDir()
    for n in range(repeat):
        for speaker in speakers:
            for text in texts:
                utt = f"{speaker or 'utt'}-{text.replace(' ', '-')}-{n}"
                data.add(utt, f"/{utt}.wav", f"{text}{'!' * n}", speaker or utt, "en")
    return data


def places(splits, table):
    """Value of a table -> splits that it is in."""
    found = {}
    for split, data in splits.items():
        for value in getattr(data, table).values():
            found.setdefault(value, set()).add(split)
    return found


@pytest.mark.parametrize("count", [3, 4, 7, 40])
def test_no_speaker_is_in_two_splits(count, capsys):
    speakers = [f"s{i}" for i in range(count)]
    splits = divide(corpus(speakers, ["One", "Two"]))
    found = places(splits, "utt2spk")
    assert found.keys() == set(speakers) and all(len(of) == 1 for of in found.values())
    assert all(splits[name].wav for name in SPLITS)
    said = capsys.readouterr().out
    assert said.startswith("split 80/10/10 by speaker: train ") and said.count("\n") == 1
    again = divide(corpus(speakers[::-1], ["Two", "One"]))
    assert all(again[name].wav.keys() == splits[name].wav.keys() for name in SPLITS)


def test_uneven_splits_are_said(capsys):
    """A speaker is in one split, however much is theirs, and a language with its only speaker."""
    data = KaldiDir()
    for speaker, count, lang in (("a", 3, "de"), ("b", 90, "de"), ("c", 2, "de"), ("d", 4, "fr")):
        for n in range(count):
            data.add(f"{speaker}-{n:02d}", f"/{speaker}{n}.wav", f"Text {n}", speaker, lang)
    splits = divide(data)
    said = capsys.readouterr().err
    for name in SPLITS:
        missing = {"de", "fr"} - {*splits[name].utt2lang.values()}
        for lang in missing:
            assert f"warning: {name} has nothing in {lang}: " in said
    assert "warning: train has 6% of the utterances, not 80%" in said
    assert said.count("nothing in fr") == 2
    divide(corpus([f"s{i}" for i in range(40)], ["One", "Two"]))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("speakers", [["a", "b"], [None]])
def test_no_text_is_in_two_splits(speakers):
    """Too few speakers, or none: the same words twice are one text, whatever their spelling."""
    splits = divide(corpus(speakers, [f"Text {i}" for i in range(30)], repeat=3))
    found = {}
    for text, of in places(splits, "text").items():
        found.setdefault(text.rstrip("!"), set()).update(of)
    assert len(found) == 30 and all(len(of) == 1 for of in found.values())


def test_who_has_no_name_goes_by_text():
    data = corpus(["a", "b", "c", "d"], ["One"])
    data.update(corpus([None], [f"Text {i}" for i in range(20)], repeat=2))
    splits = divide(data)
    assert sum(len(of.wav) for of in splits.values()) == 44
    texts = {}
    for text, of in places(splits, "text").items():
        texts.setdefault(text.rstrip("!"), set()).update(of)
    assert all(len(of) == 1 for text, of in texts.items() if text != "One")


@pytest.mark.parametrize("by", ["speaker", "text"])
def test_what_is_added_moves_nothing(by):
    names = [f"s{i}" for i in range(60)]
    made = (lambda x, n: corpus(x, ["A"], n)) if by == "speaker" else (
        lambda x, n: corpus([None], x, n)
    )  # fmt: skip
    before, after = divide(made(names, 1)), divide(made([*names, *(f"t{i}" for i in range(99))], 3))
    for name in SPLITS:
        assert before[name].wav.keys() < after[name].wav.keys()


def test_shares():
    splits = divide(corpus([None], [f"Text {i}" for i in range(4000)]), shares("60/30/10"))
    # Four standard deviations of 4000 draws: 4 sqrt(0.6 0.4 / 4000) = 0.031 at most.
    for name, share in zip(SPLITS, (0.6, 0.3, 0.1), strict=True):
        assert abs(len(splits[name].wav) / 4000 - share) < 0.031


def test_an_utterance_without_a_text_fills_no_split():
    data = corpus([None], ["One", "Two", "Three"])
    for i in range(20):
        data.add(f"empty{i}", f"/{i}.wav", "", f"empty{i}", "en")
    splits = divide(data)
    assert [len(splits[name].wav) for name in SPLITS] == [21, 1, 1]


def test_pieces_of_a_recording_that_overlap_are_in_one_split():
    """Cut with what is around them, or with times that are rounded, they need not be."""
    data, random = KaldiDir(), np.random.default_rng(0)
    for i in range(60):
        a, b = 10 * i - 0.1, 10 * i + 10.1
        data.add(f"seam{i}", "/talk.wav", f"Text {i}", f"seam{i}", "en", Segment("x", max(a, 0), b))
    for i in range(30):  # three times the same sound under other texts
        for k in range(3):
            start = 100 * i + float(random.uniform(0, 2))
            utt = f"same{i}-{k}"
            data.add(utt, "/call.wav", f"Words {i} {k}", utt, "en", Segment("y", start, start + 9))
    for i in range(30):
        data.add(f"one{i}", f"/{i}.wav", f"Once {i}", f"one{i}", "en")
        data.add(f"two{i}", f"/{i}.wav", f"Twice {i}", f"two{i}", "en")
    splits = divide(data)
    check_disjoint(splits)
    of = {utt: name for name, part in splits.items() for utt in part.wav}
    assert all(len({of[f"same{i}-{k}"] for k in range(3)}) == 1 for i in range(30))
    assert all(of[f"one{i}"] == of[f"two{i}"] for i in range(30))
    assert {of[f"seam{i}"] for i in range(60)} == set(SPLITS)


def test_runs_are_those_of_every_pair():
    """Against all pairs: in common beyond a seam, or half of the later part."""
    random = np.random.default_rng(0)
    for _ in range(200):
        count = int(random.integers(2, 12))
        starts = np.round(random.uniform(0, 12, count), 1)
        parts = [
            Segment("x", float(s), float(s + d), int(c) if c < 2 else None)
            for s, d, c in zip(starts, np.round(random.uniform(0.2, 4, count), 1),
                               random.integers(0, 4, count), strict=True)
        ]  # fmt: skip
        joined = {k: {k} for k in range(count)}
        for i, j in itertools.permutations(range(count), 2):
            one, other = parts[i], parts[j]
            channels = {one.channel, other.channel}
            later = (other.start, j) > (one.start, i)
            common = min(one.end, other.end) - other.start
            if (
                later
                and (len(channels) == 1 or None in channels)
                and common > min(SEAM, (other.end - other.start) / 2)
            ):
                whole = joined[i] | joined[j]
                for k in whole:
                    joined[k] = whole
        expected = {tuple(sorted(run)) for run in joined.values()}
        assert {tuple(sorted(run)) for run in runs(parts)} == expected
