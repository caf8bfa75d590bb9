"""The report's pictures as inline SVG: no script, no external reference, readable alone.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; each system also has a
marker of its own, and each picture a title and a description for screen readers.
"""

import io
import re
from html import escape

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espnet_dq.report import course
from espnet_dq.report.train_log import TrainLog
from espnet_dq.scoring import beside
from espnet_dq.scoring.score import MEAN

COLOURS = ["#E69F00", "#0072B2", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#000000"]
MARKERS = "osD^vPX"
LOSSES = {  # key in the log -> its name, colour and line
    "loss": ("total", "#000000", "-"),
    "loss_ce": ("cross-entropy", "#E69F00", "--"),
    "loss_kl": ("KL to the teacher", "#0072B2", "-."),
    "loss_hidden": ("hidden states (no unit)", "#009E73", ":"),
}
DEV = (("loss", "total, dev", "full"), ("loss_ce", "cross-entropy, dev", "none"))
_STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, and it can be read and searched
    "svg.hashsalt": "espnet_dq",  # the same numbers give the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element to put into a page; `name` makes its ids unique there."""
    out = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(
            out,
            format="svg",
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    head = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    said = f'<title id="{name}-title">{escape(title)}</title>'
    said += f'<desc id="{name}-desc">{escape(description)}</desc>'
    svg = svg.replace("<svg", head, 1)
    return re.sub(r"(<svg[^>]*>)", lambda m: m[1] + said, svg, count=1)


def _plain(text: str) -> str:
    """Text as it is: matplotlib would take `$...$` for a formula."""
    return text.replace("$", r"\$")


def marker(system: int) -> str:
    """The marker of a system, by its number: where colours come again, beside another one."""
    return MARKERS[(system + system // len(COLOURS)) % len(MARKERS)]


def wer_by_language(results: dict, order: list[str]) -> str:
    """Each system's WER in each language and in the mean, a row per language.

    Args:
        order: the languages, and `mean` of several, from top to bottom.
    """
    systems = results["systems"]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(
            figsize=(5, 1.2 + 0.11 * len(order) * (1 + len(systems)) + 0.24 * len(systems))
        )
        axes = figure.add_subplot()
        for k, system in enumerate(systems):
            # A little lower for each system: equal rates stay visible side by side.
            shift = 0.6 * (k / max(1, len(systems) - 1) - 0.5)
            points = [
                (system["wer"][lang], y + shift)
                for y, lang in enumerate(order)
                if lang in system["wer"]
            ]
            axes.plot(
                *zip(*points, strict=True),
                marker(k),
                color=COLOURS[k % len(COLOURS)],
                label=_plain(system["name"]),
                alpha=0.9,
                markersize=8,
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.hlines(
            np.arange(len(order) - 1) + 0.5,
            0,
            1,
            color="#c8c8c8",
            linewidth=0.8,
            transform=axes.get_yaxis_transform(),
        )
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("word error rate (%), lower is better")
        figure.legend(loc="outside upper left", ncols=1)
    mean = beside.mean(order)
    said = "; ".join(f"{s['name']}: {mean}{s['wer'][MEAN]:.1f} %" for s in systems)
    return _svg(figure, "languages", "Word error rate by language", said)


def error_against_size(results: dict) -> str:
    """Mean WER, of one language its own, against bytes on disk, a labelled point per system."""
    systems = results["systems"]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5, 2.6 + 0.24 * len(systems)))
        axes = figure.add_subplot()
        for k, system in enumerate(systems):
            axes.plot(
                system["bytes_on_disk"] / 1e6,
                system["wer"][MEAN],
                marker(k),
                color=COLOURS[k % len(COLOURS)],
                label=_plain(system["name"]),
                alpha=0.9,
                markersize=9,
            )
        axes.set_xlim(0, 1.1 * max(s["bytes_on_disk"] for s in systems) / 1e6)
        axes.set_ylim(0, 1.15 * max([s["wer"][MEAN] for s in systems] + [1]))
        axes.set_xlabel("size on disk (MB, millions of bytes)")
        mean = beside.mean(lang for s in systems for lang in s["wer"])
        axes.set_ylabel(f"{mean}WER (%)")
        figure.legend(loc="outside upper left", ncols=1)
    said = "; ".join(
        f"{s['name']}: {s['bytes_on_disk'] / 1e6:.1f} MB, {s['wer'][MEAN]:.1f} %" for s in systems
    )
    return _svg(figure, "size", "Word error rate against size on disk", said)


def losses(name: str, log: TrainLog) -> str:
    """A training stage's losses: means of intervals as lines, validation as points."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5, 3.4))
        axes = figure.add_subplot()
        said = []
        for key, (label, colour, line) in LOSSES.items():
            at, values = log.curve(key)
            if at:
                axes.plot(at, values, line, color=colour, label=label, linewidth=1.6)
                said.append(f"{label} {values[0]:.3g} to {values[-1]:.3g}")
        for key, label, fill in DEV:
            looks = [each for each in course.looks(log, None) if key in each.losses]
            if looks:
                at, values = zip(*((each.steps, each.losses[key]) for each in looks), strict=True)
                style = {"color": "#D55E00", "label": label, "markersize": 7, "fillstyle": fill}
                axes.plot(at, values, "D", **style)
                said.append(f"{label} {values[0]:.3g} to {values[-1]:.3g}")
        axes.set_xlim(left=0)
        axes.set_xlabel("training time (epochs)")
        axes.set_ylabel("loss (nats)")
        figure.legend(loc="outside upper left", ncols=2)
    return _svg(figure, f"loss-{name}", f"Losses during {name}", "; ".join(said))


def matching(name: str, log: TrainLog) -> str:
    """The teacher layer that taught each student layer, over training.

    A row per student layer, time to the right, colour for the mean teacher layer of an
    interval; the numbers at both ends are the first and last means. Layers count from 0.
    """
    layers = log.student_layers()
    curves = {layer: log.curve(f"match_l{layer}") for layer in layers}
    top = max(max(values) for _, values in curves.values())
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5, 1.5 + 0.4 * len(layers)))
        axes = figure.add_subplot()
        axes.grid(False)
        for layer, (at, values) in curves.items():
            edges, row = np.array([0.0, *at]), np.array([values])
            level = [layer - 0.45, layer + 0.45]
            mesh = axes.pcolormesh(edges, level, row, cmap="cividis", vmin=0, vmax=max(top, 1))
            mesh.set_edgecolor("face")  # no seams between neighbours
            for x, value, pad in ((0, values[0], 6), (at[-1], values[-1], -6)):
                ink = "white" if value < 0.5 * top else "black"
                where = {"xytext": (pad, 0), "textcoords": "offset points", "va": "center"}
                side = "left" if pad > 0 else "right"
                axes.annotate(f"{value:.1f}", (x, layer), color=ink, ha=side, **where)
        axes.set_yticks(layers)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("training time (epochs)")
        axes.set_ylabel("student decoder layer")
        bar = figure.colorbar(mesh, label="teacher decoder layer")
        bar.solids.set(rasterized=False, edgecolor="face")  # else it becomes an embedded PNG
    said = "; ".join(
        f"student layer {layer}: teacher layer {values[0]:.1f} at first, {values[-1]:.1f} at last"
        for layer, (_, values) in curves.items()
    )
    return _svg(figure, f"match-{name}", f"Teacher layer for each student layer, {name}", said)


def stage(name: str, log: TrainLog) -> list[str]:
    """The pictures of a training stage: its losses, and the matching where it was logged."""
    return [losses(name, log), *([matching(name, log)] if log.student_layers() else [])]
