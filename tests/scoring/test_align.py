"""Our tables against sclite itself: the program where installed, a stored report where not."""

import random
import subprocess
import tracemalloc
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq.errors import WorkError
from espnet_dq.scoring import align as align_module
from espnet_dq.scoring import sclite, table
from espnet_dq.scoring.align import GAP, SUBSTITUTION, Row, align, count
from espnet_dq.scoring.trn import Pair, write_trn

HERE = Path(__file__).parent
PROGRAM = sclite.find()
needs_sclite = pytest.mark.skipif(PROGRAM is None, reason="sclite (Debian: sctk) is not installed")


def cost(columns: str) -> int:
    return SUBSTITUTION * columns.count("S") + GAP * (columns.count("D") + columns.count("I"))


def by_sclite(folder: Path, pairs: list[Pair], chars: bool = False) -> str:
    for side in ("ref", "hyp"):
        write_trn(folder / f"{side}.trn", pairs, side, chars)
    return sclite.run(PROGRAM, folder)


def here(title: str, pairs: list[Pair], chars: bool = False) -> str:
    return table.render(title, pairs, [align(p.ref, p.hyp) for p in pairs], chars)


def confusable(seed: int, number: int) -> list[Pair]:
    """Random sentences over small alphabets, so that many alignments cost the same."""
    rng = random.Random(seed)
    pairs = []
    for n in range(number):
        alphabet = rng.choice(["ab", "abc", "abcdef", "жщъ"])
        sides = [
            [rng.choice(alphabet) for _ in range(rng.randint(low, 12))]
            for low in (1, 0)  # a hypothesis may be empty
        ]
        pairs.append(Pair(rng.choice(["en", "ru", "zh-tw"]), f"u{n:05d}", *sides))
    return sorted(pairs, key=lambda p: (p.lang, p.utt))


def test_known_alignments():
    assert align("abc", "ac") == "CDC"
    assert align([], ["x"]) == "I"
    assert align(["x"], []) == "D"
    # Three of each (18) are cheaper for sclite than five substitutions (20).
    assert sorted(align("xyzab", "abpqr")) == sorted("DDDCCIII")
    # jiwer counts those five: its alignments cannot give sclite's table.
    jiwers = jiwer.process_words("x y z a b", "a b p q r")
    assert (jiwers.substitutions, jiwers.deletions, jiwers.insertions) == (5, 0, 0)


def test_percent_rounds_half_up_as_sclite_does():
    assert Row(5, 16, 6, 5, 5, 0, 10, 4).percent() == [
        "37.5",
        "31.3",
        "31.3",
        "0.0",
        "62.5",
        "80.0",
    ]


@pytest.mark.slow
@needs_sclite
def test_same_alignments_as_sclite(tmp_path):
    """Column by column, not only in sum, on 3,000 sentences full of ties."""
    pairs = confusable(1, 3000)
    theirs = {}
    for block in by_sclite(tmp_path, pairs).split("id: (")[1:]:
        lines = block.splitlines()
        ref = next(x for x in lines if x.startswith("REF:"))[4:].split()
        hyp = next(x for x in lines if x.startswith("HYP:"))[4:].split()
        theirs[lines[0].rstrip(")")] = "".join(
            "I" if set(r) == {"*"} else "D" if set(h) == {"*"} else "C" if r == h else "S"
            for r, h in zip(ref, hyp, strict=True)
        )
    ours = {f"{p.lang.replace('-', '%2D')}-{p.utt}": align(p.ref, p.hyp) for p in pairs}
    assert theirs == ours


@needs_sclite
def test_the_longest_word_that_sclite_takes(tmp_path):
    """Beyond some 990 bytes it prints without end, so it is not asked."""
    word = "ха" * (sclite.LONGEST // 4)
    said, heard = ["да", "это", "так", "да"], ["да", word, "да"]
    assert not sclite.refusal((said, heard), ("", ""))
    assert "no end" in sclite.refusal((said, [word + "х"]), ("", ""))
    assert "id: (" in by_sclite(tmp_path, [Pair("ru", "u", said, heard)])


def test_long_recordings_take_a_byte_a_pair(monkeypatch):
    random.seed(0)
    ref = random.choices("abcdefgh", k=3000)
    hyp = [c if random.random() < 0.9 else "x" for c in ref if random.random() < 0.95]
    align(ref[:9], hyp[:9])
    tracemalloc.start()
    columns = align(ref, hyp)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * len(ref) * len(hyp)
    assert len(columns) - columns.count("I") == len(ref)
    # Of longer ones the same comes out, in far less.
    monkeypatch.setattr(align_module, "KEPT", 1000)
    tracemalloc.start()
    assert align(ref, hyp) == columns
    assert tracemalloc.get_traced_memory()[1] < 0.3 * len(ref) * len(hyp)
    tracemalloc.stop()
    for m, n in ((0, 0), (0, 3), (3, 0), (1, 1), (2, 7), (50, 40), (33, 60)):
        ref, hyp = random.choices("ab", k=m), random.choices("ab", k=n)
        monkeypatch.setattr(align_module, "KEPT", 10**8)
        whole = align(ref, hyp)
        monkeypatch.setattr(align_module, "KEPT", 0)
        assert align(ref, hyp) == whole


def test_sclite_is_not_asked_for_an_hour_of_speech():
    assert "all memory" in sclite.refusal(([], []), ("x" * 9000, "y" * 9000))
    assert not sclite.refusal(([], []), ("x" * 5000, "y" * 5000))


@needs_sclite
@pytest.mark.parametrize("chars", [False, True])
def test_fallback_table_equals_sclite(tmp_path, chars):
    pairs = confusable(2, 400)
    if chars:
        pairs = [p._replace(ref=list(" ".join(p.ref)), hyp=list(" ".join(p.hyp))) for p in pairs]
    theirs = by_sclite(tmp_path, pairs, chars)
    ours = here("hyp.trn", pairs, chars)
    assert table.parse(ours) == table.parse(theirs)
    assert list(table.parse(ours)) == ["en", "ru", "zh-tw", table.ALL]
    for row in table.parse(ours).values():  # and the rounded percentages stand in both
        for text in (ours, theirs):
            cells = [line.replace("|", " ").split() for line in text.splitlines()]
            assert any(c[-6:] == row.percent() for c in cells)


token = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "Cc"]), min_size=1).filter(
    lambda s: not any(c.isspace() for c in s)
)
sentence = st.lists(token, max_size=6)


@pytest.mark.slow
@needs_sclite
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(token, min_size=1, max_size=6), sentence, token), min_size=1),
)
def test_any_text_and_any_id_is_counted(tmp_path_factory, triples):
    """Brackets, braces, @, ;; and any script, in words and in ids: sclite sees what we see."""
    pairs = [Pair("en", f"{n}{u}", r, h) for n, (r, h, u) in enumerate(triples)]
    theirs = by_sclite(tmp_path_factory.mktemp("trn"), pairs)
    assert table.parse(theirs) == table.parse(here("hyp.trn", pairs))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9), st.lists(st.sampled_from("abc")))
def test_against_jiwer(ref, hyp):
    """What jiwer and sclite's weights always agree on, and where sclite may count more."""
    columns, jiwers = align(ref, hyp), jiwer.process_words(" ".join(ref), " ".join(hyp))
    row = count(columns)
    errors = jiwers.substitutions + jiwers.deletions + jiwers.insertions
    assert row.wrd == jiwers.hits + jiwers.substitutions + jiwers.deletions
    assert row.err >= errors and (row.err == 0) == (errors == 0)
    assert row.ins - row.dele == jiwers.insertions - jiwers.deletions
    gaps = jiwers.deletions + jiwers.insertions
    assert cost(columns) <= SUBSTITUTION * jiwers.substitutions + GAP * gaps


@pytest.mark.parametrize("kind", ["wer", "cer"])
def test_stored_sclite_report(kind):
    """The same counts as a report that sclite 2.4.10 wrote; needs no sclite."""
    chars = kind == "cer"
    pairs = [p._replace(ref=[*p.ref], hyp=[*p.hyp]) for p in confusable(3, 40)]
    if chars:
        pairs = [p._replace(ref=[*" ".join(p.ref)], hyp=[*" ".join(p.hyp)]) for p in pairs]
    stored = (HERE / "data" / f"sclite_{kind}.txt").read_text(encoding="utf-8")
    rows = table.parse(stored)
    assert rows == table.parse(here("hyp.trn", pairs, chars))
    assert rows[table.ALL].snt == 40


def test_broken_sclite_is_reported(tmp_path):
    write_trn(tmp_path / "ref.trn", [Pair("en", "a", ["x"], ["x"])], "ref", False)
    with pytest.raises(WorkError, match="exit code"):
        sclite.run(Path("/bin/false"), tmp_path)


@needs_sclite
def test_version_names_the_tool():
    said = subprocess.run([str(PROGRAM)], capture_output=True, text=True)
    assert "SCTK" in said.stdout + said.stderr
    assert sclite.version(PROGRAM).startswith("sclite 2.")
