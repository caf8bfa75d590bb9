"""The plan of an ablation, read and judged before anything runs.

Keys that are left out are empty; those at the top count for every variant::

    seeds: [0, 1, 2]        # of packing and of training
    options:                # of run.sh
      corpus: debian7
      train_config: conf/train.yaml
    overrides:              # of both training configurations
      model_conf: {tap: ffn}
    train_overrides:        # of that of kd (or joint) only
    qat_overrides:          # of that of qat only
    variants:
      name_of_one:
        options: ...        # as above
        overrides: ...
"""

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from espnet_dq.config import merge, read_config
from espnet_dq.errors import InputError, named
from espnet_dq.files import write_text
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.table import read_grid
from espnet_dq.recipe.options import BY_NAME, TRAIN_CONFIG
from espnet_dq.task.check import check_config
from espnet_dq.whisper.dims import SIZES

# Options that are set here, or that a run of an ablation has no use for.
OURS = {
    *("stage", "stop_stage", "skip_data", "skip_train", "skip_eval", "skip_pack", "help"),
    *("seed", "tag", "expdir", "dumpdir", "cachedir", "systems", "upload_to"),
    *("train_args", "qat_args"),  # `train_overrides`, `qat_overrides`
}
# What the recipe takes where nothing is said, of options that a variant is known by.
DEFAULTS = {
    name: BY_NAME[name].default
    for name in ("corpus", "teacher", "student", "grid", "mode", "qat_config")
}
# What decides, with the corpus, on what is scored.
SCORED = ("data_root", "local_data_opts", "long", "test_clips", "test_windows")
KEYS = ("options", "overrides", "train_overrides", "qat_overrides")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
REFERENCES = ("untouched", "teacher")  # systems that no training changes
SYSTEMS = " ".join((*REFERENCES, "float_student", "student"))


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant: options of run.sh, and the training configurations by option."""

    name: str
    options: dict[str, str]
    configs: dict[str, dict]

    def get(self, option: str) -> str:
        """The value of an option of run.sh."""
        return self.options.get(option, DEFAULTS[option])

    def settings(self) -> str:
        """Hash of all that is set, which tells this variant from an earlier one of its name."""
        options = {o: v for o, v in (DEFAULTS | self.options).items() if o not in ("nj", "ngpu")}
        parts = [options, self.configs, read_grid(self.get("grid"))]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]

    def reference(self, system: str) -> tuple[str, str, None]:
        """Of a system that no training changes, what `Run.key` is of a run: name, settings, seed.

        The name says which model it is and what it was scored on.
        """
        model = self.get("teacher" if system == "teacher" else "student")
        given = {o: self.options[o] for o in SCORED if o in self.options}
        student = Path(self.get("student"))
        if "test_windows" in given and student.suffix == ".pt":  # its own windows
            given["student"] = student.stem
        parts = json.dumps([model, self.get("corpus"), given], sort_keys=True)
        settings = hashlib.sha256(parts.encode()).hexdigest()[:8]
        told = [self.get("corpus"), *(f"{o} {v}" for o, v in given.items())]
        return f"{system} {Path(model).stem} ({', '.join(told)})", settings, None


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: Variant
    seed: int
    work: Path

    def __str__(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Holds the experiment's folder, its only one, and run.log."""
        return self.work / f"{self.variant.name}-{self.variant.settings()}" / f"seed{self.seed}"

    @property
    def key(self) -> tuple:
        """What tells it from all others of its ablation."""
        return self.variant.name, self.variant.settings(), self.seed

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def config(self, option: str) -> Path:
        """Where the training configuration that goes with an option is written."""
        return self.folder.parent / f"{option}.yaml"

    def write_configs(self) -> None:
        """Write the training configurations."""
        for option, config in self.variant.configs.items():
            write_text(self.config(option), yaml.safe_dump(config, sort_keys=False))

    def commands(self, recipe: Path) -> dict[str, list[str]]:
        """By what they do: all but speed (stage 11) and packing (stage 13)."""
        options = dict(self.variant.options)
        options |= {option: str(self.config(option)) for option in self.variant.configs}
        options |= {"seed": str(self.seed), "tag": f"{self.variant.name}_seed{self.seed}"}
        options |= {"expdir": str(self.folder), "cachedir": str(self.work / "shared")}
        options |= {"systems": SYSTEMS, "canary": options.get("canary", "none")}
        words = ["bash", str(recipe / "run.sh")]
        words += [word for option, value in options.items() for word in (f"--{option}", value)]
        return {
            "prepare": [*words, "--stop_stage", "5"],
            "train": [*words, "--stop_stage", "7"],
            "score": [*words, "--stop_stage", "10"],
            "report": [*words, "--stage", "12", "--stop_stage", "12"],
        }


def read_plan(path: Path, recipe: Path) -> tuple[list[Variant], list[int]]:
    """The variants and seeds of a YAML file, configurations merged.

    Raises:
        InputError: naming file and key.
    """
    plan = read_config(path)
    seeds = plan.pop("seeds", None)
    if not isinstance(seeds, list) or not seeds or any(type(s) is not int for s in seeds):
        raise InputError(f"{path}: seeds: a list of whole numbers is needed")
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"{path}: seeds: one is negative or stands twice")
    variants = plan.pop("variants", None)
    if not isinstance(variants, dict) or not variants:
        raise InputError(f"{path}: variants: a mapping of names is needed")
    known = BY_NAME.keys() - OURS
    common = _section(path, "", plan)
    result = []
    for name, given in variants.items():
        where = f"variants.{name}"
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in REFERENCES:
            raise InputError(f"{path}: {where}: no name for a variant")
        own = _section(path, f"{where}.", {} if given is None else given)
        options = {}
        for at, section in (("", common), (f"{where}.", own)):
            for option, value in section["options"].items():
                if option not in known:
                    reason = "is set here" if option in OURS else "run.sh has no such option"
                    raise InputError(f"{path}: {at}options.{option}: {reason}")
                options[option] = _word(path, f"{at}options.{option}", value)
        configs = _configs(path, where, options, [common, own], recipe)
        result.append(Variant(name, options, configs))
    return result, seeds


def _section(path: Path, at: str, given: object) -> dict[str, dict]:
    """A mapping of `KEYS`, each a mapping."""
    if not isinstance(given, dict):
        raise InputError(f"{path}: {at.rstrip('.')}: not a mapping")
    for key, value in given.items():
        if key not in KEYS:
            raise InputError(f"{path}: {at}{key}: unknown key (known: {', '.join(KEYS)})")
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{path}: {at}{key}: not a mapping")
    return {key: given.get(key) or {} for key in KEYS}


def _word(path: Path, at: str, value: object) -> str:
    """An option's value as run.sh takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int):
        raise InputError(f"{path}: {at}: {value!r}: a word or a whole number is needed")
    return str(value)


def _configs(
    path: Path, where: str, options: dict[str, str], sections: list[dict], recipe: Path
) -> dict[str, dict]:
    """The training configurations of a variant, taken out of `options` and overridden."""
    mode = options.get("mode", DEFAULTS["mode"])
    if mode not in TRAIN_CONFIG:
        raise InputError(f"{path}: {where}: options.mode: {mode}: {' or '.join(TRAIN_CONFIG)}")
    bases = {"train_config": options.pop("train_config", TRAIN_CONFIG[mode])}
    qat = options.pop("qat_config", DEFAULTS["qat_config"])
    if mode == "kd_qat":
        bases["qat_config"] = qat
    elif sections[1]["qat_overrides"]:
        raise InputError(f"{path}: {where}.qat_overrides: mode {mode} has no stage of that name")
    configs = {}
    for option, file in bases.items():
        base = Path(file) if Path(file).is_file() else recipe / file  # as dq.sh looks for it
        with named(f"{path}: {where}: options.{option}"):
            configs[option] = read_config(base)
        for key in ("overrides", option.replace("config", "overrides")):
            for at, section in zip(("", f"{where}."), sections, strict=True):
                merge(configs[option], section[key], f"{path}: {at}{key}.")
    return configs


def check(path: Path, variant: Variant, recipe: Path) -> None:
    """Let the recipe and the trainer themselves judge a variant, before anything runs.

    Raises:
        InputError: naming the file and the variant.
    """
    where = f"{path}: variants.{variant.name}"
    with TemporaryDirectory() as folder:
        trial = Run(variant, 0, Path(folder))
        trial.write_configs()
        command = [*trial.commands(recipe)["train"], "--dumpdir", f"{folder}/dump"]
        command += ["--stop_stage", "0"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or "no message").splitlines()[-1]
            raise InputError(f"{where}: {said}")
        sizes = []
        for model in ("student", "teacher"):
            name = variant.get(model)
            sizes.append(SIZES.get(name) or openai.load(Path(name)).dims)
        for option in variant.configs:
            file = trial.config(option)
            try:
                check_config(file, *sizes, read_grid(variant.get("grid")))
            except InputError as e:
                said = str(e).removeprefix(f"{file}: ")
                raise InputError(f"{where}: {option}: {said}") from e
