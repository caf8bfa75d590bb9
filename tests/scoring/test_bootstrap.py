"""The paired bootstrap against one by hand, against its variance on paper, and what it claims."""

import numpy as np
import pytest

from espnet_dq.scoring.bootstrap import FEWEST, differences, ratios
from espnet_dq.scoring.utterances import Aligned


def scored(errors, words, lang="en"):
    """Utterances with so many words, so many of them wrong."""
    return {
        f"{lang}-{n:04d}": Aligned(
            f"{lang}-{n:04d}", lang, [("a", "b")] * e + [("a", "a")] * (w - e)
        )
        for n, (e, w) in enumerate(zip(errors, words, strict=True))
    }


def made_up(seed, count, rate, other):
    """Words, and two systems' errors, which go with how hard the utterance is."""
    random = np.random.default_rng(seed)
    words = random.integers(3, 15, count)
    hard = random.uniform(0, 2, count)
    return words, random.binomial(words, rate * hard / 2), random.binomial(words, other * hard / 2)


def test_against_one_by_hand():
    """Utterances drawn one by one, in numpy; two languages, of which the mean is taken.

    A percentile of n draws at p has the standard error sqrt(p (1 - p) / n) / density; with 95 % of
    a normal spread s, that is s * sqrt(0.025 * 0.975 / n) / 0.0584: 0.038 s of 5,000 draws. Four
    such errors of ours and of the 20,000 by hand (0.019 s) together: 0.17 s.
    """
    sets = {"en": made_up(0, 40, 0.4, 0.5), "ru": made_up(1, 25, 0.3, 0.3)}
    first, second, drawn = {}, {}, {}
    random = np.random.default_rng(7)
    for lang, (words, one, other) in sets.items():
        first |= scored(one, words, lang)
        second |= scored(other, words, lang)
        picks = random.integers(len(words), size=(20_000, len(words)))
        rates = [errors[picks].sum(1) / words[picks].sum(1) for errors in (one, other)]
        drawn[lang] = 100 * (rates[0] - rates[1])
    drawn["mean"] = (drawn["en"] + drawn["ru"]) / 2
    found = differences(first, second)
    assert list(found) == ["mean", "en", "ru"]
    for lang, values in drawn.items():
        spread = values.std()
        wanted = np.quantile(values, [0.025, 0.975])
        assert [found[lang].low, found[lang].high] == pytest.approx(list(wanted), abs=0.17 * spread)
    words, one, other = sets["en"]
    assert found["en"].points == pytest.approx(100 * (one.sum() - other.sum()) / words.sum())
    assert found["mean"].utterances == 65
    assert found["ru"].differing == int((sets["ru"][1] != sets["ru"][2]).sum())


def test_ratios_against_ones_by_hand():
    """As above, of the mean of the languages' ratios; words do not come into a ratio."""
    sets = {"en": made_up(0, 60, 0.4, 0.5), "ru": made_up(1, 45, 0.3, 0.3)}
    first, second, drawn = {}, {}, {}
    random = np.random.default_rng(7)
    for lang, (words, one, other) in sets.items():
        first |= scored(one, words, lang)
        second |= scored(other, words, lang)
        picks = random.integers(len(words), size=(20_000, len(words)))
        drawn[lang] = one[picks].sum(1) / other[picks].sum(1)
    drawn["mean"] = (drawn["en"] + drawn["ru"]) / 2
    found = ratios(first, second)
    assert list(found) == ["mean", "en", "ru"]
    for lang, values in drawn.items():
        wanted = np.quantile(values, [0.025, 0.975])
        reached = [found[lang].low, found[lang].high]
        assert reached == pytest.approx(list(wanted), abs=0.17 * values.std())
    means = [one.sum() / other.sum() for _, one, other in sets.values()]
    assert found["mean"].ratio == pytest.approx(sum(means) / 2)
    nothing = ratios(scored([1] * 6, [3] * 6), scored([0] * 6, [3] * 6))
    assert nothing["en"].ratio == float("inf")


def test_pairing_and_words_count():
    """A ratio's variance on paper (delta method) of paired data, and it is not that of unpaired.

    With 400 utterances the normal interval holds to about 0.06 s (draws) and 0.05 s (skew).
    """
    words, one, other = made_up(3, 400, 0.9, 0.85)
    found = differences(scored(one, words), scored(other, words))["en"]
    points = (one.sum() - other.sum()) / words.sum()
    paired = 100 * np.sqrt(((one - other - points * words) ** 2).sum()) / words.sum()
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * paired, rel=0.1)
    each = [((e - e.sum() / words.sum() * words) ** 2).sum() for e in (one, other)]
    unpaired = 100 * np.sqrt(sum(each)) / words.sum()
    assert unpaired > 1.3 * paired  # else the test would not see the difference


def test_a_small_gain_on_sixty_clips_is_no_gain():
    """33.2 to 31.8 % of 360 words: five errors fewer, by 13 clips that gain and 8 that lose one."""
    words, before = np.full(60, 6), np.full(60, 2)
    after = before.copy()
    after[:13] -= 1
    after[13:21] += 1
    assert 100 * before.sum() / 360 == pytest.approx(33.3, abs=0.1)
    found = differences(scored(after, words), scored(before, words))["mean"]
    assert found.points == pytest.approx(-1.4, abs=0.02)
    assert found.low < 0 < found.high and found.verdict == "not distinguishable"


def test_a_real_gain_is_one_and_the_other_way_round_a_loss():
    words, one, other = made_up(4, 200, 0.2, 0.6)
    better, worse = scored(one, words), scored(other, words)
    there, back = differences(better, worse)["mean"], differences(worse, better)["mean"]
    assert (there.verdict, back.verdict) == ("fewer errors", "more errors")
    assert there.points == -back.points
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.3)  # 0.17 s


@pytest.mark.parametrize("count", range(1, 9))
def test_of_few_utterances_nothing_is_claimed(count):
    """However clear they look: all better, the interval has no width or leaves out zero."""
    words = [10] * count
    found = differences(scored([1] * count, words), scored([5] * count, words))
    for lang in ("mean", "en"):
        assert found[lang].high < 0
        assert (found[lang].verdict == "fewer errors") == (count >= FEWEST == 6)


def test_few_that_differ_among_many():
    """Four of 60, all better: the interval leaves out zero, yet a coin does that 1 time in 8."""
    words, other = [10] * 60, [3] * 60
    one = [1] * 4 + [3] * 56
    found = differences(scored(one, words), scored(other, words))["en"]
    assert found.high < 0 and found.differing == 4 and found.verdict == "not distinguishable"
    # One language that nobody can judge leaves the mean open, too.
    many = scored([1] * 60, words), scored(other, words)
    few = scored([1] * 3, [10] * 3, "ru"), scored([9] * 3, [10] * 3, "ru")
    found = differences(many[0] | few[0], many[1] | few[1])
    assert found["en"].verdict == "fewer errors"
    assert found["mean"].verdict == found["ru"].verdict == "not distinguishable"


def test_equal_systems():
    words, one, _ = made_up(5, 30, 0.4, 0.4)
    found = differences(scored(one, words), scored(one, words))["mean"]
    assert (found.points, found.low, found.high, found.differing) == (0, 0, 0, 0)
    assert found.verdict == "not distinguishable"


def test_paired_by_id_in_any_order_and_the_same_each_time():
    words, one, other = made_up(6, 50, 0.3, 0.5)
    first, second = scored(one, words), scored(other, words)
    wanted = differences(first, second)
    turned = dict(reversed(second.items()))
    assert differences(first, turned) == wanted
    another = differences(first, second, seed=1)["en"]
    assert another != wanted["en"] and another.low == pytest.approx(wanted["en"].low, abs=1.0)
    assert differences(first, scored([5], [5], "fr")) == {}


def test_no_mean_where_the_systems_have_other_languages():
    """Nor where no utterance of a language can be paired; the languages in common stay."""
    words, one, other = made_up(6, 50, 0.3, 0.5)
    first, second, extra = scored(one, words), scored(other, words), scored([5], [5], "fr")
    wanted = differences(first, second)
    del wanted["mean"]
    assert differences(first | extra, second) == wanted == differences(first, second | extra)
    elsewhere = {f"x{utt}": x for utt, x in extra.items()}
    assert differences(first | extra, second | elsewhere) == wanted


def test_other_references_are_no_pair():
    """Neither of other words, however many they are, nor of the same words in another language."""
    words, one, other = made_up(6, 50, 0.3, 0.5)
    first, second = scored(one, words), scored(other, words)
    utt = min(first)
    rest = {k: x for k, x in second.items() if k != utt}
    wanted = differences(first, rest)
    another = Aligned(utt, "en", [("b", "b")] * int(words[0]))
    assert another.tokens == first[utt].tokens
    assert differences(first, second | {utt: another}) == wanted
    there = Aligned(utt, "fr", first[utt].columns)
    assert differences(first, second | {utt: there}) == {"en": wanted["en"]}


def test_speakers_are_drawn_where_there_are_enough():
    """By hand: of 8 speakers, whose utterances are alike; the interval is wider for that.

    Percentiles as near as above.
    """
    words, one, other = made_up(3, 80, 0.4, 0.5)
    one = np.minimum(words, one + 3 * (np.arange(80) % 8 == 0))  # one voice is hard for `one` alone
    first, second = scored(one, words), scored(other, words)
    speakers = {utt: f"s{n % 8}" for n, utt in enumerate(first)}
    sums = np.array([[x[n::8].sum() for n in range(8)] for x in (one, other, words)])
    picks = np.random.default_rng(7).integers(8, size=(20_000, 8))
    e1, e2, tokens = (x[picks].sum(1) for x in sums)
    drawn = 100 * (e1 - e2) / tokens
    found = differences(first, second, speakers)["en"]
    alone = differences(first, second)["en"]
    wanted = np.quantile(drawn, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(list(wanted), abs=0.17 * drawn.std())
    assert (found.over, alone.over) == ("speakers", "utterances")
    assert (found.utterances, found.points) == (alone.utterances, alone.points)
    assert found.high - found.low > 1.3 * (alone.high - alone.low)


def test_few_speakers_are_not_drawn():
    """Then utterances are, and the mean over languages says both."""
    words, one, other = made_up(4, 60, 0.4, 0.2)
    first, second = scored(one, words) | scored(one, words, "ru"), {}
    second = scored(other, words) | scored(other, words, "ru")
    count = {"en": FEWEST - 1, "ru": FEWEST}
    speakers = {utt: f"s{int(utt[3:]) % count[utt[:2]]}" for utt in first}
    found = differences(first, second, speakers)
    over = {lang: each.over for lang, each in found.items()}
    assert over == {"mean": "speakers and utterances", "en": "utterances", "ru": "speakers"}
    alone = differences(first, second)
    assert found["en"] == alone["en"] and alone["ru"] != found["ru"]
    assert differences(first, second, {utt: utt for utt in first}) == alone  # none is known
    assert found["mean"].enough and found["ru"].verdict == "more errors"


def test_a_draw_without_any_error_says_nothing_of_a_ratio():
    """0 / 0; the draws that say something give the interval, of the mean, too."""
    one, other = np.array([2, 0, 0, 1, 0, 0]), np.array([2, 0, 0, 2, 0, 0])  # of 6, 4 without any
    first = scored([2] * 40, [10] * 40) | scored(one, [10] * 6, "it")
    second = scored([4] * 40, [10] * 40) | scored(other, [10] * 6, "it")
    picks = np.random.default_rng(7).integers(6, size=(20_000, 6))
    sums = one[picks].sum(1), other[picks].sum(1)
    drawn = sums[0][sums[1] > 0] / sums[1][sums[1] > 0]
    assert len(drawn) < 19_000
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = ratios(first, second)
    assert (found["it"].low, found["it"].high) == pytest.approx((low, high), abs=0.01)
    mean = found["mean"].low, found["mean"].high
    assert mean == pytest.approx(((0.5 + low) / 2, (0.5 + high) / 2), abs=0.01)


def test_few_draw_no_interval():
    """Of one window all draws are alike: its interval would have no width, and seem sure."""

    def interval(*counts):
        first, second = {}, {}
        for count, lang in zip(counts, ("en", "it"), strict=False):
            first |= scored([2] * count, [10] * count, lang)
            second |= scored([4] * count, [10] * count, lang)
        found = ratios(first, second)["mean"]
        return found.low, found.high

    assert interval(FEWEST) == interval(FEWEST - 2, 2) == (0.5, 0.5)
    for counts in ((FEWEST - 1,), (1, 1), (FEWEST, 1)):
        assert np.isnan(interval(*counts)).all(), counts
