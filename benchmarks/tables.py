"""The tables of RESULTS, from the figures in benchmarks/results.

.venv/bin/python benchmarks/tables.py
"""

import argparse
import json
from pathlib import Path

from espnet_dq.errors import run
from espnet_dq.report.markdown import table

RESULTS = Path(__file__).with_name("results")


def lines(name: str) -> list[dict]:
    """The JSON lines of a file of results; none if there is no such file."""
    path = RESULTS / name
    return [json.loads(s) for s in path.read_text("utf-8").splitlines()] if path.is_file() else []


def grids() -> str:
    """Rounding and training, grid by grid."""
    rows = []
    for line in lines("grids.jsonl"):
        wer, cer = line["wer"], line["cer"]["mean"]
        start = line["experiment"].removeprefix("asterisk_")
        rows.append(
            [
                start.replace("_ct2_int8", ""),
                line["grid"], line["runtime"], line["method"], line.get("qat_config", ""),
                line.get("seed", ""), line.get("padding", ""),
                f"{line['bytes_on_disk'] / 1e6:.1f}", f"{wer['mean']:.1f}",
                *(f"{wer[lang]:.1f}" for lang in wer if lang != "mean"), f"{cer:.1f}",
                f"{line['mismatched']} in {line['tensors']}", line["date"], line["commit"],
            ]
        )  # fmt: skip
    first = lines("grids.jsonl")[0]["wer"]
    languages = [lang for lang in first if lang != "mean"]
    head = ["start", "grid", "runtime", "method", "configuration", "seed", "windows", "MB", "WER"]
    return table([*head, *languages, "CER", "mismatched", "date", "commit"], rows)


def parity() -> str:
    """Values and texts, file against training."""
    rows = []
    for line in lines("parity.jsonl"):
        texts = [""] * 3
        if "equal" in line:
            texts = [line["runtime"], f"{line['equal']:.1f} %", f"{line['equal_itself']:.1f} %"]
        rows.append(
            [
                line["model"], line["grid"], line["format"], f"{line['bytes_on_disk'] / 1e6:.1f}",
                f"{line['mismatched']} in {line['tensors']}", *texts, line["date"], line["commit"],
            ]
        )  # fmt: skip
    head = ["model", "grid", "format", "MB", "mismatched", "runtime", "texts as in torch"]
    return table([*head, "as its own, audio 1e-6 louder", "date", "commit"], rows)


def speed() -> str:
    """Side by side."""
    report = json.loads((RESULTS / "speed.json").read_text("utf-8"))
    rows = []
    for name, each in report["systems"].items():
        rtf = "{median:.3f} ({min:.3f} to {max:.3f})".format(**each["rtf"])
        first, memory = f"{each['first_word_seconds']:.2f}", f"{each['peak_rss_bytes'] / 1e6:.0f}"
        size = f"{each['bytes_on_disk'] / 1e6:.1f}"
        rows.append([name, each["compute_type"], size, rtf, first, memory])
    head = ["system", "computes in", "MB on disk", "RTF", "first word (s)", "peak memory (MB)"]
    about = f"{report['clips']} clips, {report['audio_seconds']:.0f} s, {report['rounds']} rounds, "
    about += f"{report['threads']} threads, {report['cpu']}, {report['date']}"
    return f"{about}\n\n{table(head, rows)}"


def step_cost() -> str:
    """What a training step costs."""
    report = json.loads((RESULTS / "step_cost.json").read_text("utf-8"))
    peak = report["peak_rss_bytes"]
    rows = []
    for name in report["live"]:
        row = [name]
        for kind in ("live", "cached"):
            each = report[kind].get(name)
            row.append(f"{each['median_seconds']:.2f}" if each else "")
            ratio = "{ratio:.2f} ({ratio_min:.2f} to {ratio_max:.2f})"
            row.append(ratio.format(**each) if each and "ratio" in each else "")
        against = report["live"][name].get("against", "")
        rows.append([*row, against, f"{(peak[name] - peak['logits']) / 1e6:+.0f}"])
    head = ["variant", "s", "ratio", "s, cached", "ratio, cached", "against", "MB beyond logits"]
    about = f"tiny from base, {report['batch']} utterances of {report['seconds']} s with "
    about += f"{report['tokens']} tokens, {report['rounds']} rounds, {report['threads']} threads, "
    about += f"{report['date']}; in brackets the lowest and the highest round"
    return f"{about}\n\n{table(head, rows)}"


def main(argv: list[str] | None = None) -> int:
    """Print all tables; returns 0."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    for make in (grids, parity, speed, step_cost):
        print(f"### {make.__doc__}\n\n{make()}\n")
    return 0


if __name__ == "__main__":
    run(main)
