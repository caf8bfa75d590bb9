"""What a training heard and what dev said of it, in words, for RESULTS.md and report.html."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from espnet_dq.report.train_log import TrainLog

# Of dev's loss, from the best look to the last: more is named. Less comes and goes between looks.
RISE = 0.02
DEV = ("loss", "loss_ce", "loss_kl")  # of these, what a look at dev says


@dataclass(frozen=True)
class Look:
    """Dev after so many steps; `losses` by their names in the log, as far as they are finite."""

    steps: int
    losses: Mapping[str, float]


def looks(log: TrainLog, interval: int | None) -> list[Look]:
    """All looks at dev in order; 0 steps: before training.

    The whole loss before training is left out: hidden states are not yet mapped to each other.

    Args:
        log: of the training.
        interval: steps between two looks; None: not known, epochs are counted instead.
    """
    found = []
    for epoch, means in sorted(log.epochs.items()):
        valid = means.get("valid", {})
        said = {key: valid[key] for key in DEV if isfinite(valid.get(key, float("nan")))}
        if epoch == 0:
            said.pop("loss", None)
        if said:
            found.append(Look(epoch * (interval or 1), said))
    return found


def verdict(found: list[Look], unit: str = "steps") -> str | None:
    """In words: which look was the best, whose weights are kept, and whether dev rose after it."""
    known = [look for look in found if "loss" in look.losses]
    if not known:
        return None
    best, last = min(known, key=lambda look: look.losses["loss"]), known[-1]
    low, end = best.losses["loss"], last.losses["loss"]
    said = f"dev was best after {best.steps} {unit} (loss {low:.3f}), and these weights are kept"
    if end > low * (1 + RISE):
        said += f"; then it rose to {end:.3f}: overfitting, fewer {unit} or more data would do"
    elif best is last and len(known) > 1:
        said += f", the last: more {unit} may do more"
    first = found[0].losses.get("loss_ce")
    after = best.losses.get("loss_ce")
    if found[0].steps == 0 and first is not None and after is not None:
        said += f". On its texts: {first:.3f} before training, {after:.3f} then"
        if after >= first:
            said += ", so the training has not helped"
    return said + "."


def told(plan: Mapping | None, logs: Mapping[str, TrainLog]) -> dict[str, str]:
    """Of each training, in a few sentences.

    Args:
        plan: what plan.json holds; None: there is none.
        logs: of the trainings, by name.
    """
    found = {}
    for name, log in logs.items():
        length = (plan or {}).get(name)
        interval = length and length["interval"]
        parts = [length["said"] + "." if length else None]
        parts.append(verdict(looks(log, interval), "steps" if interval else "epochs"))
        if said := " ".join(part[0].upper() + part[1:] for part in parts if part):
            found[name] = said
    return found
