"""The report's sections on errors: how sure differences are, and which errors there are."""

from espnet_dq.report.markup import aligned, details, paragraph, section, table, text
from espnet_dq.report.tables import (
    CONFUSED,
    DIFFERENCES,
    confused_rows,
    difference_caption,
    difference_rows,
    examples_captions,
    insertions,
    insertions_caption,
    title,
)
from espnet_dq.scoring.score import MEAN


def sure(results: dict) -> str:
    """How sure the student's differences to the others are: in the mean, and by language."""
    rows, caption, prose = difference_rows(results), difference_caption(results), (1, 2, 5, 8)
    if not rows:
        return ""
    first = [row for row in rows if row[2] == MEAN] or rows  # of one language there is no mean
    shown = table(caption, DIFFERENCES, first, None, prose)
    if first == rows:
        return shown
    each = [row for row in rows if row[2] != MEAN]
    languages = table("Each language alone", DIFFERENCES, each, None, prose)
    return shown + details("The same by language", languages)


def examples(results: dict, mark: str | None) -> str:
    """What all systems insert, and the student's errors: in which utterances, of which words."""
    found, (head, rows) = results["examples"], insertions(results)
    caption = f"{insertions_caption(results)}. Many are a sign of loops and of made-up text"
    parts = [
        table(caption, head, rows, mark)
        if rows
        else paragraph("Insertions a minute: the lengths of the audio are not recorded.")
    ]
    if found is not None:
        most, confused = examples_captions(results)
        parts.append(f"<h3>{text(most)}</h3>")
        said = (
            "As scored (normalised). Above: the reference; below: what was heard; a dash: nothing."
        )
        parts.append(paragraph(said, soft=True))
        for x in found["utterances"]:
            parts.append(paragraph(title(x), soft=True))
            parts.append(aligned(zip(x["said"], x["heard"], strict=True)))
        parts.append(table(confused, CONFUSED, confused_rows(found), None, (1, 2, 3)))
    return section("Which errors", *parts)
