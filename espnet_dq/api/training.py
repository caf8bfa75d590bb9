"""The recipe's training as one function: a student from Kaldi folders, on a grid, exported."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from espnet_dq.api.checkpoint import as_checkpoint, content
from espnet_dq.api.models import export, lost
from espnet_dq.api.verification import verify
from espnet_dq.config import QuantConfig, check_number, check_whole, read_config
from espnet_dq.data.canary import choice
from espnet_dq.data.formatting import (
    check_disjoint,
    check_texts,
    format_splits,
)
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.pack import Balance
from espnet_dq.data.shapes import write_shapes
from espnet_dq.data.validation import validate
from espnet_dq.data.windows import pack_windows
from espnet_dq.distill.teacher_pass import teacher_pass
from espnet_dq.errors import PATH, InputError, check_kind, say
from espnet_dq.fetch.names import source_path
from espnet_dq.files import alone, new_folder, sha256, write_text
from espnet_dq.formats.format import Format
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.registry import home
from espnet_dq.quant.table import read_grid
from espnet_dq.reading import file_size, read_json
from espnet_dq.student.checkpoint import CHECKPOINT
from espnet_dq.task.check import check, check_gpus, sizes
from espnet_dq.task.plan import AUTO, DEV_WINDOWS, MERGE, MERGED, Wanted, heard, names, plan
from espnet_dq.task.share import CHOICE, choose
from espnet_dq.task.start import ROUNDED, STUDENT, init_student, merge_start, round_start
from espnet_dq.task.train import Training

# Of the recipe, in float and then on the grid.
CONFIGS = tuple(Path(__file__).parents[1] / f"task/conf/{name}.yaml" for name in ("train", "qat"))
SINGLES = {"train": 30, "dev": 10}  # utterances that also get a window of their own
SETTINGS = "settings.json"
OWN = "own"  # what a canary's set of the user's is called, as in the recipe


def distil(
    train: str | Path,
    dev: str | Path,
    teacher: str | Path,
    student: str | Path,
    out: str | Path,
    grid: str = QuantConfig.grid,
    train_config: Sequence[str | Path] | None = None,
    singles: int = SINGLES["train"],
    balance: Balance | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    qat_steps: int | None = None,
    merge: float | None = None,
    canary: str | Path | Mapping[str, str | Path] | None = None,
    seed: int = 0,
    nj: int | None = None,
    ngpu: int = 0,
) -> Path:
    """Train a student on its grid and export it, as the recipe does from stage 2 to 8.

    Killed, it goes on where it was when it is called again; what is finished is not done again.

    Args:
        train: a Kaldi folder with `wav.scp`, `text`, `utt2spk` and `utt2lang`; audio of any kind.
        dev: the same, of other utterances, by which the best epoch is chosen.
        teacher: whatever `load` reads, by its path or name.
        student: the Whisper that learns: the same choices.
        out: the experiment's folder, which `load`, `export` and `verify` read.
        grid: weight grid, or a `.yaml` file with a table; the format goes with it, of a table
            `packed`.
        train_config: two training configurations, in float and then on the grid, or one, which is
            on the grid from the first step; None: the recipe's (`CONFIGS`).
        singles: utterances of `train` that also get a window of their own.
        balance: how often the languages are heard; None: as they are.
        steps: of the first training; None: as its configuration fixes them, or as its data ask for.
        epochs: the same, as how often every window is heard.
        qat_steps: of the second training; None: fixed, or by those of the first.
        merge: training on the grid starts between the untouched student, 0, and what the first
            training made of it, 1 (`espnet_dq.student.merge`); of one configuration nothing.
            None: as dev and the canary like it best (`espnet_dq.task.share`), without a canary 1.
        canary: speech of other people, with texts: a Kaldi folder, or several by name.
        seed: of packing and training.
        nj: processes that read audio; None: one for each core.
        ngpu: GPUs of this machine to train on; 0: the CPU.

    Returns:
        The exported model, verified: OUT/export/student, or as its format is called.

    Raises:
        InputError: data, models, a grid or a configuration that do not fit, or an `out` that was
            made with other settings.
        WorkError: a training that failed, or a value in the exported file that differs.

    Example usage::

        path = distil("data/train", "data/dev", "openai:base", "openai:tiny", "exp/mine")
        next(transcribe("talk.wav", path)).text
    """
    for key, path in (("train", train), ("dev", dev), ("out", out)):
        check_kind(key, path, PATH, "a path")
    check_kind("grid", grid, str, "a grid's name or a .yaml file")
    check_kind("balance", balance, Balance | None, "a Balance")
    for key, number in (("singles", singles), ("seed", seed), ("nj", nj or 0), ("ngpu", ngpu)):
        check_whole(key, number, 0)
    out, configs = Path(out).absolute(), _configs(train_config)
    if odd := re.search("[:,]", str(out)):
        raise InputError(f"{out}: ESPnet takes no path with {odd[0]} in it")
    models = [source_path(source).absolute() for source in (teacher, student)]
    folders, balance = {"train": Path(train), "dev": Path(dev)}, balance or Balance()
    length = Wanted(steps, epochs, qat_steps)
    if merge is not None:
        check_number("merge", merge, 1)
    check_gpus(ngpu)
    if not isinstance(read_grid(grid), str):
        grid = str(Path(grid).absolute())
    for path in configs:
        file_size(path)
    heard({str(path): read_config(path) for path in configs}, length)
    others = _others(canary)
    merge = _merge(merge, others, configs)
    splits = {name: validate(folder, names=True) for name, folder in folders.items()}
    check_disjoint(splits)
    sets = {name: validate(folder) for name, folder in others.items()}
    form = home(grid)
    steps = _Steps(out, *models, grid, form, configs, singles, balance, length, merge, seed, ngpu)
    settings = steps.settings(folders, others, [*splits.values(), *sets.values()])
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone(out) as lock:
        _begin(out, settings)
        teacher, student = (as_checkpoint(path, out / "weights") for path in models)
        steps = replace(steps, teacher=teacher, student=student)
        if not (out / "qat" / CHECKPOINT).exists():
            steps.data(splits, folders, nj)
            if merge == AUTO:
                steps.canary(sets)
            steps.teacher_pass()
            steps.train(lock)
        return steps.export()


def _configs(train_config: Sequence[str | Path] | None) -> list[Path]:
    """The training configurations; raises `InputError` unless these are one or two."""
    check_kind("train_config", train_config, list | tuple | None, "a list of files")
    for path in train_config or ():
        check_kind("train_config", path, PATH, "a path")
    configs = [Path(path).absolute() for path in train_config or CONFIGS]
    if len(configs) not in (1, 2):
        raise InputError(f"train_config: {len(configs)}, not one or two (in float, on the grid)")
    return configs


def _others(canary: str | Path | Mapping[str, str | Path] | None) -> dict[str, Path]:
    """A canary's folders by their names."""
    if isinstance(canary, (str, Path)):
        canary = {OWN: canary}
    check_kind("canary", canary, Mapping | None, "a folder or a table of folders")
    for folder in (canary or {}).values():
        check_kind("canary", folder, PATH, "a path")
    return {name: Path(folder) for name, folder in (canary or {}).items()}


def _merge(merge: float | None, others: Mapping[str, Path], configs: list[Path]) -> float | str:
    """The share as given, or where it comes from; raises `InputError` for a canary without use."""
    if others and (merge is not None or len(configs) == 1):
        raise InputError("canary: nothing is chosen by it: merge is given, or one configuration")
    if merge is None:
        return AUTO if others else MERGE
    return merge


def _tables(folder: Path) -> dict[str, str]:
    """The hashes of a data folder's tables."""
    names = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")
    return {name: sha256(folder / name) for name in names if (folder / name).is_file()}


def _audio(data: KaldiDir) -> str:
    """One hash of a data folder's recordings."""
    digest = hashlib.sha256()
    paths = dict.fromkeys(data.wav.values())
    for path in tqdm(paths, desc="hash audio", unit="file", delay=2.0, leave=False):
        digest.update(sha256(path).encode())
    return digest.hexdigest()


def _begin(out: Path, settings: dict) -> None:
    """See to it that `out` is an experiment of these settings, or none yet."""
    path = out / SETTINGS
    if path.exists():
        before = read_json(path)
        odd = [key for key, value in settings.items() if before.get(key) != value]
        if odd and len([*out.iterdir()]) > 1:
            raise InputError(
                f"{out}: made with other settings ({odd[0]}): give another folder, or remove it"
            )
    else:
        new_folder(out)
    write_text(path, json.dumps(settings, indent=1) + "\n")


@dataclass(frozen=True)
class _Steps:
    """An experiment; what is there of it is finished, since all appears whole or not at all."""

    out: Path
    teacher: Path
    student: Path
    grid: str
    form: Format
    configs: list[Path]
    singles: int
    balance: Balance
    length: Wanted
    merge: float | str
    seed: int
    ngpu: int

    def settings(
        self, folders: Mapping[str, Path], others: Mapping[str, Path], speech: Iterable[KaldiDir]
    ) -> dict:
        """What it is made with: the data's folders, a canary's others, and the `speech` in both."""
        return {
            "data": {name: _tables(folder) for name, folder in folders.items()},
            "models": [content(path) for path in (self.teacher, self.student)],
            "grid": read_grid(self.grid),
            "train_config": [sha256(path) for path in self.configs],
            "singles": self.singles,
            "balance": str(self.balance),
            "length": str(self.length),
            "merge": self.merge,
            "canary": {name: _tables(folder) for name, folder in others.items()},
            "seed": self.seed,
            "audio": [_audio(data) for data in speech],
        }

    def data(
        self, splits: dict[str, KaldiDir], folders: Mapping[str, Path], nj: int | None
    ) -> None:
        """The start, formatted folders and their windows; then all is checked."""
        out, names = self.out, [*splits]
        last, table = self.configs[-1], read_grid(self.grid)
        init_student(self.student, self.teacher, self.grid, out / "init", (self.form.name, last))
        if not all((out / "raw" / name).is_dir() for name in names):
            check_texts(splits, True, out)
            format_splits(splits, folders, out / "raw", nj or len(os.sched_getaffinity(0)))
        dims = openai.load(self.student).dims
        most = {"train": heard({str(p): read_config(p) for p in self.configs}, self.length)}
        most["dev"], singles = DEV_WINDOWS, {**SINGLES, "train": self.singles}
        for name in names:
            if not (out / "data" / name).is_dir():
                raw, windows = out / "raw" / name, out / "data" / name
                pack_windows(
                    raw, windows, singles[name], self.seed, self.balance, dims, most=most[name]
                )
            write_shapes(out / "data" / name, out / "stats" / name)
        windows = [out / "data" / name for name in names]
        models, processes = (sizes(self.student), sizes(self.teacher)), max(1, self.ngpu)
        for config in self.configs:
            check(config, *models, table, processes, windows, self.ngpu)
        for name, planned in plan(self.configs, windows, out, self.length, table).items():
            say(f"{name}: {planned}")

    def canary(self, sets: dict[str, KaldiDir]) -> None:
        """The windows by which the share of the first training is chosen."""
        if not (self.out / CHOICE).is_dir():
            dims = openai.load(self.student).dims
            choice(sets, KaldiDir.load(self.out / "raw/train"), self.out / CHOICE, dims)

    def teacher_pass(self) -> None:
        """The teacher's answers to all windows."""
        for name in ("dev", "train"):
            teacher_pass(
                self.out / "data" / name, self.out / "cache" / name, self.teacher, self.student,
                self.grid, self.configs, self.form.padding,
            )  # fmt: skip

    def train(self, lock: int | None) -> None:
        """In float, if it is to be, and then on the grid."""
        if lock is not None:
            os.set_inheritable(lock, True)  # the trainer holds it, too
        padding = self.form.padding
        training = Training(self.out, self.teacher, padding, self.seed, self.ngpu)
        checkpoint = self.out / "init" / STUDENT
        for name in names(self.configs):
            rounded = self.out / "init" / ROUNDED
            start = round_start(self.out, name, checkpoint, rounded, padding)
            trained = training.run(name, start)
            if self.merge != MERGE and name != names(self.configs)[-1]:
                auto = self.merge == AUTO
                share = choose(self.out, trained, padding) if auto else self.merge
                trained = merge_start(checkpoint, trained, share, self.out / name / MERGED)
            checkpoint = trained

    def export(self) -> Path:
        """The student in its format, verified."""
        path = self.out / "export" / self.form.exported
        if line := lost(self.form.name, export(self.out / "qat", path, self.form.name)):
            say(line, sys.stderr)
        verify(path, against=self.out / "qat").check()
        return path
