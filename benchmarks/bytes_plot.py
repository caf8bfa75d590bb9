"""Draws errors against bytes on disk, of the lines that `benchmarks/transfer.py` left.

Two panels: seen voices and other voices. A point is a file; up is its error rates by those of the
untouched float model that is the lines' first, of a window at most as many errors as it has words
(`espnet_dq.scoring.transfer.Capped`), with its 95 % interval. Of a file that was measured twice the
last line counts.

    .venv/bin/python benchmarks/bytes_plot.py --lines benchmarks/results/transfer.jsonl \\
        --sample d132e2c59819 --out docs/bytes.svg
"""

import argparse
import io
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from espnet_dq.data.canary import SEEN, VOICES
from espnet_dq.errors import InputError, run
from espnet_dq.files import write_text
from espnet_dq.scoring.score import MEAN
from lines import Lines

# By the beginning of a line's name: colour and marker (Okabe and Ito's colours).
GROUPS = {
    "untouched tiny": ("#56B4E9", "o"),
    "untouched base": ("#0072B2", "s"),
    "trained tiny": ("#E69F00", "D"),
    "trained base": ("#D55E00", "^"),
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "espnet_dq",  # the same numbers give the same file
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def points(lines: list[dict], sample: str) -> dict[str, dict]:
    """Name -> line, of those with bytes that are of the sample and begin as a group does.

    Raises:
        InputError: there is none, or a file's name stands for two files.
    """
    found: dict[str, dict] = {}
    for line in lines:
        name = line["model"]
        if line["sample"] == sample and "bytes" in line and name.startswith(tuple(GROUPS)):
            if found.get(name, line)["weights"] != line["weights"]:
                raise InputError(f"{name}: the name of two files")
            found[name] = line
    if not found:
        raise InputError(f"--sample {sample}: no line of it has bytes and a name of {[*GROUPS]}")
    return found


def draw(found: dict[str, dict]) -> Figure:
    """Two panels, a marker a file, what it is called beside it."""
    figure = Figure(figsize=(9, 4.2))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, kind in zip(panels, (SEEN, VOICES), strict=True):
        axes.set_title(kind, loc="left")
        axes.axhline(1, color="#777777", linewidth=0.8)
        axes.set_xscale("log")
        ticks = [25, 40, 60, 80, 150]
        axes.set_xticks(ticks, [str(x) for x in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(21, 190)
        axes.set_xlabel("MB on disk")
        for group, (colour, marker) in GROUPS.items():
            for name in (x for x in found if x.startswith(group)):
                line = found[name]
                of = line["kinds"][kind][MEAN]["capped"]
                size, ratio = line["bytes"] / 1e6, of["ratio"]
                axes.errorbar(
                    size, ratio, [[ratio - of["low"]], [of["high"] - ratio]],
                    color=colour, marker=marker, linewidth=0.8, capsize=2,
                )  # fmt: skip
                label = re.sub(r"^(ggml|ct2)_", "", name.removeprefix(group).strip(", "))
                axes.annotate(
                    label or "float", (size, ratio), (5, 4), textcoords="offset points", fontsize=8
                )
    panels[0].set_ylabel("errors by those of the untouched tiny")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=group)
        for group, (colour, marker) in GROUPS.items()
        if any(name.startswith(group) for name in found)
    ]
    panels[1].legend(handles=handles, loc="upper right")
    return figure


def get_parser() -> argparse.ArgumentParser:
    """Lines, which of them, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--lines", type=Path, required=True, help="of benchmarks/transfer.py")
    add("--sample", required=True, help="of which windows, as the lines say")
    add("--out", type=Path, required=True, help="the picture (.svg)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw; returns 0."""
    args = get_parser().parse_args(argv)
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw(points(Lines(args.lines).read(), args.sample)).savefig(
            out, format="svg", metadata=metadata
        )
    write_text(args.out, out.getvalue())
    return 0


if __name__ == "__main__":
    run(main)
