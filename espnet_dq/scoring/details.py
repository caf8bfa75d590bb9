"""sclite's files of every utterance (`.pra`) and of every error (`.dtl`), made here.

Byte for byte what sclite writes with `-o pralign dtl`, its spelling included, so that tools which
read its files read these: columns are padded to the number of UTF-8 bytes, as it does.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from espnet_dq.scoring.align import Row, count, percent, total
from espnet_dq.scoring.trn import Pair, escape, escape_char, speaker

Column = tuple[str | None, str | None, str]  # reference, hypothesis, C S D or I
LINE = 1000  # bytes; what does not fit goes on below


def columns(pair: Pair, letters: str, chars: bool = False) -> list[Column]:
    """The columns of an aligned utterance, its tokens escaped; None where a side has nothing.

    Args:
        letters: what `align` returns of the pair.
        chars: the tokens are single characters.
    """
    one = escape_char if chars else escape
    ref, hyp = iter(map(one, pair.ref)), iter(map(one, pair.hyp))
    return [(next(ref) if x != "I" else None, next(hyp) if x != "D" else None, x) for x in letters]


def alignments(title: str, pairs: Sequence[Pair], aligned: Sequence[str], chars: bool) -> str:
    """The `.pra` file: each utterance's scores and its two sides under each other.

    Args:
        title: the hypotheses' file.
        pairs: the utterances, those of a language one after the other.
        aligned: what `align` returns of each.
        chars: the tokens are single characters.
    """
    each = list(zip(pairs, aligned, strict=True))
    groups = [(speaker(k), [*g]) for k, g in groupby(each, lambda x: x[0].lang)]
    lines = ["", "", "\t\tDUMP OF SYSTEM ALIGNMENT STRUCTURE", "", f"System name:   {title}", ""]
    lines += ["Speakers: ", *(f"{n:5}:  {name}" for n, (name, _) in enumerate(groups)), ""]
    for n, (name, utterances) in enumerate(groups):
        lines.append(f"Speaker sentences{n:4}:  {name}   #utts: {len(utterances)}")
        for pair, letters in utterances:
            lines += [*_utterance(pair, letters, chars), ""]
    return "\n".join([*lines, "", ""])


def _utterance(pair: Pair, letters: str, chars: bool) -> Iterator[str]:
    row = count(letters)
    yield f"id: ({speaker(pair.lang)}-{escape(pair.utt)})"
    yield f"Scores: (#C #S #D #I) {row.corr} {row.sub} {row.dele} {row.ins}"
    yield "Attributes: Case_sensitve "
    if not letters:
        return
    heads = ("REF:  ", "HYP:  ", "Eval: ")
    sides = list(heads)
    for ref, hyp, letter in columns(pair, letters, chars):
        width = max(len(cell.encode()) for cell in (ref, hyp) if cell is not None)
        if len(sides[2]) + width + 1 >= LINE:
            yield from sides
            yield ""
            sides = [f">> {head}" for head in heads]
        for n, cell in enumerate((ref, hyp, "" if letter == "C" else letter)):
            cell = "*" * width if cell is None else cell
            sides[n] += cell + " " * (width - len(cell.encode()) + 1)
    yield from sides


def details(title: str, pairs: Sequence[Pair], aligned: Sequence[str], chars: bool) -> str:
    """The `.dtl` file: how many sentences and words are wrong, and each confusion, by frequency.

    Args: as of `alignments`.
    """
    rows = [count(letters) for letters in aligned]
    row = total(rows)
    found = [
        column
        for pair, letters in zip(pairs, aligned, strict=True)
        for column in columns(pair, letters, chars)
    ]
    wrong = [(ref or "", hyp or "") for ref, hyp, letter in found if letter == "S"]
    lists = [
        _list("CONFUSION PAIRS", (f"{ref} ==> {hyp}" for ref, hyp in wrong)),
        "",
        _list("INSERTIONS", (hyp or "" for _, hyp, letter in found if letter == "I")),
        "",
        _list("DELETIONS", (ref or "" for ref, _, letter in found if letter == "D")),
        "",
        _list("SUBSTITUTIONS", (ref for ref, _ in wrong)),
        "* NOTE: The 'Substitution' words are those reference words",
        "        for which the recognizer supplied an incorrect word.",
        "",
        "",
        _list("FALSELY RECOGNIZED", (hyp for _, hyp in wrong)),
        "* NOTE: The 'Falsely Recognized' words are those hypothesis words",
        "        which the recognizer incorrectly substituted for a reference word.",
        "",
        "",
    ]
    return "\n".join([*_summary(title, row, rows), *lists])


def _summary(title: str, row: Row, rows: Sequence[Row]) -> list[str]:
    """The head of the `.dtl` file."""

    def share(name: str, number: int, whole: int) -> str:
        return f"{name:<38}{percent(number, whole):>7}%   ({number:4})"

    def rate(name: str, number: int) -> str:
        return f"Percent {name:<18}=  {percent(number, row.wrd):>5}%   ({number:4})"

    right = row.wrd - row.err
    accuracy = "-" * (right < 0) + percent(abs(right), row.wrd)
    numbers = {"Ref.": row.wrd, "Hyp.": row.corr + row.sub + row.ins, "Aligned": row.wrd + row.ins}
    return [
        f"DETAILED OVERALL REPORT FOR THE SYSTEM: {title}",
        "",
        "SENTENCE RECOGNITION PERFORMANCE",
        "",
        f" sentences{row.snt:44}",
        share(" with errors", row.serr, row.snt),
        "",
        share("   with substitions", sum(r.sub > 0 for r in rows), row.snt),
        share("   with deletions", sum(r.dele > 0 for r in rows), row.snt),
        share("   with insertions", sum(r.ins > 0 for r in rows), row.snt),
        "",
        "",
        "WORD RECOGNITION PERFORMANCE",
        "",
        rate("Total Error", row.err),
        "",
        rate("Correct", row.corr),
        "",
        rate("Substitution", row.sub),
        rate("Deletions", row.dele),
        rate("Insertions", row.ins),
        f"Percent {'Word Accuracy':<18}=  {accuracy:>5}%",
        "",
        "",
        *(f"{f'{name} words':<26}={'':11}({number:4})" for name, number in numbers.items()),
        "",
    ]


def _list(name: str, entries: Iterable[str]) -> str:
    """What occurs how often, the most frequent first, equals in the order of their bytes."""
    counts = Counter(entries)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    lines = [f"{name:<33}Total                 ({len(ranked)})"]
    lines += [f"{'':33}With >=  1 occurrences ({len(ranked)})", ""]
    lines += [f"{n:4}: {times:4}  ->  {entry}" for n, (entry, times) in enumerate(ranked, 1)]
    return "\n".join([*lines, "     -------", f"{sum(counts.values()):10}", "", ""])
