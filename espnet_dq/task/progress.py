"""How far a training is, on the screen, by what ESPnet writes to its log."""

import io
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TextIO

from tqdm import tqdm

from espnet_dq.config import read_config
from espnet_dq.errors import DQError, one_line
from espnet_dq.report.train_log import epoch_results, interval

LOG = "train.log"
POLL = 1.0  # seconds between looks at the log
EVERY = 30.0  # seconds between lines where there is no terminal
_STARTED = re.compile(r" (\d+)/(\d+)epoch started")
_BATCHES = re.compile(r" \[train\] mini-batch sizes summary: N-batch=(\d+)")
_LINE = "{desc}: step {n_fmt} of {total_fmt} in {elapsed}, {remaining} left{postfix}"


@contextmanager
def shown(out: Path, every: float = EVERY) -> Iterator[None]:
    """Show on stderr, while the block runs, how far the training into a folder is.

    On a terminal that is a bar, elsewhere a line now and then: steps, time left, loss.

    Args:
        out: ESPnet's output_dir. What `train.log` there holds before is passed over.
        every: seconds between lines.
    """
    log, stop = out / LOG, Event()
    begin = log.stat().st_size if log.exists() else 0
    thread = Thread(target=_show, args=(out, begin, sys.stderr, every, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(out: Path, begin: int, screen: TextIO, every: float, stop: Event) -> None:
    terminal = screen.isatty()
    print(one_line(f"{out.name}: log: {out / LOG}"), file=screen, flush=True)
    bar, batches, told, ended = None, 0, time.monotonic(), False
    losses: dict[str, float] = {}  # the last of train and of dev
    lines = _Lines(out / LOG, begin)
    while not ended:
        ended = stop.wait(POLL)
        for line in lines.new():
            if m := _BATCHES.search(line):
                batches = int(m[1])
            elif bar is None and (m := _STARTED.search(line)):
                batches, group = _sizes(out / "config.yaml", batches)
                bar = tqdm(
                    desc=one_line(out.name), unit="step", total=int(m[2]) * batches // group,
                    initial=(int(m[1]) - 1) * batches // group, dynamic_ncols=terminal,
                    file=screen if terminal else io.StringIO(),
                    bar_format=None if terminal else _LINE,
                )  # fmt: skip
            elif bar is not None and (part := interval(line)):
                if "loss" in part.values:
                    losses["loss"] = part.values["loss"]
                _move(bar, ((part.epoch - 1) * batches + part.last) // group, losses)
            elif results := epoch_results(line):
                epoch, means = results
                if "loss" in means.get("valid", {}):
                    losses["dev"] = means["valid"]["loss"]
                if bar is not None:
                    _move(bar, epoch * batches // group, losses)
        if bar is not None and terminal:
            bar.refresh()
        elif bar is not None and (ended or time.monotonic() - told >= every):
            print(str(bar), file=screen, flush=True)
            told = time.monotonic()
    if bar is not None:
        bar.close()


def _move(bar: tqdm, step: int, losses: dict[str, float]) -> None:
    shown = {key: f"{value:.3f}" for key, value in losses.items()}
    bar.set_postfix(shown, refresh=False)
    bar.update(max(0, step - bar.n))


def _sizes(config: Path, batches: int) -> tuple[int, int]:
    """Batches in an epoch, `batches` if the configuration does not say, and batches in a step."""
    try:
        values = read_config(config)
    except DQError:
        return batches, 1
    return values.get("num_iters_per_epoch") or batches, values.get("accum_grad") or 1


class _Lines:
    """The whole lines that a growing file gets behind `begin` bytes."""

    def __init__(self, path: Path, begin: int) -> None:
        self._path, self._at = path, begin

    def new(self) -> list[str]:
        """Those since the last call."""
        if not self._path.exists():  # Slurm has not begun
            return []
        with open(self._path, "rb") as file:
            file.seek(self._at)
            whole, end, _ = file.read().rpartition(b"\n")
        self._at += len(whole + end)
        return whole.decode("utf-8", "replace").splitlines()
