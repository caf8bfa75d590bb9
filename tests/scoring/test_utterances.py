"""Which utterances and words are wrong, against jiwer's counts and a search by hand."""

import random
from collections import Counter

import jiwer
import pytest

from espnet_dq.errors import InputError
from espnet_dq.scoring.trn import Pair, read_trn, write_trn
from espnet_dq.scoring.utterances import (
    Aligned,
    closest,
    confusions,
    lines,
    most_errors,
    read_aligned,
)

WORDS = ["one", "two", "three", "four", "vier", "(x)", "50%", "a/b", "<space>", "ü\u2028ü", "你"]


def write(folder, pairs, chars=False):
    folder.mkdir()
    for side in ("ref", "hyp"):
        write_trn(folder / f"{side}.trn", pairs, side, chars)
    return folder


@pytest.fixture
def pairs():
    draw, found = random.Random(0), []
    for n in range(60):
        ref = draw.choices(WORDS, k=draw.randint(1, 9))
        hyp = [w if draw.random() > 0.3 else draw.choice(WORDS) for w in ref]
        hyp = [w for w in hyp if draw.random() > 0.1]
        hyp += draw.choices(WORDS, k=draw.choice([0, 0, 2]))
        found.append(Pair(draw.choice(["en", "zh-x"]), f"spk-{n:02d} (x)", ref, hyp))
    return found


def jiwer_of(pairs):
    sides = [" ".join(p.ref) for p in pairs], [" ".join(p.hyp) for p in pairs]
    return jiwer.process_words(*sides)


def edits(ref, hyp):
    """The fewest errors, by the definition alone."""
    row = list(range(len(hyp) + 1))
    for i, a in enumerate(ref, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(hyp, 1):
            last, row[j] = row[j], min(last + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@pytest.mark.parametrize("chars", [False, True])
def test_what_was_written_is_read(tmp_path, pairs, chars):
    if chars:
        pairs = [Pair(p.lang, p.utt, list(" ".join(p.ref)), list(" ".join(p.hyp))) for p in pairs]
    folder = write(tmp_path / "score", pairs, chars)
    for side in ("ref", "hyp"):
        found = read_trn(folder / f"{side}.trn")
        assert found == {p.utt: (p.lang, list(getattr(p, side))) for p in pairs}


def test_columns_are_the_texts_and_errors_the_fewest(tmp_path, pairs):
    aligned = read_aligned(write(tmp_path / "score", pairs))
    counted = jiwer_of(pairs)
    wrong = counted.substitutions + counted.deletions + counted.insertions
    assert sum(x.errors for x in aligned.values()) == wrong > 100
    for pair in pairs:
        found = aligned[pair.utt]
        assert [said for said, _ in found.columns if said is not None] == pair.ref
        assert [heard for _, heard in found.columns if heard is not None] == pair.hyp
        assert found.errors == edits(pair.ref, pair.hyp)
        assert (found.tokens, found.lang) == (len(pair.ref), pair.lang)
        assert (None, None) not in found.columns


def alignments(ref, hyp):
    """All of them, as columns."""
    if not ref or not hyp:
        yield [(r, None) for r in ref] + [(None, h) for h in hyp]
        return
    for a, b in ((1, 1), (1, 0), (0, 1)):
        column = (ref[0] if a else None, hyp[0] if b else None)
        for rest in alignments(ref[a:], hyp[b:]):
            yield [column, *rest]


def test_words_that_are_alike_stand_under_each_other():
    """As few errors as jiwer counts, and the sum of unlikeness the least, of all alignments."""
    draw = random.Random(1)
    words = ["maier", "meier", "ja", "jaja", "frau"]

    def cost(columns):
        pairs = [c for c in columns if None not in c and c[0] != c[1]]
        unlike = sum(edits(*pair) / max(map(len, pair)) for pair in pairs)
        return sum(a != b for a, b in columns), round(unlike, 6)

    for _ in range(60):
        ref, hyp = (draw.choices(words, k=draw.randint(0, 4)) for _ in range(2))
        first = next(alignments(ref, hyp))
        found = closest(Aligned("u", "en", first)).columns
        assert [a for a, _ in found if a] == ref and [b for _, b in found if b] == hyp
        best = min(map(cost, alignments(ref, hyp)))
        assert cost(found)[0] == best[0] == edits(ref, hyp)
        assert cost(found)[1] == pytest.approx(best[1], abs=0.04)  # four pairs in steps of 1/100


def test_confusions_are_jiwers_counts(tmp_path, pairs):
    """The sum of each kind over all words equals jiwer's own; the order is by number."""
    aligned = read_aligned(write(tmp_path / "score", pairs))
    found = confusions(aligned, 10_000)
    counted = jiwer_of(pairs)
    kinds = Counter()
    for each in found:
        kinds[each["kind"]] += each["times"]
        assert (each["said"] is None) == (each["kind"] == "inserted")
        assert (each["heard"] is None) == (each["kind"] == "deleted")
        assert each["said"] != each["heard"]
    wanted = [counted.substitutions, counted.deletions, counted.insertions]
    assert [kinds[k] for k in ("substituted", "deleted", "inserted")] == wanted
    order = [(each["lang"], -each["times"]) for each in found]
    assert order == sorted(order)
    of = {lang: [each for each in found if each["lang"] == lang] for lang in ("en", "zh-x")}
    assert confusions(aligned, 3) == of["en"][:3] + of["zh-x"][:3]


def test_an_example_by_hand(tmp_path):
    pairs = [
        Pair("de", "a", ["guten", "tag", "frau", "maier"], ["guten", "frau", "meier"]),
        Pair("de", "b", ["frau", "maier"], ["frau", "meier", "ja"]),
        Pair("de", "c", ["gut"], ["gut"]),
        Pair("de", "d", ["frau", "maier"], []),
    ]
    aligned = read_aligned(write(tmp_path / "score", pairs))
    aligned = {utt: closest(x) for utt, x in aligned.items()}
    assert [x.utt for x in most_errors(aligned, 10)] == ["b", "d", "a"]
    assert lines(aligned["a"].columns) == (
        "guten tag frau maier",
        "guten *** frau meier",
        "      D        S",
    )
    assert lines(aligned["b"].columns) == ("frau maier **", "frau meier ja", "     S     I")
    assert lines(aligned["d"].columns) == ("frau maier", "**** *****", "D    D")
    first, *rest = confusions(aligned, 20)
    assert first == {
        "lang": "de", "kind": "substituted", "said": "maier", "heard": "meier", "times": 2,
    }  # fmt: skip
    assert [(x["kind"], x["said"] or x["heard"]) for x in rest] == [
        ("deleted", "frau"), ("deleted", "maier"), ("deleted", "tag"), ("inserted", "ja"),
    ]  # fmt: skip


def test_wide_letters_and_marks_stand_under_each_other():
    assert lines([("你好", "a"), ("x", "x")]) == ("你好 x", "a    x", "S")
    assert lines([("e\u0301", None), ("x", "x")]) == ("e\u0301 x", "* x", "D")
    # A vowel sign of Thai and one of Hindi, both of combining class 0, and a joiner of Persian.
    assert lines([("กิ", None), ("x", "y")]) == ("กิ x", "* y", "D S")
    assert lines([("कु", "क"), ("x", "x")]) == ("कु x", "क x", "S")
    assert lines([("می\u200cروم", None)])[1] == "*" * 5


@pytest.mark.parametrize(
    ("said", "heard"),
    [("straße", "strasse"), ("sıkı", "siki"), ("οδος", "οδοσ"), ("喝", "和"), ("हूँ", "है"),
     ("بيت", "بنت")],
)  # fmt: skip
def test_errors_are_marked_in_every_script_and_letters_kept(said, heard):
    above, below, wrong = lines([(said, heard), (said, said), (None, heard)])
    assert above.split() == [said, said, "*" * len(above.split()[2])]
    assert below.split() == [heard, said, heard] and wrong.split() == ["S", "I"]


def test_languages_do_not_push_each_other_out():
    """Letters of a long Chinese text, all wrong, beside short texts of words."""
    chinese = {f"zh{n}": Aligned(f"zh{n}", "zh", [("我", "他")] * 40) for n in range(5)}
    english = {f"en{n}": Aligned(f"en{n}", "en", [("a", "b"), ("c", "d")]) for n in range(5)}
    both = chinese | english
    assert [x.utt for x in most_errors(both, 2)] == ["en0", "en1", "zh0", "zh1"]
    found = [(x["lang"], x["said"], x["times"]) for x in confusions(both, 1)]
    assert found == [("en", "a", 5), ("zh", "我", 200)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "hyp.trn: no such file"),
        ("a b\n", r"hyp.trn:1: not of the form"),
        ("a (en-1)\nb (en)\n", r"hyp.trn:2: not of the form"),
        ("a (en-2)\n", "other utterances than in ref.trn"),
    ],
)
def test_broken_files_are_named(tmp_path, content, said):
    folder = write(tmp_path / "score", [Pair("en", "1", ["a"], ["b"])])
    if content is None:
        (folder / "hyp.trn").unlink()
    else:
        (folder / "hyp.trn").write_text(content)
    with pytest.raises(InputError, match=said):
        read_aligned(folder)
