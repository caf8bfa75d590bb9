"""sclite's summary tables: read from its output, or made here when sclite is not installed."""

import re
from collections.abc import Mapping, Sequence

from espnet_dq.scoring.align import Row, count, total
from espnet_dq.scoring.details import alignments
from espnet_dq.scoring.trn import Pair, language, speaker

ALL = "all"  # the row over all languages

_COUNTS = re.compile(r"\|\s*(\S+)\s*\|\s*(\d+)\s+(\d+)\s*\|((?:\s*\d+){6})\s*\|")


def parse(text: str) -> dict[str, Row]:
    """Read the raw counts by speaker from sclite's `-o all` output.

    Returns rows by language, and `ALL` for the sum; empty when there is no such table.
    The table of percentages has the same shape but decimals, so it never matches.
    """
    rows = {}
    for match in _COUNTS.finditer(text):
        numbers = [int(n) for n in (match[2], match[3], *match[4].split())]
        if match[1] == "Sum":
            rows[ALL] = Row(*numbers)
            break
        rows[language(match[1])] = Row(*numbers)
    return rows


def render(title: str, pairs: Sequence[Pair], aligned: Sequence[str], chars: bool = False) -> str:
    """What sclite would print for the pairs: percentages, counts, then each alignment.

    Args:
        title: the hypotheses' file.
        pairs: the utterances, those of a language one after the other.
        aligned: what `align` returns of each; it has sclite's weights and its choice among equals.
        chars: the tokens are single characters.
    """
    rows: dict[str, Row] = {}
    for pair, letters in zip(pairs, aligned, strict=True):
        name = speaker(pair.lang)
        rows[name] = rows.get(name, Row()) + count(letters)
    everything = total(rows.values())
    parts = [
        _box(title, {**{k: r.percent() for k, r in rows.items()}, "Sum/Avg": everything.percent()},
             {**rows, "Sum/Avg": everything}),
        _box(title, {k: _raw(r) for k, r in {**rows, "Sum": everything}.items()},
             {**rows, "Sum": everything}),
        alignments(title, pairs, aligned, chars),
    ]  # fmt: skip
    return "\n".join(parts)


def _raw(row: Row) -> list[str]:
    return [str(n) for n in (row.corr, row.sub, row.dele, row.ins, row.err, row.serr)]


def _box(title: str, cells: Mapping[str, Sequence[str]], rows: Mapping[str, Row]) -> str:
    """One framed table; the last row is set off as the sum."""
    head = ["Corr", "Sub", "Del", "Ins", "Err", "S.Err"]
    name = max(len("SPKR"), *map(len, cells))
    snt = max(5, *(len(str(r.snt)) for r in rows.values()))
    wrd = max(5, *(len(str(r.wrd)) for r in rows.values()))
    width = max(6, *(len(c) for row in cells.values() for c in row))

    def line(label: str, a: str, b: str, values: Sequence[str]) -> str:
        numbers = " ".join(f"{v:>{width}}" for v in values)
        return f"| {label:<{name}} | {a:>{snt}} {b:>{wrd}} | {numbers} |"

    top = line("SPKR", "# Snt", "# Wrd", head)
    rule, thick = f"|{'-' * (len(top) - 2)}|", f"|{'=' * (len(top) - 2)}|"
    body = [line(k, str(rows[k].snt), str(rows[k].wrd), values) for k, values in cells.items()]
    middle = f"\n{rule}\n".join(body[:-1])
    bar = "-" * (len(top) - 2)
    lines = [f",{bar}.", f"|{title:^{len(top) - 2}}|", rule, top, rule, middle, thick, body[-1]]
    return "SYSTEM SUMMARY BY SPEAKER\n\n" + "\n".join([*lines, f"`{bar}'"]) + "\n"
