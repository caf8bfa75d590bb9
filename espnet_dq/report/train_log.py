"""What ESPnet's train.log says: the losses and the chosen teacher layers over training.

The trainer logs a line per interval, `1epoch:train:1-20batch: loss=2.3, match_l0=1.0, ...`, and
a line per epoch, `1epoch results: [train] loss=..., time=..., [valid] loss=...`.
`match_lI` is the index, counted from 0, of the teacher layer that taught student layer I, the
mean over the interval.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.reading import LARGEST_TEXT, read_limited

_INTERVAL = re.compile(r" (\d+)epoch:train:(\d+)-(\d+)batch: (.*)")
_EPOCH = re.compile(r" (\d+)epoch results: (.*)")
_SECTION = re.compile(r"\[(\w+)\] ((?:(?!, \[\w+\] ).)*)")
# Three decimals, maybe an exponent, or a whole number. ESPnet's reporter forgets one separator
# in some lines (`loss=2.300match_l0=1.000`), so another key may follow at once; but no word
# does: `time=1 minute and 2 seconds` is not a number.
_VALUE = re.compile(
    r"(\w+)=([-+]?(?:\d+(?:\.\d{3}(?:e[-+]\d+)?)?|nan|inf))(?=, |,?\s*$|[A-Za-z_]\w*=)"
)


@dataclass(frozen=True)
class Interval:
    """Means over some batches of an epoch; batches are counted from 1, both ends included."""

    epoch: int
    first: int
    last: int
    values: dict[str, float]


@dataclass
class TrainLog:
    """A run's intervals in order, and each finished epoch's means.

    `epochs` maps the epoch to `{"train": {...}, "valid": {...}}`, 0 to dev before training;
    `accum_grad` is how many batches make a step.
    """

    intervals: list[Interval] = field(default_factory=list)
    epochs: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    accum_grad: int = 1

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Training time in epochs at each interval's end, and the value of `key` there."""
        known = [i for i in self.intervals if key in i.values]
        at = [i.epoch - 1 + i.last / self._batches(i.epoch) for i in known]
        return at, [i.values[key] for i in known]

    def student_layers(self) -> list[int]:
        """The student layers whose teacher layer was logged."""
        names = {k for i in self.intervals for k in i.values}
        return sorted(int(m[1]) for k in names if (m := re.fullmatch(r"match_l(\d+)", k)))

    def waiting(self) -> float | None:
        """The share of the time of training in which the trainer waited for data, from 0 to 1.

        ESPnet's `iter_time` is a batch's, its `train_time` a step's, that waiting included; their
        means over epochs are taken, those of validation are in neither. None: not logged.
        """
        waited = spent = 0.0
        for epoch, sections in self.epochs.items():
            train = sections.get("train", {})
            if "iter_time" in train and "train_time" in train:
                waited += self._batches(epoch) * train["iter_time"]
                spent += self._batches(epoch) * train["train_time"] / self.accum_grad
        return waited / spent if spent else None

    def _batches(self, epoch: int) -> int:
        """Batches in an epoch: by ESPnet's running totals, or as far as seen."""
        totals = {e: s.get("train", {}).get("total_count", 0) for e, s in self.epochs.items()}
        counted = int(totals.get(epoch, 0) - totals.get(epoch - 1, 0))
        return counted if counted > 0 else max(i.last for i in self.intervals)


def read(path: Path, accum_grad: int = 1) -> TrainLog:
    """Parse a train.log; lines of other kinds and unknown keys are passed over.

    An epoch that a resumed run started again replaces its first, interrupted part.

    Raises:
        InputError: no such file, or no line of training in it.
    """
    log = TrainLog(accum_grad=accum_grad)
    text = read_limited(path, LARGEST_TEXT).decode("utf-8", "replace")
    for line in text.splitlines():
        if found := interval(line):
            if found.first == 1:
                log.intervals = [i for i in log.intervals if i.epoch < found.epoch]
                log.epochs = {e: s for e, s in log.epochs.items() if e < found.epoch}
            log.intervals.append(found)
        elif results := epoch_results(line):
            log.epochs |= [results]
    if not log.intervals and not log.epochs:
        raise InputError(f"{path}: no line of training in it")
    return log


def interval(line: str) -> Interval | None:
    """What a line says of some batches, if it is one that does."""
    if m := _INTERVAL.search(line):
        return Interval(int(m[1]), int(m[2]), int(m[3]), _values(m[4]))
    return None


def epoch_results(line: str) -> tuple[int, dict[str, dict[str, float]]] | None:
    """An epoch, counted from 1, and its means, if a line says them; 0: dev before training."""
    if m := _EPOCH.search(line):
        return int(m[1]), {s[1]: _values(s[2]) for s in _SECTION.finditer(m[2])}
    return None


def _values(text: str) -> dict[str, float]:
    return {key: float(value) for key, value in _VALUE.findall(text)}
