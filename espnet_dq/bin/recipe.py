"""Check the options of the recipe, and print what follows from them (dq.sh).

An option is one entry of `OPTIONS`: its name, default, rule and help. dq.sh gets each as a variable
of its name, with whole paths, and beside them what the package knows of these values: the format,
runtime and file of a grid, the experiment's folder, configurations with single keys changed.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from espnet_dq.api.checkpoint import is_path, model_name, place, published
from espnet_dq.bin import settings
from espnet_dq.bin.arguments import Parser, count, one_or_more, percentage, positive, whole
from espnet_dq.config import merge, parse_keys, read_config
from espnet_dq.data.corpora import CORPORA
from espnet_dq.data.languages import known_language
from espnet_dq.data.splits import shares
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.sources import MODELS, MULTILINGUAL
from espnet_dq.formats.registry import FORMATS, home
from espnet_dq.quant.table import read_grid
from espnet_dq.report import rounded
from espnet_dq.task.plan import DEV_WINDOWS, SHARE, Wanted, heard

OWN = [name for name, corpus in CORPORA.items() if corpus.own]
IN_RUNTIMES = ", ".join(f"{', '.join(f.grids)} ({f.runtime})" for f in FORMATS.values() if f.grids)
SYSTEMS = ("untouched", "teacher", "untouched_rounded", "teacher_rounded", "float_student",
           "student", "student_torch")  # fmt: skip
LEARNING = ("teacher", "student")
_NAMES = ", ".join(MULTILINGUAL)
WEIGHTS = "downloads/weights"  # in the recipe's folder: checkpoints that were fetched or made
TRAIN_CONFIG = {"kd_qat": "conf/train.yaml", "joint": "conf/joint.yaml"}  # by mode
SWITCH = ("true", "false")
# Paths that commands of jobs name.
IN_JOBS = ("dumpdir", "cachedir", "teacher", "student", "grid", "train_config", "qat_config")
# What decides nothing of a result: which stages are left to do, and where. Who wants the same from
# the beginning, elsewhere, says the other options.
HERE = ("stage", "stop_stage", "skip_data", "skip_train", "skip_eval", "skip_pack", "upload_to",
        "nj", "cmd", "expdir", "dumpdir", "cachedir")  # fmt: skip
# Keys of a training that dq.sh decides, whatever a configuration says.
SET = (
    *("config", "output_dir", "init_param", "resume", "dry_run", "collect_stats", "print_config"),
    *("token_list", "token_type", "bpemodel", "allow_variable_data_keys", "num_att_plot"),
    *(f"{side}_{what}" for side in ("train", "valid")
      for what in ("data_path_and_name_and_type", "shape_file")),
    *("seed", "ngpu", "encoder_conf.dims", "encoder_conf.padding", "decoder_conf.dims"),
    *("model_conf.teacher", "model_conf.teacher_dims", "model_conf.grid"),
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """An option of the recipe.

    Attributes:
        name: without dashes, and the shell's variable.
        default: as if it were given; empty: none.
        rule: the words that it may be, or what raises for a wrong one, as argparse has it.
        metavar: what stands for the value in the help; empty: the words of `rule`.
        help: what it decides, without the default.
    """

    name: str
    default: str
    rule: Sequence[str] | Callable[[str], object]
    metavar: str
    help: str

    def check(self, text: str) -> str:
        """A value as the shell gets it; raises `InputError` that names option and value."""
        if not text and self.default:
            raise InputError(f"--{self.name} needs a value")
        if text == self.default:
            return text
        if not callable(self.rule):
            if text not in self.rule:
                raise InputError(f"--{self.name} {text}: {' or '.join(self.rule)}")
            return text
        try:
            value = self.rule(text)
        except argparse.ArgumentTypeError as e:
            raise InputError(f"--{self.name} {text}: {e}") from e
        return str(value) if isinstance(value, int) else text


# fmt: off
OPTIONS = {
    "what is run": (
        Option("stage", "0", whole, "N",
               "run stage N and all after it again; 0: what is not finished"),
        Option("stop_stage", "13", whole, "N", "last stage to run"),
        Option("skip_data", "false", SWITCH, "", "skip stages 1 and 2"),
        Option("skip_train", "false", SWITCH, "", "skip stages 4 to 7"),
        Option("skip_teacher_pass", "false", SWITCH, "",
               "skip stage 4: the teacher answers in every step instead"),
        Option("skip_eval", "false", SWITCH, "", "skip stages 9 to 12"),
        Option("skip_pack", "false", SWITCH, "", "skip stage 13"),
    ),
    "data": (
        Option("corpus", "asterisk", tuple(CORPORA), "NAME",
               "asterisk: en es fr it ru; debian7: also cs nl; or one that you have, with "
               f"--data_root (docs/corpora.md): {', '.join(OWN)}"),
        Option("data_root", "", str, "DIR", "the folder of a corpus that you have; csv: or a file"),
        Option("data_name", "", str, "TEXT",
               "name of the data in report and model card, instead of the corpus's own"),
        Option("data_licence", "", str, "TEXT",
               "their licence there, instead of that of a published corpus"),
        Option("language", "", str, "NAME",
               "the language of all utterances (csv, kaldi, lhotse_cuts, hf_dataset): de, de-DE, "
               "deu, german"),
        Option("split", "", str, "SHARES",
               "shares of train, dev and test where the data have no splits (csv, kaldi), as "
               "80/10/10"),
        Option("local_data_opts", "", str, "TEXT",
               'more options for local/data.sh: "--languages de,sv" or "--text_column said"'),
        Option("allow_pipes", "false", SWITCH, "", "run the commands in a Kaldi folder's wav.scp"),
        Option("long", "drop", ("drop", "split"), "",
               "utterances longer than 30 s. drop: leave them out and count them. split: let the "
               "teacher split those of train and dev at pauses, with their text; those of test "
               "stay whole"),
        Option("max_left_out", "10", percentage, "P",
               "stop if more than P percent of the utterances are left out; left_out.tsv in the "
               "folders of the data says which and why"),
        Option("labels", "text", ("text", "check", "replace"), "",
               "text: use it as given. check: drop utterances whose text the teacher does not "
               "hear. replace: use the teacher's text, where the teacher is sure of it (kaldi: "
               "train and dev need no text)"),
        Option("singles", "30", whole, "N", "utterances that also get a 30 s window of their own"),
        Option("temperature", "1", one_or_more, "T",
               "1: languages as they are; more: hear those of few hours more often"),
        Option("max_hours", "inf", positive, "N", "at most N hours of each language"),
    ),
    "models and training": (
        Option("teacher", "base", str, "MODEL",
               f"one of OpenAI's, {_NAMES}; or any model that you have: a folder "
               "of Hugging Face or CTranslate2, LoRA adapters, a .pt or ggml file, an experiment; "
               "or hf:USER/NAME, of the Hugging Face Hub"),
        Option("student", "tiny", str, "MODEL",
               "the Whisper that learns: the same choices, a student that you trained before "
               "among them; bin.make_student and bin.trim_vocabulary cut smaller ones"),
        Option("grid", "ct2_int8", str, "NAME|FILE",
               f"weight grid, and with it the runtime: {IN_RUNTIMES}; uniform2 to uniform8, also "
               "as uniform4_tensor or uniform4_g16, or a .yaml file with a grid for each weight "
               "(packed file, torch)"),
        Option("also", "", str, "GRIDS",
               "grids that the trained student is exported on as well, with commas: "
               "ggml_q5_0,onnx_int8; rounded to them, not trained on them, and scored"),
        Option("mode", "kd_qat", tuple(TRAIN_CONFIG), "",
               "kd_qat: distil in float, then on the grid; joint: on the grid from the first step"),
        Option("train_config", "", str, "FILE",
               f"training configuration of kd ({TRAIN_CONFIG['kd_qat']}), or of joint "
               f"({TRAIN_CONFIG['joint']})"),
        Option("qat_config", "conf/qat.yaml", str, "FILE", "training configuration of qat"),
        Option("train_args", "", str, "KEYS",
               'keys to set in train_config: "model_conf.alpha=0.5 grad_clip=0.5"'),
        Option("qat_args", "", str, "KEYS", "keys to set in qat_config"),
        Option("steps", "", count, "N",
               "steps of the first training, instead of as many as its data ask for; where they "
               "do not hear all windows, the others are left out before the teacher answers"),
        Option("epochs", "", one_or_more, "N", "the same, as passes over all windows"),
        Option("qat_steps", "", count, "N",
               f"steps on the grid after kd, instead of {SHARE} of those of kd"),
        Option("lr", "", positive, "X", "learning rate of the first training"),
        Option("patience", "", count, "N",
               "stop a training when so many looks at dev have not been better than the best one"),
        Option("seed", "0", whole, "N", "seed of packing and training"),
    ),
    "scoring": (
        Option("test_clips", "0", whole, "N",
               "score at most N test utterances of each language, the same ones in every run; "
               "0: all"),
        Option("test_windows", "false", SWITCH, "",
               "score test utterances joined into 30 s windows, as in training: several times "
               "faster, but scores are not those of single utterances"),
        Option("systems", " ".join(SYSTEMS), str, "LIST",
               "systems to score, student among them; rounded: the untouched student and teacher, "
               "on the grid without training"),
        Option("upload_to", "", str, "USER/NAME",
               "stage 13 also uploads each folder to the Hugging Face Hub, as the private "
               "repository USER/NAME-FORMAT (log in first: hf auth login, or HF_TOKEN)"),
    ),
    "machines and folders": (
        Option("nj", "", count, "N",
               "parallel jobs for data and decoding, on Slurm also for the teacher pass, instead "
               "of one a core"),
        Option("ngpu", "0", whole, "N",
               "GPUs for training, on each node; labels take one of them; all else runs on the "
               "CPU"),
        Option("num_nodes", "1", count, "N", "nodes for training, on Slurm"),
        Option("cmd", "cmd.sh", str, "FILE",
               "where long work runs: this machine or Slurm, and its options"),
        Option("expdir", "exp", str, "DIR", "parent of the experiment folder"),
        Option("dumpdir", "dump", str, "DIR", "formatted data"),
        Option("cachedir", "", str, "DIR",
               "keep packed windows, the teacher's answers and decoded texts there, for all "
               "experiments that need the same, instead of with each"),
        Option("tag", "", str, "NAME", "added to the experiment's name"),
    ),
}
# fmt: on
BY_NAME = {option.name: option for group in OPTIONS.values() for option in group}
DEFAULTS = {name: option.default for name, option in BY_NAME.items()}
STAGES = """\
stages: 1 data, 2 format, 3 weights, 4 teacher pass, 5 shapes, 6 kd, 7 qat, 8 export and verify,
        9 decode, 10 score, 11 benchmark, 12 report, 13 pack
"""


def get_parser() -> Parser:
    """The options, for their help; `read` reads them."""
    parser = Parser(
        "Distil and quantize a Whisper, stage by stage; what is finished is not done again.",
        usage="%(prog)s [options]",
        epilog=STAGES,
        formatter_class=partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=26, width=100
        ),
    )
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for option in options:
            shown = " [%(default)s]" if option.default not in ("", "false") else ""
            group.add_argument(
                f"--{option.name}",
                default=option.default,
                metavar=option.metavar or "|".join(option.rule),
                help=option.help + shown,
            )
    return parser


def read(words: Sequence[str]) -> dict[str, str]:
    """The options that are given and their last values, in the order of their first.

    `--name value` and `--name=value` are the same, and a value may begin with a dash.

    Raises:
        InputError: an unknown option, with the nearest one, or a value that is missing or wrong.
    """
    given, left = {}, iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        option = BY_NAME.get(name.removeprefix("--")) if name.startswith("--") else None
        if option is None:
            near = get_close_matches(name, [f"--{known}" for known in BY_NAME], n=1, cutoff=0.0)
            raise InputError(
                f"unknown option {name}: the nearest is {near[0]} (--help lists them all)"
            )
        if not equals and (value := next(left, None)) is None:
            raise InputError(f"{name} needs a value")
        given[option.name] = option.check(value)
    return given


def settle(given: dict[str, str], caller: str) -> dict[str, str]:
    """What dq.sh works with: every option, and what follows from them.

    Args:
        given: as `read` has them.
        caller: the folder that relative paths begin at; the current one is the recipe's, where
            configurations may lie, too.

    Raises:
        InputError: options that do not go together, or files and folders that are not there.
    """
    o = DEFAULTS | given
    o["train_config"] = o["train_config"] or TRAIN_CONFIG[o["mode"]]
    if o["grid"].endswith(".yaml") and "systems" not in given:  # a table of the student's weights
        o["systems"] = o["systems"].replace(" teacher_rounded", "")
    _check_together(o)
    typed = dict(o)
    for name in filter(o.get, _paths(o, given, caller)):
        o[name] = os.path.join(caller, o[name])
    names = {}
    for model in LEARNING:
        with _of_option(model):
            names[f"{model}_name"] = model_name(o[model])
    exp = "_".join(filter(None, (o["corpus"], *names.values(), _name(o["grid"]), o["tag"])))
    exp = os.path.abspath(os.path.join(o["expdir"], exp))
    # On a disk that was taken away, perhaps: an experiment has read it.
    gone = not os.path.exists(o["data_root"]) and o["stage"] != "1"
    gone = gone and os.path.exists(f"{exp}/done/1")
    _check_paths(o, typed, gone)
    for name in ("language", "split"):
        if o[name]:
            o["local_data_opts"] = f"{o['local_data_opts']} --{name} {o[name]}".strip()
    if (o["corpus"], o["labels"]) == ("kaldi", "replace") and (
        _untranscribed(exp) if gone else not _has_text(o["data_root"])
    ):
        o["local_data_opts"] += " --untranscribed"
    if o["labels"] != "replace" and "--untranscribed" in o["local_data_opts"]:
        raise InputError("--untranscribed: without text, --labels replace is needed")
    _check_names(exp, o)
    form = home(o["grid"])
    known = {"format": form.name, "runtime": form.runtime, "exported": form.exported}
    known |= {"padding": form.padding, "exp": exp, "weights": WEIGHTS}
    for model in LEARNING:
        known |= _model(model, o[model])
    known["also_systems"] = " ".join(map(rounded.entry, _also(o)))
    parts = ["train"] if o["mode"] == "joint" else ["train", "qat"]
    known["config_names"] = shlex.join(o[f"{part}_config"] for part in parts)
    known |= {"train_yaml": "", "qat_yaml": ""}
    configs = {}
    for part in parts:
        text = _changed(o, part, exp) if _set_keys(o, part) else ""
        known[f"{part}_yaml"] = text
        path = o[f"{part}_config"]
        configs[path] = yaml.safe_load(text) if text else read_config(path)
    kinds = {"steps": int, "epochs": float, "qat_steps": int}
    most = heard(configs, Wanted(**{n: kind(o[n]) for n, kind in kinds.items() if o[n]}))
    known |= {"most_windows": str(most or ""), "dev_windows": str(DEV_WINDOWS)}
    return o | names | known


def _has_text(root: str) -> bool:
    """Whether Kaldi folders have texts of train and dev, or one that is split has its own."""
    folders = [f"{root}/{split}" for split in ("train", "dev")]
    return any(all(os.path.lexists(f"{x}/text") for x in those) for those in ([root], folders))


def _untranscribed(exp: str) -> bool:
    """Whether an experiment was made of such as have none."""
    return "--untranscribed" in Path(exp, "settings").read_text(encoding="utf-8")


def _check_together(o: dict[str, str]) -> None:
    if not CORPORA[o["corpus"]].own and o["data_root"]:
        raise InputError("--data_root goes with a corpus of your own")
    if CORPORA[o["corpus"]].own and not o["data_root"]:
        raise InputError(f"--corpus {o['corpus']} needs --data_root DIR")
    for name in ("language", "split"):
        if o[name] and name not in CORPORA[o["corpus"]].takes:
            these = " or ".join(x for x, corpus in CORPORA.items() if name in corpus.takes)
            raise InputError(f"--{name} goes with --corpus {these}")
        if o[name] and f"--{name}" in o["local_data_opts"].split():
            raise InputError(f"--{name}: --local_data_opts has it, too")
    if o["language"]:
        o["language"] = known_language(o["language"])
    if o["split"]:
        shares(o["split"])
    for model in LEARNING:
        o[model] = published(o[model]) or o[model].rstrip("/") or "/"
    teacher, student = (o[model] for model in LEARNING)
    if MODELS.get(teacher, inf) < MODELS.get(student, 0):
        raise InputError(
            f"--teacher {teacher} is smaller than --student {student}, who learns from it: "
            f"did you mean --teacher {student} --student {teacher}?"
        )
    if o["upload_to"] and not re.fullmatch(".+/.+", o["upload_to"]):
        raise InputError(f"--upload_to {o['upload_to']}: USER/NAME")
    if o["mode"] == "joint" and o["qat_args"]:
        raise InputError("--qat_args: --mode joint has one training, that of --train_args")
    if o["mode"] == "joint" and o["qat_steps"]:
        raise InputError("--qat_steps: --mode joint has one training, that of --steps")
    systems = o["systems"].split()
    if odd := [system for system in systems if system not in SYSTEMS]:
        raise InputError(f"--systems: {odd[0]}: unknown, known are {', '.join(SYSTEMS)}")
    if o["grid"].endswith(".yaml") and "teacher_rounded" in systems:
        raise InputError("--systems: teacher_rounded: --grid is a table of the student's weights")
    if "student" not in systems:
        raise InputError(f"--systems {o['systems']}: without student")


def _paths(o: Mapping[str, str], given: Mapping[str, str], caller: str) -> Iterator[str]:
    """The options whose values are paths of the caller's."""
    folders = ("data_root", "expdir", "dumpdir", "cachedir")
    yield from (name for name in (*folders, "cmd") if name in given)
    for name in ("train_config", "qat_config"):
        if os.path.isfile(os.path.join(caller, o[name])):
            yield name
    yield from (model for model in LEARNING if is_path(o[model]))
    if o["grid"].endswith(".yaml"):
        yield "grid"


def _check_paths(o: Mapping[str, str], typed: Mapping[str, str], gone: bool) -> None:
    for model in LEARNING:
        if o[model] in MODELS and o[model] not in MULTILINGUAL:
            raise InputError(f"--{model} {typed[model]}: knows English only: {_NAMES}")
        if is_path(o[model]) and not os.path.exists(o[model]):
            raise InputError(
                f"--{model} {typed[model]}: no such file or folder, nor a name of OpenAI's "
                f"({_NAMES}) or of the Hugging Face Hub's (hf:USER/NAME)"
            )
    if not o["grid"].endswith(".yaml"):
        _check_grid("grid", o["grid"])
    for grid in (also := _also(o)):
        _check_grid("also", grid)
        if grid == o["grid"]:
            raise InputError(f"--also {grid}: that is --grid, on which the student is trained")
        if also.count(grid) > 1:
            raise InputError(f"--also {o['also']}: {grid} comes twice")
    files = ["grid"] if o["grid"].endswith(".yaml") else []
    for name in (*files, "train_config", "qat_config", "cmd"):
        if not os.path.isfile(o[name]):
            raise InputError(f"--{name} {typed[name]}: no such file")
    if o["data_root"] and not gone and not os.path.exists(o["data_root"]):
        kind = "file or folder" if CORPORA[o["corpus"]].file else "folder"
        raise InputError(f"--data_root {typed['data_root']}: no such {kind}")
    folders = ["expdir", "dumpdir", "cachedir"]  # which may be made
    for name in folders if CORPORA[o["corpus"]].file else ["data_root", *folders]:
        if os.path.exists(o[name]) and not os.path.isdir(o[name]):
            raise InputError(f"--{name} {typed[name]}: is no folder")


def _also(o: Mapping[str, str]) -> list[str]:
    """The grids of `--also`."""
    return [grid.strip() for grid in o["also"].split(",")] if o["also"] else []


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


@contextmanager
def _of_option(name: str) -> Iterator[None]:
    """Name the option in what is said of its value."""
    try:
        yield
    except InputError as e:
        raise InputError(f"--{name}: {e}") from e


def _model(name: str, model: str) -> dict[str, str]:
    """NAME_pt, the checkpoint; NAME_content, a hash of what a path holds; NAME_shown, in reports.

    Raises `InputError` for what can be no teacher or student.
    """
    with _of_option(name):
        checkpoint, content = place(model, Path(WEIGHTS))
    shown = model
    if is_path(model):
        shown = os.path.basename(os.path.abspath(model)) + "/" * os.path.isdir(model)
        if shown in MODELS:  # which would say that it is OpenAI's
            shown = f"./{shown}"
    return {f"{name}_pt": str(checkpoint), f"{name}_content": content[:16], f"{name}_shown": shown}


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


def _set_keys(o: Mapping[str, str], part: str) -> dict:
    """The keys of a training that options set."""
    option = f"--{part}_args"
    keys = parse_keys(o[option.removeprefix("--")], option)
    if o["patience"]:
        _set(keys, "patience", int(o["patience"]), f"{option}: patience: --patience")
    if o["lr"] and part == "train":
        optim = keys.setdefault("optim_conf", {})
        _set(optim, "lr", float(o["lr"]), f"{option}: optim_conf.lr: --lr")
    return keys


def _set(place: dict, key: str, value: float, who: str) -> None:
    if not isinstance(place, dict) or key in place:
        raise InputError(f"{who} sets it, too")
    place[key] = value


def _changed(o: Mapping[str, str], part: str, exp: str) -> str:
    """The configuration of a training with single keys changed, checked before any work."""
    config, option = o[f"{part}_config"], f"--{part}_args"
    changed, keys = read_config(config), _set_keys(o, part)
    for key in SET:
        section, _, last = key.rpartition(".")
        place = keys.get(section) if section else keys
        if isinstance(place, dict) and last in place:
            raise InputError(f"{option}: {key}: that is set by the recipe")
    merge(changed, keys, f"{option}: ")
    text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
    if not os.path.exists(f"{exp}/settings"):  # else it was checked, or dq.sh refuses to change it
        from espnet_dq.api.models import load
        from espnet_dq.bin.check_configs import check, sizes  # imports ESPnet

        models = (
            sizes(o[m]) if published(o[m]) else load(o[m], keep=False).weights.without_added().dims
            for m in ("student", "teacher")
        )
        processes = max(1, int(o["ngpu"])) * int(o["num_nodes"])
        with TemporaryDirectory() as folder:
            file = Path(folder, os.path.basename(config))
            file.write_text(text, encoding="utf-8")
            try:
                check(file, *models, read_grid(o["grid"]), processes)
            except InputError as e:
                raise InputError(str(e).replace(str(file), f"{config} with {option}")) from e
    return text


def main(argv: list[str] | None = None) -> int:
    """Print the variables, each as `name=value` and a zero byte; returns 0."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & {*words}:
        get_parser().parse_args(["--help"])
    caller = "."
    if words[:1] == ["--caller"]:  # dq.sh's own
        caller, words = words[1], words[2:]
    given = read(words)
    made = {name: value for name, value in given.items() if name not in HERE}
    command = shlex.join(["run.sh", *(w for o, v in made.items() for w in (f"--{o}", v))])
    settled = settle(given, caller) | {"command_line": command}
    settled |= settings.check(Path(settled["exp"]), settled, DEFAULTS)
    for name, value in settled.items():
        print(f"{name}={value}", end="\0")
    return 0


if __name__ == "__main__":
    sys.argv[0] = "dq.sh"  # in messages
    run(main)
