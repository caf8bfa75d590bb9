"""ESPnet's result block: the markdown tables of a RESULTS.md, from score.json's tables."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

from espnet_dq.scoring import beside
from espnet_dq.scoring.align import Row
from espnet_dq.scoring.beside import counted, mixed
from espnet_dq.scoring.table import ALL

_HEAD = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|"


def environments(date: str, commit: str) -> str:
    """The block that says when, where and with what the results were made."""
    return "\n".join(
        [
            "# RESULTS",
            "## Environments",
            f"- date: `{date}`",
            f"- python version: `{platform.python_version()}`",
            f"- espnet version: `espnet {version('espnet')}`",
            f"- pytorch version: `pytorch {version('torch')}`",
            f"- Git hash: `{commit}`",
            "",
        ]
    )


def tables(scores: Mapping[str, Mapping]) -> str:
    """`### WER` and `### CER`, one row per dataset and language, the sum of several first.

    Where letters count as words that is said below the table.

    Args:
        scores: score.json's content by dataset name, usually SYSTEM/TESTSET.
    """
    blocks = []
    for kind in ("wer", "cer"):
        lines = [f"### {kind.upper()}", "", _HEAD]
        for dataset, score in scores.items():
            rows = score["table"][kind]
            langs = [k for k in rows if k != ALL]
            for lang in (ALL, *(langs if len(langs) > 1 else [])):
                row = Row(**rows[lang])
                name = dataset if lang == ALL else f"{dataset}/{lang}"
                lines.append("|".join(["", name, str(row.snt), str(row.wrd), *row.percent(), ""]))
        unit = {lang: each for s in scores.values() for lang, each in s["unit"].items()}
        if kind == "wer" and counted(unit) != "words":
            both = "; the rows over all languages add both up" if mixed(unit) else ""
            lines += ["", f"Wrd: {counted(unit)}{both}."]
        blocks.append("\n".join([*lines, ""]))
    return "\n".join(blocks)


def shown(name: str, score: Mapping) -> list[str]:
    """The result block and the rates of a score, and what they rest on, in lines.

    Args:
        name: What the block calls it.
        score: score.json's content.
    """
    lines = tables({name: score}).split("\n")
    for rate in ("wer", "cer"):
        mean, *langs = beside.columns(score[rate])
        each = " ".join(f"{k} {score[rate][k]:.1f}" for k in langs)
        rates = f"{rate.upper()}: {mean} {score[rate][mean]:.1f} %"
        lines.append(f"{rates} ({each})" if langs else rates)
    lines.append(beside.units(score["unit"]))
    other = beside.differing(name, score)
    for _, lang, wer, wer_openai, cer, cer_openai in other:
        rates = f"WER {wer_openai} % instead of {wer}, CER {cer_openai} % instead of {cer}"
        lines.append(f"openai-whisper's own normaliser, {lang}: {rates}")
    return [
        *lines,
        *([] if other else [beside.SAME]),
        f"tables: {score['tool']}; rates: {score['rates']}; text: {score['normalizer']}",
        f"without a hypothesis, counted as empty: {score['missing']}",
        f"references that normalise to nothing, left out: {score['left_out']}",
    ]
