"""A canary in reports: ratios and verdicts; or that nothing was measured."""

from espnet_dq.report import tables
from espnet_dq.report.headline import Fact, canary_facts


def item(ratio, low, high):
    mean = {"ratio": ratio, "low": low, "high": high, "over": "utterances"}
    rates = {"wer": 40 * (ratio or 0), "cer": 20.0, "by": "wer", "words": 100, "windows": 4}
    return {"mean": mean, "stamps es": {**mean, **rates, "speakers": None}}


def results(kinds):
    untouched = {kind: item(1.0, 1.0, 1.0) for kind in kinds}
    systems = {
        "untouched": {"kinds": untouched, "words_a_minute": {"mean": 1.25, "hum": 1.25}},
        "student": {"kinds": kinds, "words_a_minute": {"mean": 0.0, "hum": 0.0}},
    }
    scored = [
        {"name": name, "wer": {"mean": wer}}
        for name, wer in (("untouched", 30.1), ("student", 19.2))
    ]
    return {
        "canary": {"first": "untouched", "systems": systems},
        "systems": scored,
        "voices": {"label": "seen voices"},
    }


def test_verdicts():
    kinds = {
        "other voices": item(0.9, 0.85, 0.95),
        "other languages": item(1.2, 1.1, 1.3),
        "babble": item(1.4, 0.9, 1.9),
        "hiss": item(1.4, 1.1, None),
        "quiet": item(None, None, None),
    }
    assert canary_facts(results(kinds)) == [
        Fact("10 %", "fewer errors than untouched, other voices: ratio 0.90 (0.85 to 0.95)", True),
        Fact(
            "20 %", "more errors than untouched, other languages: ratio 1.20 (1.10 to 1.30)", False
        ),
        Fact("No sure difference", "to untouched in errors, babble: ratio 1.40 (0.90 to 1.90)"),
        Fact("No sure difference", "to untouched in errors, hiss: ratio 1.40 (1.10 to –)"),
    ]
    assert canary_facts({"canary": None}) == canary_facts({}) == []


def test_tables():
    found = results({"other voices": item(0.9, 0.85, 0.95)})
    head, rows = tables.canary(found)
    assert head == [
        "system", "test set, seen voices: WER (%)", "other voices", "words a minute, no speech",
    ]  # fmt: skip
    assert rows == [
        ["untouched", "30.1", "1.00 (1.00 to 1.00)", "1.2"],
        ["student", "19.2", "0.90 (0.85 to 0.95)", "0.0"],
    ]
    _, rows = tables.canary_details(found)
    assert rows == [["other voices", "stamps es", "WER", "40.0", "36.0", "100", "not known"]]


def test_letters_are_not_called_words():
    """Of languages without spaces; `mean` is no language."""
    found = results({"other voices": item(0.9, 0.85, 0.95)})
    for system in found["systems"]:
        system["wer"] = {"zh": 30.0, "ja": 20.0, "mean": 25.0}
    assert tables.canary(found)[0][-1] == "letters a minute, no speech"
    for tried in found["canary"]["systems"].values():
        columns = tried["kinds"]["other voices"]
        columns["own zh"] = columns["stamps es"]
    head, (spanish, chinese) = tables.canary_details(found)
    assert (spanish[1], chinese[1]) == ("stamps es", "own zh")
    assert head[-2] == "words, in zh letters"
    for tried in found["canary"]["systems"].values():
        del tried["kinds"]["other voices"]["stamps es"]
    assert tables.canary_details(found)[0][-2] == "letters"
