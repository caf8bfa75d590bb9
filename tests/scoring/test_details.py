"""The `.pra` and `.dtl` files against sclite's own: the program where installed, else stored."""

import random
from pathlib import Path

import pytest

from espnet_dq.scoring import sclite
from espnet_dq.scoring.align import align
from espnet_dq.scoring.details import alignments, details
from espnet_dq.scoring.score import score
from espnet_dq.scoring.trn import Pair
from tests.scoring.test_align import HERE, by_sclite, confusable, needs_sclite
from tests.scoring.test_score import folder

WRITERS = {"pra": alignments, "dtl": details}


def here(pairs: list[Pair], chars: bool = False) -> dict[str, str]:
    aligned = [align(p.ref, p.hyp) for p in pairs]
    return {end: write("hyp.trn", pairs, aligned, chars) for end, write in WRITERS.items()}


def long_ones() -> list[Pair]:
    """Some hundred words each, of several scripts: sclite breaks lines by their bytes."""
    rng = random.Random(5)
    words = ["ёлка", "a", "longer", "été", "我", "(x)", "%25"]
    refs = [rng.choices(words, k=k) for k in range(100, 500, 40)]
    return [
        Pair("en", f"u{n:02}", ref, [w if rng.random() < 0.8 else w[1:] + "x" for w in ref])
        for n, ref in enumerate(refs)
    ]


MORE = [  # more errors than words; nothing wrong; hypotheses that are empty
    [Pair("en", "a", ["x"] * 7, ["x"] * 7 + ["y"] * 11)],
    [Pair("en", "a", ["x"], ["x"]), Pair("zh-tw", "b (c)", ["x"], ["x"])],
    [Pair("en", "a", ["x", "y"], []), Pair("fr", "a", ["y"], [])],
]


@pytest.mark.slow
@needs_sclite
@pytest.mark.parametrize(
    "pairs", [confusable(4, 300), confusable(5, 16), long_ones(), *MORE], ids=range(6)
)
def test_byte_for_byte_what_sclite_writes(tmp_path, pairs):
    for chars in (False, True):
        if chars:
            pairs = [p._replace(ref=[*" ".join(p.ref)], hyp=[*" ".join(p.hyp)]) for p in pairs]
        by_sclite(tmp_path, pairs, chars)
        for end, ours in here(pairs, chars).items():
            assert ours == (tmp_path / f"result.{end}").read_text(encoding="utf-8"), end


def test_what_sclite_wrote_once():
    """Needs no sclite; 2.4.10 wrote it."""
    ours = here(confusable(3, 40))
    assert ours["dtl"] == (HERE / "data/sclite_wer.dtl").read_text(encoding="utf-8")
    whole = (HERE / "data/sclite_wer.txt").read_text(encoding="utf-8")
    _, utterances = ours["pra"].split("\n\nSpeaker sentences", 1)
    assert utterances in whole


def test_they_lie_beside_the_score(tmp_path):
    folder(tmp_path)
    programs = {"own": None, "sclite": sclite.find()}
    for name, program in programs.items():
        score(tmp_path / "data", tmp_path / "tiny", tmp_path / name, program)
        for rate in ("wer", "cer"):
            for end in ("pra", "dtl"):
                written = (tmp_path / name / f"score_{rate}" / f"result.{end}").read_text("utf-8")
                assert written == (tmp_path / f"own/score_{rate}/result.{end}").read_text("utf-8")
    text = Path(tmp_path, "own/score_wer/result.dtl").read_text(encoding="utf-8")
    assert "    1  ->  à ==> a\n" in text
