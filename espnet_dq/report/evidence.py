"""The report's sections on what was checked, left out and what failed."""

from collections import Counter

from espnet_dq.data.splits import SPLITS
from espnet_dq.formats.report import OPEN
from espnet_dq.report.collect import Experiment
from espnet_dq.report.markup import details, paragraph, section, side, table
from espnet_dq.report.origin import prose
from espnet_dq.report.size import MIB
from espnet_dq.report.tables import units
from espnet_dq.scoring.beside import counted

MOST = 20  # rows shown of a list that may be long; the rest is counted


def parity(verify: dict | None) -> str:
    """The exported file against the trained model: by kind, each that differs, each one at all."""
    title = "Exported file against trained model"
    if verify is None:
        return section(title, paragraph("Not verified in this run."))
    said = (
        f"{verify['mismatched']} mismatched values in {verify['tensors']} tensors, scales and "
        f"floats included. Integers and scales take {_mb(verify['grid_bytes'])} MB, weights in "
        f"float {_mb(verify['float_bytes'])} MB; on disk {_mb(verify['bytes_on_disk'])} MB; by the "
        f"paper's rule {verify['paper_rule_bytes'] / MIB:.2f} MiB (counted, not measured)."
    )
    kinds: dict[tuple, Counter] = {}
    wrong, every = [], []
    for row in verify["rows"]:
        count = kinds.setdefault((row["kind"], row["grid"], row["bits"]), Counter())
        count.update(tensors=1, bytes=row["bytes"], values=row["integers"], scales=row["scales"])
        if row["integers"] or row["scales"]:
            wrong.append([row["name"], row["grid"], row["integers"], row["scales"]])
        shape = "×".join(map(str, row["shape"])) or "–"
        error = "–" if row["error"] is None else f"{row['error']:.5f}"
        every.append([row["name"], shape, row["kind"], row["grid"], row["bits"], row["bytes"],
                      error, row["integers"], row["scales"]])  # fmt: skip
    parts = [paragraph(said)]
    left = [row["name"] for row in verify["rows"] if row["kind"] == OPEN]
    if left and verify["grid_bytes"]:
        parts.append(paragraph(f"In float although it could be on a grid: {', '.join(left)}."))
    rows = [
        [*key, c["tensors"], _mb(c["bytes"]), c["values"], c["scales"]]
        for key, c in sorted(kinds.items())
    ]
    head = ["what", "grid", "bits", "tensors", "MB", "values that differ", "scales that differ"]
    caption = "Tensors of the file; of those in float, why they are"
    parts.append(table(caption, head, rows, None, (1,)))
    if wrong:
        caption = f"Tensors that differ ({min(MOST, len(wrong))} of {len(wrong)})"
        parts.append(
            table(caption, ["tensor", "grid", "values", "scales"], wrong[:MOST], None, (1,))
        )
    head = ["tensor", "shape", "what", "grid", "bits", "bytes", "error", "values", "scales"]
    caption = (
        "error: of rounding, ‖stored − float‖ / ‖float‖; values, scales: how many differ from the "
        "trained model's"
    )
    parts.append(details("Every tensor of the file", table(caption, head, every, None, (2, 3))))
    return section(title, *parts)


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f}"


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
        splits = {k: v for k, v in exp.formatted.items() if isinstance(v, dict) and k in SPLITS}
        rows = [
            [name, v.get("utterances", "–"), v.get("minutes", "–"), _reasons(v.get("left_out"))]
            for name, v in splits.items()
        ]
        head = ["split", "utterances", "minutes", "left out"]
        parts.append(table("After the format stage", head, rows, None, (3,)))
    if exp.heard is None:
        parts.append(paragraph("Minutes in windows: not recorded in this run."))
    else:
        total = sum(minutes["heard"] for minutes in exp.heard.values())
        rows = [
            [lang, round(m["given"], 1), round(m["heard"], 1), f"{100 * m['heard'] / total:.1f} %"]
            for lang, m in exp.heard.items()
        ]
        head = ["language", "given", "in windows", "share of what is heard"]
        caption = "Minutes of train, and in the windows made of it (balance, pauses, singles)"
        parts.append(table(caption, head, rows))
    counts = {lang: c for score in exp.scores.values() for lang, c in score["counts"].items()}
    rows = [
        [k, c["utterances"], c["long_utterances"], c["ref_words"], c["ref_chars"], c["left_out"]]
        for k, c in sorted(counts.items())
    ]
    tokens = counted(units(exp.results))
    head = ["language", "utterances", "long", tokens, "characters", "left out: empty reference"]
    scored = table("What was scored, in references after normalisation", head, rows)
    return section("Data", side(*parts), scored)


def _reasons(left_out: dict | None) -> str:
    return "; ".join(f"{n} {why}" for why, n in (left_out or {}).items()) or "none"


def failures(exp: Experiment) -> str:
    """Clips that could not be decoded, and references that no hypothesis came for."""
    rows = [
        [name, len(d["failed"]), exp.scores[name]["missing"]] for name, d in exp.decodes.items()
    ]
    failed = [
        [utt, name, prose(why)]
        for name, d in exp.decodes.items()
        for utt, why in d["failed"].items()
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
    return section("Failures", *parts, *_token_limits(exp), *_guard(exp))


def _guard(exp: Experiment) -> list[str]:
    """What the guard did, where it was asked for and did anything."""
    found = {name: d["guard"] for name, d in exp.decodes.items() if "guard" in d}
    if not any(utts for x in found.values() for utts in x.values()):
        return []
    rows = [[name, len(x["again"]), len(x["cut"])] for name, x in found.items()]
    head = ["system", "tried again", "cut"]
    parts = [table("Texts that cannot have been said (--guard)", head, rows)]
    named = [[utt, name, what] for name, x in found.items() for what in x for utt in x[what]]
    caption = f"They are ({min(MOST, len(named))} of {len(named)})"
    return [*parts, table(caption, ["utterance", "system", "guard"], named[:MOST], None, (1, 2))]


def _token_limits(exp: Experiment) -> list[str]:
    """How many texts each system's decoder had no room for, and which they are."""
    limits = {name: d["token_limit"] for name, d in exp.decodes.items()}
    rows = [[name, x["tokens"], len(x["in two"]), len(x["cut"])] for name, x in limits.items()]
    head = ["system", "tokens at most", "decoded in two", "cut"]
    parts = [table("Texts that reached the decoder's last position", head, rows)]
    named = [
        [utt, name, what]
        for name, x in limits.items()
        for what in ("cut", "in two")
        for utt in x[what]
    ]
    if named:
        caption = f"Texts that reached it ({min(MOST, len(named))} of {len(named)})"
        parts.append(table(caption, ["utterance", "system", "what"], named[:MOST], None, (1, 2)))
    return parts
