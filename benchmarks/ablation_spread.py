"""Variants with several seeds each: their mean and spread, and which differences exceed it.

Works on the lines that `benchmarks/ablation.py` writes: one a variant, seed, system and language,
with `wer` and `cer` in percent. Lines without a seed are of models that no seed changes; they
stand in every table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import t as student_t

from espnet_dq.report.markdown import table
from espnet_dq.scoring.beside import columns
from espnet_dq.scoring.score import MEAN

CONFIDENCE = 0.95
METRICS = ("wer", "cer")

# variant -> seed -> language, and MEAN -> percent
Rates = dict[str, dict[int | None, dict[str, float]]]


@dataclass(frozen=True)
class Difference:
    """Of two variants in the seeds that both have: mean of a - b, and what it may be.

    `error` is the standard error of that mean, `low` to `high` its confidence interval by
    Student's t; all three are None with a single seed.
    """

    a: str
    b: str
    seeds: int
    mean: float
    error: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def exceeds_spread(self) -> bool:
        """Whether the interval leaves out zero; never with a single seed."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def difference(
    a: str, b: str, left: Mapping[int, float], right: Mapping[int, float]
) -> Difference | None:
    """Paired by seed; None where the two share no seed.

    Args:
        a, b: names of the variants.
        left, right: seed -> percent.
    """
    each = [left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())]
    if not each:
        return None
    mean = fmean(each)
    if len(each) == 1:
        return Difference(a, b, 1, mean)
    error = stdev(each) / len(each) ** 0.5
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)) * error
    return Difference(a, b, len(each), mean, error, mean - half, mean + half)


def rates(lines: Iterable[Mapping], metric: str, system: str) -> Rates:
    """One system's `wer` or `cer`, with the unweighted mean over languages, and the models that
    no seed changes."""
    found: Rates = {}
    for line in lines:
        if line["system"] == system or line["seed"] is None:
            of_seed = found.setdefault(line["variant"], {}).setdefault(line["seed"], {})
            of_seed[line["lang"]] = line[metric]
    for of_variant in found.values():
        for of_seed in of_variant.values():
            of_seed[MEAN] = fmean(of_seed.values())
    return found


def differences(found: Rates) -> list[Difference]:
    """Of every two variants that were scored in the same languages, in their mean."""
    result = []
    for a, b in combinations((v for v in found if None not in found[v]), 2):
        languages = {frozenset(of_seed) for v in (a, b) for of_seed in found[v].values()}
        if len(languages) == 1:
            left, right = ({s: r[MEAN] for s, r in found[v].items()} for v in (a, b))
            result.append(difference(a, b, left, right))
    return [d for d in result if d is not None]


def render(lines: Sequence[Mapping]) -> str:
    """Markdown: for each system and rate a table of the variants and one of their differences."""
    blocks = []
    for system in dict.fromkeys(line["system"] for line in lines if line["seed"] is not None):
        for metric in METRICS:
            found = rates(lines, metric, system)
            blocks.append(f"## {metric.upper()}, {system} student\n\n{_variants(found)}")
            blocks.append(_differences(differences(found)))
    return "\n\n".join(blocks) + "\n"


def _variants(found: Rates) -> str:
    shown = columns(k for v in found.values() for r in v.values() for k in r)
    head = ["variant", "seeds", *shown]
    rows = []
    for variant, of_seed in found.items():
        seeds = "" if None in of_seed else str(len(of_seed))
        cells = [[r[k] for r in of_seed.values() if k in r] for k in shown]
        rows.append([variant, seeds, *(_spread(c) for c in cells)])
    return table(head, rows)


def _differences(found: Sequence[Difference]) -> str:
    if not found:
        return "Nothing to compare: there are no two variants with a seed and languages in common."
    rows = []
    for d in found:
        row = [d.a, d.b, str(d.seeds), f"{d.mean:+.2f}", "", "", "one seed: cannot be said"]
        if d.error is not None:
            verdict = "**yes**" if d.exceeds_spread else "no"
            row[4:] = [f"{d.error:.2f}", f"{d.low:+.2f} to {d.high:+.2f}", verdict]
        rows.append(row)
    head = ["variant", "minus", "seeds", "difference", "standard error"]
    head += [f"{CONFIDENCE:.0%} interval", "larger than the spread"]
    larger = [
        f"{d.a} is {'above' if d.mean > 0 else 'below'} {d.b} by {abs(d.mean):.2f}"
        for d in found
        if d.exceeds_spread
    ]
    verdict = "No difference is larger than the spread over seeds."
    if larger:
        verdict = f"Larger than the spread over seeds: {'; '.join(larger)}."
    return f"{table(head, rows)}\n\n{verdict}"


def _spread(values: Sequence[float]) -> str:
    """`12.3 ± 0.4 (11.9 to 12.7)`; of one value the value."""
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{fmean(values):.1f} ± {stdev(values):.1f} ({min(values):.1f} to {max(values):.1f})"
