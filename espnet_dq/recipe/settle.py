"""What follows from the options of the recipe, and whether they go together (`bin.recipe`)."""

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from glob import glob
from math import inf
from pathlib import Path
from shutil import which

import yaml

from espnet_dq.api.checkpoint import model_name, place
from espnet_dq.config import CHECKPOINT, WindowConfig, read_config, read_section
from espnet_dq.data.corpora import CORPORA
from espnet_dq.data.kaldi import read_wav
from espnet_dq.data.languages import known_language
from espnet_dq.data.splits import shares
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, named
from espnet_dq.fetch.names import HUB, OPENAI, openai_name
from espnet_dq.fetch.sources import MODELS, MULTILINGUAL
from espnet_dq.files import sha256
from espnet_dq.formats.registry import home
from espnet_dq.reading import read_json, read_text
from espnet_dq.recipe.configs import changed
from espnet_dq.recipe.lists import grids, split_words
from espnet_dq.recipe.options import DEBIAN, DEFAULTS, NONE, QAT_CONFIG, TRAIN_CONFIG
from espnet_dq.recipe.settings import TRAINED, same_number
from espnet_dq.recipe.systems import SYSTEMS
from espnet_dq.task.plan import AUTO, DEV_WINDOWS, MERGE, MERGED, Wanted, check_amp, heard

LEARNING = ("teacher", "student")
NAMES = ", ".join(MULTILINGUAL)
WEIGHTS = "downloads/weights"  # in the recipe's folder: checkpoints that were fetched or made
# Paths that commands of jobs name.
IN_JOBS = ("dumpdir", "cachedir", "teacher", "student", "grid", "train_config", "qat_config")


def settle(given: dict[str, str], caller: str) -> dict[str, str]:
    """What dq.sh works with: every option, and what follows from them.

    Args:
        given: the options that are given, each value checked on its own.
        caller: the folder that relative paths begin at; the current one is the recipe's, where
            configurations may lie, too.

    Raises:
        InputError: options that do not go together, or files and folders that are not there.
    """
    o = DEFAULTS | given
    if o["skip_train"] == "true":
        o["skip_teacher_pass"] = "true"
    o["train_config"] = o["train_config"] or TRAIN_CONFIG[o["mode"]]
    if o["grid"].endswith(".yaml") and "systems" not in given:  # a table of the student's weights
        o["systems"] = o["systems"].replace(" teacher_rounded", "")
    for model in LEARNING:  # from here on a name is OpenAI's, whatever lies here
        if not o[model]:
            raise InputError(f"--{model}: is empty")
        path = o[model].rstrip("/") or "/"
        path = f"./{path}" if path in MODELS else path
        o[model] = openai_name(given.get(model, OPENAI + o[model]), caller) or path
    _check_together(o)
    typed = dict(o)
    for name in filter(o.get, _paths(o, given, caller)):
        o[name] = os.path.join(caller, o[name])
    names = {}
    for model in LEARNING:
        with named(f"--{model}"):
            names[f"{model}_name"] = model_name(o[model])
    exp = "_".join(filter(None, (o["corpus"], *names.values(), _name(o["grid"]), o["tag"])))
    exp = os.path.abspath(os.path.join(o["expdir"], exp))
    # On a disk that was taken away, perhaps: an experiment has read it.
    gone = not os.path.exists(o["data_root"]) and o["stage"] != "1"
    gone = gone and os.path.exists(f"{exp}/done/1")
    _check_paths(o, typed, gone)
    o["local_data_opts"] = _local_data_opts(o, exp, gone)
    _check_names(exp, o)
    form = home(o["grid"])
    known = {"format": form.name, "runtime": form.runtime, "exported": form.exported}
    known |= {"padding": form.padding, "exp": exp, "weights": WEIGHTS}
    for model in LEARNING:
        known |= _model(model, o[model])
    known["of_teacher"] = _of_teacher(known)
    known |= _folders(o, exp, known["of_teacher"])
    known["data_options"] = _data_options(o, known["teacher_pt"])
    known["canary_content"] = _canary(o["canary"])
    configs, told = _configurations(o, exp, caller)
    known |= told
    o["merge"] = _merge(o, configs[o["train_config"]], Path(exp, "settings"))
    known |= _first(o)
    if not os.path.exists(f"{exp}/done/3"):
        _check_apt(o)
    kinds = {"steps": int, "epochs": float, "qat_steps": int}
    most = heard(configs, Wanted(**{n: kind(o[n]) for n, kind in kinds.items() if o[n]}))
    known |= {"most_windows": str(most or ""), "dev_windows": str(DEV_WINDOWS)}
    return o | names | known


def _local_data_opts(o: Mapping[str, str], exp: str, gone: bool) -> str:
    """What the corpus's script is given: what is typed, and what other options mean for it."""
    found = o["local_data_opts"]
    for name in ("language", "split"):
        if o[name]:
            found = f"{found} --{name} {o[name]}".strip()
    if (o["corpus"], o["labels"]) == ("kaldi", "replace") and (
        _untranscribed(exp) if gone else not _has_text(o["data_root"])
    ):
        found += " --untranscribed"
    if o["labels"] != "replace" and "--untranscribed" in split_words(found):
        raise InputError("--untranscribed: without text, --labels replace is needed")
    return found


def _configurations(o: Mapping[str, str], exp: str, caller: str) -> tuple[dict, dict]:
    """The trainings' configurations by their paths, and what dq.sh has to know of them."""
    parts = ["train"] if o["mode"] == "joint" else ["train", "qat"]
    known = {"config_names": shlex.join(o[f"{part}_config"] for part in parts)}
    known |= {"train_yaml": "", "qat_yaml": ""}
    configs = {}
    for part in parts:
        text = changed(o, part, exp, caller)
        path = o[f"{part}_config"]
        configs[path] = yaml.safe_load(text) if text else read_config(path)
        if _trains(o, exp):
            check_amp(configs[path], path, int(o["ngpu"]))
        known[f"{part}_yaml"] = text
        if text:
            known[f"{part}_config"] = f"{exp}/{part}_config.yaml"
    return configs, known


def _trains(o: Mapping[str, str], exp: str) -> bool:
    """Whether this run comes to a training."""
    stage, left = int(o["stage"]), o["skip_train"] == "false" and int(o["stop_stage"]) >= 6
    return left and (
        0 < stage <= TRAINED or (not stage and not os.path.exists(f"{exp}/done/{TRAINED}"))
    )


def _merge(o: Mapping[str, str], config: dict, settings: Path) -> str:
    """What `merge` is: as given, or an experiment's own, or the default.

    One that is the experiment's stays as it was written there.

    Canaries are heard in whole windows, so of a student that learns to hear others they do not say
    what merging would undo.
    """
    if settings.exists():
        with suppress(InputError, KeyError):  # not this one's to say
            before = read_json(settings)["merge"]
            if isinstance(before, str) and (not o["merge"] or same_number(before, o["merge"])):
                return before
    if o["merge"]:
        return o["merge"]
    section = read_section(config, WindowConfig.SECTION, o["train_config"])
    whole = section.get("window", WindowConfig.window) == "full"
    without = o["mode"] == "joint" or o["canary"] == NONE or not whole
    return f"{MERGE:g}" if without else AUTO


def _of_teacher(known: Mapping[str, str]) -> str:
    """What its data are called: as its checkpoint, and by what that holds, if it is a user's."""
    name = Path(known["teacher_pt"]).name.removesuffix(".pt")
    content = known["teacher_content"]
    return name if name.endswith(content) else f"{name}-{content}"


def _folders(o: Mapping[str, str], exp: str, of_teacher: str) -> dict[str, str]:
    """Where its data are: prepared, formatted, and what is scored of them; what the canary takes.

    A corpus of the user's has a folder for each place and each `local_data_opts`.
    """
    root = os.path.abspath(o["dumpdir"])
    dump, stamps = os.path.join(root, o["corpus"]), os.path.join(root, "canary")
    if o["data_root"]:
        decides = os.fsencode(f"{os.path.realpath(o['data_root'])}\n{o['local_data_opts']}")
        dump += f"/{hashlib.sha256(decides).hexdigest()[:10]}"
    # What the teacher splits or labels is a data set of its own.
    raw = f"{dump}/raw" + f"_split_{of_teacher}" * (o["long"] == "split")
    drawn = f"{exp}/data/test" if int(o["test_clips"]) else f"{raw}/test"
    test = f"{exp}/data/test_windows" if o["test_windows"] == "true" else drawn  # perhaps joined
    known = {"dump": dump, "data": f"{dump}/data", "raw": raw, "drawn": drawn, "test": test}
    return known | {"stamps": stamps}


def _data_options(o: Mapping[str, str], teacher: str) -> str:
    """What decides the data that experiments on one corpus share."""
    names = ("corpus", "data_root", "local_data_opts", "allow_pipes", "max_left_out", "long")
    return " ".join([*(o[name] for name in names), *[teacher] * (o["long"] == "split")])


def _first(o: Mapping[str, str]) -> dict[str, str]:
    """The first training, and the file of what it has made before the other puts it on the grid."""
    joint = o["mode"] == "joint"
    learned = CHECKPOINT if joint or o["merge"] == "1" else MERGED
    return {"first": "qat" if joint else "kd", "learned": learned, "checkpoint": CHECKPOINT}


def _check_apt(o: Mapping[str, str]) -> None:
    """Elsewhere than on Debian the canary cannot be fetched: said before all work."""
    chosen = o["merge"] == AUTO and o["skip_train"] == "false" and int(o["stop_stage"]) >= 3
    if not chosen or o["canary"] != DEBIAN or not CORPORA[o["corpus"]].own:
        return
    there = glob("downloads/tuxpaint-stamps-default_*")
    if not there and not os.path.exists(f"{o['dumpdir']}/canary/parts") and not which("apt-get"):
        raise InputError(
            f"--canary {DEBIAN}: apt-get fetches it, which is not here: give --canary DIR, speech "
            f"of other people, or --canary {NONE}, with which nothing is merged"
        )


def _has_text(root: str) -> bool:
    """Whether it is one folder that is split, whose test needs the texts it has."""
    return os.path.lexists(f"{root}/text")


def _untranscribed(exp: str) -> bool:
    """Whether an experiment was made of such as have none."""
    return "--untranscribed" in read_text(Path(exp, "settings"))


def _check_together(o: dict[str, str]) -> None:
    if not CORPORA[o["corpus"]].own and o["data_root"]:
        raise InputError("--data_root goes with a corpus of your own")
    if CORPORA[o["corpus"]].own and not o["data_root"]:
        raise InputError(f"--corpus {o['corpus']} needs --data_root DIR")
    passed = {word.partition("=")[0] for word in split_words(o["local_data_opts"])}
    for name in ("language", "split"):
        if o[name] and name not in CORPORA[o["corpus"]].takes:
            these = " or ".join(x for x, corpus in CORPORA.items() if name in corpus.takes)
            raise InputError(f"--{name} goes with --corpus {these}")
        if o[name] and f"--{name}" in passed:
            raise InputError(f"--{name}: --local_data_opts has it, too")
    if o["language"]:
        o["language"] = known_language(o["language"])
    if o["split"]:
        shares(o["split"])
    teacher, student = (o[model] for model in LEARNING)
    if MODELS.get(teacher, inf) < MODELS.get(student, 0):
        raise InputError(
            f"--teacher {teacher} is smaller than --student {student}, who learns from it: "
            f"did you mean --teacher {student} --student {teacher}?"
        )
    if o["upload_to"] and not re.fullmatch(".+/.+", o["upload_to"]):
        raise InputError(f"--upload_to {o['upload_to']}: USER/NAME")
    if o["upload_to"] and o["skip_pack"] == "true":
        raise InputError("--upload_to: stage 13 uploads, which --skip_pack leaves out")
    if int(o["stage"]) > int(o["stop_stage"]):
        raise InputError(f"--stage {o['stage']}: is behind --stop_stage {o['stop_stage']}")
    if o["mode"] == "joint" and o["qat_args"]:
        raise InputError("--qat_args: --mode joint has one training, that of --train_args")
    if o["mode"] == "joint" and o["qat_config"] != QAT_CONFIG:
        raise InputError("--qat_config: --mode joint has one training, that of --train_config")
    if o["mode"] == "joint" and o["merge"] and (o["merge"] == AUTO or float(o["merge"]) != MERGE):
        raise InputError("--merge: --mode joint has one training, from the untouched student")
    if o["merge"] == AUTO and o["canary"] == NONE:
        raise InputError(
            f"--merge {AUTO}: the share is chosen by a canary, which --canary leaves out"
        )
    if o["mode"] == "joint" and o["qat_steps"]:
        raise InputError("--qat_steps: --mode joint has one training, that of --steps")
    systems = o["systems"].split()
    if odd := [system for system in systems if system not in SYSTEMS]:
        raise InputError(f"--systems: {odd[0]}: unknown, known are {', '.join(SYSTEMS)}")
    if o["grid"].endswith(".yaml") and "teacher_rounded" in systems:
        raise InputError("--systems: teacher_rounded: --grid is a table of the student's weights")
    if twice := [system for system in systems if systems.count(system) > 1]:
        raise InputError(f"--systems {o['systems']}: {twice[0]} comes twice")
    if "student" not in systems:
        raise InputError(f"--systems {o['systems']}: without student")


def _paths(o: Mapping[str, str], given: Mapping[str, str], caller: str) -> Iterator[str]:
    """The options whose values are paths of the caller's."""
    folders = ("data_root", "expdir", "dumpdir", "cachedir")
    yield from (name for name in (*folders, "cmd") if name in given)
    for name in ("train_config", "qat_config"):
        if os.path.isfile(os.path.join(caller, o[name])):
            yield name
    if o["canary"] not in (DEBIAN, NONE):
        yield "canary"
    yield from (model for model in LEARNING if _is_path(o[model]))
    if o["grid"].endswith(".yaml"):
        yield "grid"


def _is_path(model: str) -> bool:
    return model not in MODELS and not model.startswith(HUB)


def _check_paths(o: Mapping[str, str], typed: Mapping[str, str], gone: bool) -> None:
    for model in LEARNING:
        if o[model] in MODELS and o[model] not in MULTILINGUAL:
            raise InputError(f"--{model} {typed[model]}: knows English only: {NAMES}")
        if _is_path(o[model]) and not os.path.exists(o[model]):
            raise InputError(
                f"--{model} {typed[model]}: no such file or folder, nor a name of OpenAI's "
                f"({NAMES}) or of the Hugging Face Hub's (hf:USER/NAME)"
            )
    if not o["grid"].endswith(".yaml"):
        _check_grid("grid", o["grid"])
    for grid in (also := grids(o["also"])):
        _check_grid("also", grid)
        if grid == o["grid"]:
            raise InputError(f"--also {grid}: that is --grid, on which the student is trained")
        if also.count(grid) > 1:
            raise InputError(f"--also {o['also']}: {grid} comes twice")
    files = ["grid"] if o["grid"].endswith(".yaml") else []
    for name in (*files, "train_config", "qat_config", "cmd"):
        if not os.path.isfile(o[name]):
            raise InputError(f"--{name} {typed[name]}: no such file")
    if o["canary"] not in (DEBIAN, NONE) and not os.path.isdir(o["canary"]):
        raise InputError(f"--canary {typed['canary']}: {DEBIAN}, {NONE}, or a Kaldi folder")
    if o["data_root"] and not gone and not os.path.exists(o["data_root"]):
        kind = "file or folder" if CORPORA[o["corpus"]].file else "folder"
        raise InputError(f"--data_root {typed['data_root']}: no such {kind}")
    folders = ["expdir", "dumpdir", "cachedir"]  # which may be made
    for name in folders if CORPORA[o["corpus"]].file else ["data_root", *folders]:
        if os.path.exists(o[name]) and not os.path.isdir(o[name]):
            raise InputError(f"--{name} {typed[name]}: is no folder")


def _check_grid(option: str, grid: str) -> None:
    if home(grid).grids is None:
        from espnet_dq.quant.grids import GRIDS, get_grid  # imports torch

        try:
            get_grid(grid)
        except InputError as e:
            known = (*GRIDS, *(f"uniform{bits}" for bits in range(2, 9)))
            near = get_close_matches(grid, known, n=1, cutoff=0.0)
            raise InputError(
                f"--{option} {grid}: unknown grid: the nearest is {near[0]} (--help lists them)"
            ) from e


def _model(name: str, model: str) -> dict[str, str]:
    """NAME_pt, the checkpoint; NAME_content, a hash of what a path holds; NAME_shown, in reports.

    And NAME_own, the checkpoint of what is none of OpenAI's, else empty.

    Raises `InputError` for what can be no teacher or student.
    """
    with named(f"--{name}"):
        source = OPENAI + model if model in MODELS else model
        checkpoint, content = place(source, Path(WEIGHTS))
    shown = model
    if _is_path(model):
        shown = os.path.basename(os.path.abspath(model)) + "/" * os.path.isdir(model)
        if shown in MODELS:  # which would say that it is OpenAI's
            shown = f"./{shown}"
    found = {"pt": str(checkpoint), "content": content[:16], "shown": shown}
    found["own"] = "" if model in MODELS else str(checkpoint)
    return {f"{name}_{what}": value for what, value in found.items()}


def _canary(folder: str) -> str:
    """A hash of what a canary of the user's holds; raises `InputError` if it is not fit for use."""
    if folder in (DEBIAN, NONE):
        return ""
    read_wav(folder)  # one file an utterance
    data, digest = validate(folder), hashlib.sha256()
    for key in sorted(data.wav):
        said = [table[key] for table in (data.text, data.utt2spk, data.utt2lang)]
        digest.update(json.dumps([key, *said, sha256(data.wav[key])]).encode())
    return digest.hexdigest()[:16]


def _name(value: str) -> str:
    """A grid in the experiment's name."""
    return os.path.basename(value).removesuffix(".yaml")


def _check_names(exp: str, o: Mapping[str, str]) -> None:
    """What names may not hold, and that the folder is an experiment's if it is there."""
    if re.search("[:,]", exp):
        raise InputError(f"{exp}: ESPnet takes no path with : or , in it")
    for path in (sys.executable, os.getcwd(), exp, *map(o.get, IN_JOBS)):
        if re.search(r"(?<![^\W_])JOB(?![^\W_])", path):
            raise InputError(f"{path}: JOB in a path would become a job's number")
    if os.path.exists(exp) and not os.path.isfile(f"{exp}/settings"):
        # In an experiment, parts are removed and made again.
        for name in os.listdir(exp):
            if name not in ("done", ".lock") and not name.startswith(".settings.tmp-"):
                raise InputError(f"{exp}: is no experiment, it holds {name}: use --tag or --expdir")
