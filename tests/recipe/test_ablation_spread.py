"""Means, spreads and differences, against numpy and scipy's own paired test."""

import numpy as np
import pytest
from scipy import stats

from ablation_spread import MEAN, difference, differences, rates, render


def lines(wer: dict[str, dict[int | None, list[float]]], system="quantized", langs=("en", "ru")):
    return [
        {"variant": variant, "seed": seed, "system": system, "lang": lang, "wer": w, "cer": w / 2}
        for variant, of_seed in wer.items()
        for seed, values in of_seed.items()
        for lang, w in zip(langs, values, strict=True)
    ]


@pytest.mark.parametrize("n", [2, 3, 8])
def test_difference_is_the_paired_test(n):
    random = np.random.default_rng(n)
    a, b = random.normal(20, 2, n), random.normal(21, 2, n)
    found = difference("a", "b", dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(a - b), low, high))
    assert found.error == pytest.approx(stats.sem(a - b))
    assert found.exceeds_spread == (expected.pvalue < 0.05)


def test_differences_take_the_seeds_and_languages_that_both_have():
    one = difference("a", "b", {0: 3.0, 1: 5.0}, {1: 4.0, 2: 9.0})
    assert (one.seeds, one.mean, one.error, one.exceeds_spread) == (1, 1.0, None, False)
    assert difference("a", "b", {0: 1.0}, {1: 1.0}) is None
    here = lines({"a": {0: [1, 2], 1: [2, 3]}, "b": {0: [3, 4], 1: [5, 6]}})
    there = lines({"c": {0: [1, 2], 1: [1, 2]}}, langs=("en", "nl"))
    found = differences(rates([*here, *there], "wer", "quantized"))
    assert [(d.a, d.b, d.mean) for d in found] == [("a", "b", -2.5)]


def test_table_says_what_exceeds_the_spread():
    wer = {
        "low": {0: [10.0, 20.0], 1: [10.4, 20.2], 2: [9.9, 20.3]},
        "high": {0: [12.0, 22.0], 1: [12.3, 22.3], 2: [11.9, 22.2]},
        "noisy": {0: [9.0, 19.0], 1: [14.0, 24.0], 2: [8.0, 21.0]},
    }
    found = lines(wer) + lines({"untouched": {None: [30.0, 40.0]}}, "float")
    assert rates(found, "wer", "quantized")["low"][1][MEAN] == pytest.approx(15.3)
    text = render(found)
    assert text.count("## ") == 2 and "## WER, quantized student" in text
    means = [np.mean(v) for v in wer["low"].values()]
    row = f"|low|3|{np.mean(means):.1f} ± {np.std(means, ddof=1):.1f} (15.0 to 15.3)|10.1 ± 0.3"
    assert row in text
    assert "|untouched||35.0|30.0|40.0|" in text
    assert "Larger than the spread over seeds: low is below high by 1.98." in text
    assert text.count("|**yes**|") == 2 and text.count("|no|") == 4
    assert "one seed: cannot be said" in render([x for x in found if x["seed"] in (0, None)])
    assert "Nothing to compare" in render([x for x in found if x["variant"] == "low"])
