"""The report's sections on what was checked, left out and what failed."""

from collections import Counter

from espnet_dq.report.collect import Experiment
from espnet_dq.report.markup import paragraph, section, side, table

MOST = 20  # rows shown of a list that may be long; the rest is counted


def parity(verify: dict | None) -> str:
    """The exported file against the trained model, by kind of tensor; each one that differs."""
    title = "Exported file against trained model"
    if verify is None:
        return section(title, paragraph("Not verified in this run."))
    said = (
        f"{verify['mismatched']} mismatched values in {verify['tensors']} tensors, scales and "
        "floats included."
    )
    kinds: dict[tuple, Counter] = {}
    wrong = []
    for row in verify.get("rows", []):
        count = kinds.setdefault((row["grid"], row["bits"]), Counter())
        count.update(tensors=1, bytes=row["bytes"], values=row["integers"], scales=row["scales"])
        if row["integers"] or row["scales"]:
            wrong.append([row["name"], row["grid"], row["integers"], row["scales"]])
    parts = [paragraph(said)]
    if kinds:
        rows = [
            [grid, bits, c["tensors"], f"{c['bytes'] / 1e6:.2f}", c["values"], c["scales"]]
            for (grid, bits), c in sorted(kinds.items(), key=str)
        ]
        head = ["grid", "bits", "tensors", "MB", "values that differ", "scales that differ"]
        parts.append(table("Tensors of the file by grid and bits", head, rows))
    if wrong:
        caption = f"Tensors that differ ({min(MOST, len(wrong))} of {len(wrong)})"
        parts.append(
            table(caption, ["tensor", "grid", "values", "scales"], wrong[:MOST], None, (1,))
        )
    return section(title, *parts)


def data(exp: Experiment) -> str:
    """Utterances by language and split, and what was left out, where and why."""
    parts = []
    if exp.data is None:
        parts.append(paragraph("Counts of the data preparation: not recorded in this run."))
    else:
        splits = list(dict.fromkeys(k for r in exp.data.values() for k in r if k != "left_out"))
        rows = [[lang, *(r.get(k, "–") for k in splits)] for lang, r in exp.data.items()]
        parts.append(table("Utterances in each split, and minutes", ["language", *splits], rows))
        reasons = sorted({why for r in exp.data.values() for why in r.get("left_out", {})})
        out = [[w, *(r.get("left_out", {}).get(w, 0) for r in exp.data.values())] for w in reasons]
        caption = "Entries that the data preparation left out, by language"
        parts.append(
            table(caption, ["reason", *exp.data], out) if out else paragraph("None left out.")
        )
    if exp.formatted is None:
        parts.append(paragraph("Counts of the format stage: not recorded in this run."))
    else:
        splits = {k: v for k, v in exp.formatted.items() if isinstance(v, dict)}
        rows = [
            [name, v.get("utterances", "–"), v.get("minutes", "–"), _reasons(v.get("left_out"))]
            for name, v in splits.items()
        ]
        head = ["split", "utterances", "minutes", "left out"]
        parts.append(table("After the format stage", head, rows, None, (3,)))
    score = next(iter(exp.scores.values()))
    rows = [
        [k, c["utterances"], c["long_utterances"], c["ref_words"], c["ref_chars"], c["left_out"]]
        for k, c in score["counts"].items()
    ]
    head = ["language", "utterances", "long", "words", "characters", "left out: empty reference"]
    scored = table("What was scored, in references after normalisation", head, rows)
    return section("Data", side(*parts), scored)


def _reasons(left_out: dict | None) -> str:
    return "; ".join(f"{n} {why}" for why, n in (left_out or {}).items()) or "none"


def failures(exp: Experiment) -> str:
    """Clips that could not be decoded, and references that no hypothesis came for."""
    rows = [
        [name, len(d.get("failed", {})), exp.scores[name].get("missing", 0)]
        for name, d in exp.decodes.items()
    ]
    failed = [
        [utt, name, why]
        for name, d in exp.decodes.items()
        for utt, why in d.get("failed", {}).items()
    ]
    parts = [
        table(
            "Counted as empty hypotheses, so each is an error in the rates above",
            ["system", "clips that failed", "without a hypothesis"],
            rows,
        )
    ]
    if failed:
        caption = f"Clips that failed ({min(MOST, len(failed))} of {len(failed)})"
        parts.append(table(caption, ["utterance", "system", "reason"], failed[:MOST], None, (1, 2)))
    return section("Failures", *parts)
