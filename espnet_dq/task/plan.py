"""How long a training is: its steps follow the data, and dev is heard at intervals.

A configuration that fixes no length (neither `max_epoch` nor `num_iters_per_epoch`) gets as many
steps as its windows ask for. ESPnet's "epoch" is then an interval, at whose end dev is heard and a
checkpoint written: a killed training loses one, and of all of them the best by dev is kept.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import ceil, inf
from pathlib import Path

import yaml

from espnet_dq.config import TRAININGS, check_number, check_whole, read_config, read_section
from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError, shown
from espnet_dq.files import atomic, check_replaceable, write_text
from espnet_dq.values import share

PLAN = "plan.json"  # in an experiment
# All windows PASSES times, but of little data so often that there are LEAST steps, or they are
# heard MOST_PASSES times. On the grid, after float, it is a SHARE of these steps, and LEAST_ON_GRID
# of them where there are as many.
PASSES, LEAST, MOST_PASSES = 2, 50, 8
SHARE, LEAST_ON_GRID = 0.2, 20
# Of the time of a training, spent on hearing dev; a forward pass takes a third of a step.
ON_DEV = 0.15
INTERVAL = 10  # steps between two looks at dev, at least, unless there are fewer than two such
# Dev windows that are heard, at most; more make each look at dev dearer, hardly more certain.
DEV_WINDOWS = 100
MERGE = 1.0  # of what kd made, where the training on the grid begins; the rest is the untouched
AUTO = "auto"  # instead: see espnet_dq/task/share.py
MERGED = "merged.pth"  # what that makes, in kd
TWICE = "it fixes a length, and so do --steps, --epochs or --qat_steps: leave one of them out"
COUNTS = ("max_epoch", "num_iters_per_epoch", "batch_size", "valid_batch_size", "accum_grad",
          "keep_nbest_models", "log_interval")  # fmt: skip
ESPNETS = {"batch_size": 20, "accum_grad": 1}  # its own defaults


def share_or_auto(text: str) -> float | str:
    """What `--merge` may be, for argparse: `AUTO`, or a number from 0 to 1."""
    return text if text == AUTO else share(text)


@dataclass(frozen=True)
class Length:
    """Of one training.

    Attributes:
        steps: of the optimizer.
        windows: of train.
        batch: windows a step, as they are configured.
        interval: steps between two looks at dev.
        once: steps in which all windows are heard once.
    """

    steps: int
    windows: int
    batch: int
    interval: int
    once: float

    def __str__(self) -> str:
        often = self.steps / self.once
        heard = f"each {often:.1f} times" if often >= 1 else f"{100 * often:.0f} % of them"
        return (
            f"{self.steps} steps of {self.windows / self.once:.0f} windows: of {self.windows} "
            f"windows {heard}; dev every {self.interval} steps"
        )


@dataclass(frozen=True)
class Wanted:
    """What a user says of the length of the trainings.

    Attributes:
        steps: of the first one; None: as many as its data ask for, or its configuration fixes.
        epochs: the same, as how often it hears every window.
        qat_steps: of the second one; None: as `on_grid` says, or fixed.

    Raises:
        InputError: both steps and epochs, none of them, no number, or epochs without an end.
    """

    steps: int | None = None
    epochs: float | None = None
    qat_steps: int | None = None

    def __post_init__(self):
        for name in ("steps", "qat_steps"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        if self.epochs == inf:
            raise InputError("--epochs inf: a training without an end")
        if self.epochs is not None:
            check_number("epochs", self.epochs)
            if self.epochs == 0:
                raise InputError("epochs: 0 is no training")
        if self.steps and self.epochs:
            raise InputError("--steps and --epochs both say how long the first training is")

    def steps_of(self) -> tuple[int | None, int | None]:
        """Those of the first training and of the second."""
        return self.steps, self.qat_steps


def check_counts(config: Mapping, source: str) -> None:
    """Raise `InputError` unless a configuration's counts are whole numbers above 0."""
    for key in COUNTS:
        value = config.get(
            key
        )  # ESPnet takes a list of `keep_nbest_models`, and none for a default
        for number in value if isinstance(value, list) else [] if value is None else [value]:
            if type(number) is not int or number < 1:
                raise InputError(f"{source}: {key}: {shown(number)} is not a whole number above 0")


def check_amp(config: Mapping, source: str, ngpu: int) -> None:
    """Raise `InputError` if a configuration wants `use_amp` without GPUs, where it does nothing."""
    if config.get("use_amp") and not ngpu:
        raise InputError(
            f"{source}: use_amp is for GPUs (--ngpu): on a CPU, set precision: bfloat16 in "
            "model_conf"
        )


def fixed_steps(config: Mapping, source: str, windows: int | None = None) -> int | None:
    """Steps that a configuration fixes by itself; None if they are to follow the data.

    Args:
        config: a training configuration.
        source: what an error names.
        windows: of train; None: not known, and then only what does not depend on it is fixed.

    Raises:
        InputError: a length that says half of it, or a scheduler of another one.
    """
    check_counts(config, source)
    epochs, batches = config.get("max_epoch"), config.get("num_iters_per_epoch")
    schedule = read_section(config, "scheduler_conf", source).get("max_steps")
    if epochs is None and batches is None:
        if schedule is not None:
            raise InputError(
                f"{source}: scheduler_conf.max_steps: {schedule}: leave it out, it follows from "
                "the steps"
            )
        return None
    if epochs is None:
        raise InputError(f"{source}: num_iters_per_epoch without max_epoch: set both, or neither")
    if batches is None and config.get("batch_type", "folded") == "folded":  # ESPnet's default
        raise InputError(
            f"{source}: max_epoch without num_iters_per_epoch: how many batches `folded` makes is "
            "not known: set both, or neither"
        )
    if batches is None and windows is None:
        return None
    batches = batches or max(windows // _value(config, "batch_size"), 1)
    steps = epochs * (batches // _value(config, "accum_grad"))
    if not steps:
        raise InputError(f"{source}: accum_grad: an epoch has {batches} batches: not one step")
    if schedule not in (None, steps):
        raise InputError(
            f"{source}: scheduler_conf.max_steps: {schedule}, but there are {steps} steps: leave "
            "it out, it follows from them"
        )
    return steps


def heard(configs: Mapping[str, Mapping], wanted: Wanted) -> int | None:
    """Windows that the trainings can hear, however many there are; None: as many as there are.

    Args:
        configs: training configurations by what an error calls them, the first training's first.
        wanted: what the user says of their length.

    Raises:
        InputError: a length is given and fixed, or what `fixed_steps` raises.
    """
    counts = []
    for (source, config), steps in zip(configs.items(), wanted.steps_of(), strict=False):
        fixed = fixed_steps(config, source)
        if fixed is not None and (steps or (wanted.epochs and not counts)):
            raise InputError(f"{source}: max_epoch: {TWICE}")
        counts.append((steps or fixed or 0) * _batch(config))
    return max(counts) if counts[0] else None


def follow(config: Mapping, windows: int, passes: float | None = None) -> int:
    """Steps that so many windows ask for, or so many passes over them."""
    once = _once(config, windows)
    if passes is not None:
        return ceil(passes * once)
    return ceil(max(PASSES * windows / _batch(config), min(LEAST, MOST_PASSES * once)))


def on_grid(first: int) -> int:
    """Steps on the grid after so many in float."""
    return min(first, max(ceil(SHARE * first), LEAST_ON_GRID))


def _once(config: Mapping, windows: int) -> float:
    """Steps in which all windows are heard once: what is left of them makes batches larger."""
    return max(windows // _value(config, "batch_size"), 1) / _value(config, "accum_grad")


def complete(
    config: Mapping, source: str, windows: int, dev: int, steps: int | None = None
) -> tuple[dict, Length]:
    """A configuration with its length, as ESPnet takes it.

    Args:
        config: a training configuration.
        source: what an error names.
        windows, dev: how many there are in train and in dev.
        steps: of the optimizer; None: as the configuration fixes them, or `follow`.

    Raises:
        InputError: steps are given and fixed, or what `fixed_steps` raises.
    """
    whole, batch = deepcopy(dict(config)), _batch(config)
    fixed = fixed_steps(config, source, windows)
    if fixed is not None and steps:
        raise InputError(f"{source}: max_epoch: {TWICE}")
    if fixed is None:
        steps = steps or follow(config, windows)
        parts = _intervals(steps, dev, batch)
        interval = ceil(steps / parts)
        steps = parts * interval
        whole |= {"max_epoch": parts}
        whole |= {"num_iters_per_epoch": interval * _value(config, "accum_grad")}
    else:
        steps, interval = fixed, fixed // config["max_epoch"]
    if config.get("scheduler") == "tristagelr":
        whole["scheduler_conf"] = {
            **read_section(config, "scheduler_conf", source),
            "max_steps": steps,
        }
    return whole, Length(steps, windows, batch, interval, _once(config, windows))


def _intervals(steps: int, dev: int, batch: int) -> int:
    """Parts of a training, at least two: hearing dev after each takes no more than `ON_DEV`.

    Parts are of equal length, so there may be a few steps more than are wanted: as few as half as
    many parts allow.
    """
    most = min(int(steps * batch * 3 * ON_DEV / dev), steps // INTERVAL)
    if most <= 2:
        return min(steps, 2)
    return max(range(ceil(most / 2), most + 1), key=lambda parts: (-(-steps % parts), parts))


def plan(
    configs: Sequence[Path],
    data: tuple[Path, Path],
    out: Path,
    wanted: Wanted,
    grid: str | Mapping[str, str],
) -> dict[str, Length]:
    """Write an experiment's configurations, conf/kd.yaml and conf/qat.yaml, and plan.json.

    With their lengths, and the last one with what the grid decides (`espnet_dq.task.by_grid`).

    Args:
        configs: of the training in float and of that on the grid; or of one on the grid.
        data: folders of windows, train and dev.
        out: the experiment.
        wanted: what the user says of their length.
        grid: one grid's name, or a table of weights and grids.

    Returns:
        The length of each training, by name.

    Raises:
        InputError: a configuration that fixes a length which is given, too, or contradicts itself.
    """
    from espnet_dq.task.by_grid import by_grid  # imports torch

    files = {name: out / "conf" / f"{name}.yaml" for name in names(configs)}
    for file in (*files.values(), out / PLAN):
        check_replaceable(file)
    windows, dev = (len(read_scp(folder / "wav.scp")) for folder in data)
    lengths: dict[str, Length] = {}
    for name, path, given in zip(files, configs, wanted.steps_of(), strict=False):
        config = read_config(path)
        if not lengths and wanted.epochs:
            given = follow(config, windows, wanted.epochs)
        if lengths and given is None and fixed_steps(config, str(path), windows) is None:
            (first,) = lengths.values()
            given = on_grid(ceil(first.steps * first.batch / _batch(config)))
        whole, lengths[name] = complete(config, str(path), windows, dev, given)
        if name == [*files][-1]:
            whole = by_grid(whole, grid, str(path))
        write_text(files[name], yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    with atomic(out / PLAN) as tmp:
        told = {name: asdict(x) | {"said": str(x)} for name, x in lengths.items()}
        tmp.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return lengths


def names(configs: Sequence) -> tuple[str, ...]:
    """What the trainings of so many configurations are called."""
    return TRAININGS[-len(configs) :]


def _value(config: Mapping, key: str) -> int:
    return config.get(key) or ESPNETS[key]


def _batch(config: Mapping) -> int:
    """Windows a step."""
    return _value(config, "batch_size") * _value(config, "accum_grad")
