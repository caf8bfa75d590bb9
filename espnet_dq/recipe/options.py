"""The options of the recipe, each said once, and the words of a command line read as such."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from espnet_dq.data.corpora import CORPORA
from espnet_dq.errors import InputError
from espnet_dq.fetch.sources import MULTILINGUAL
from espnet_dq.formats.registry import FORMATS, home
from espnet_dq.recipe.systems import SYSTEMS
from espnet_dq.task.plan import LEAST_ON_GRID, MERGE, SHARE, share_or_auto
from espnet_dq.values import count, finite, one_or_more, percentage, positive, seed, whole

DEBIAN, NONE = "debian", "none"  # of --canary
TRAIN_CONFIG = {"kd_qat": "conf/train.yaml", "joint": "conf/joint.yaml"}  # by mode
QAT_CONFIG = "conf/qat.yaml"
OWN = [name for name, corpus in CORPORA.items() if corpus.own]
_GRIDS = {form: [g for g in form.grids or () if home(g) is form] for form in FORMATS.values()}
IN_RUNTIMES = ", ".join(f"{', '.join(grids)} ({f.runtime})" for f, grids in _GRIDS.items() if grids)
SWITCH = ("true", "false")
DECIDES = (
    "training",  # what is trained: it stands in EXPDIR/settings, and an experiment keeps it
    "within",  # the same, but there it is a part of others: configurations, words for data.sh
    "scoring",  # what is scored: it stands in EXPDIR/scoring, and --stage 9 may change it
    "how",  # how it is done or called: an experiment may go on with another value
    "here",  # which stages are left to do, and where: nothing for who wants the same elsewhere
)


@dataclass(frozen=True)
class Option:
    """An option of the recipe.

    Attributes:
        name: without dashes, and the shell's variable.
        decides: what its value decides, one of `DECIDES`.
        default: as if it were given; empty: none.
        rule: the words that it may be, or what raises for a wrong one, as argparse has it.
        metavar: what stands for the value in the help; empty: the words of `rule`.
        help: what it decides, without the default.
    """

    name: str
    decides: str
    default: str
    rule: Sequence[str] | Callable[[str], object]
    metavar: str
    help: str

    def check(self, text: str) -> str:
        """A value as the shell gets it; raises `InputError` that names option and value."""
        check_encoding(f"--{self.name} ", text)
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
        whole_number = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return str(int(value)) if whole_number else text


def check_encoding(what: str, text: str) -> None:
    """Raise `InputError` for what the shell would get otherwise: what is printed is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise InputError(f"{what}{text}: is not UTF-8") from e


# fmt: off
OPTIONS = {
    "what is run": (
        Option("stage", "here", "0", whole, "N",
               "run stage N and all after it again; 0: what is not finished"),
        Option("stop_stage", "here", "13", whole, "N", "last stage to run"),
        Option("skip_data", "here", "false", SWITCH, "", "skip stages 1 and 2"),
        Option("skip_train", "here", "false", SWITCH, "", "skip stages 4 to 7"),
        Option("skip_teacher_pass", "how", "false", SWITCH, "",
               "skip stage 4: the teacher answers in every step instead"),
        Option("skip_eval", "here", "false", SWITCH, "", "skip stages 9 to 12"),
        Option("skip_pack", "here", "false", SWITCH, "", "skip stage 13"),
    ),
    "data": (
        Option("corpus", "training", "asterisk", tuple(CORPORA), "NAME",
               "asterisk: en es fr it ru; debian7: also cs nl; debian13: also "
               "ro bg be ca da el; or one that you have, with "
               f"--data_root (docs/corpora.md): {', '.join(OWN)}"),
        Option("data_root", "training", "", str, "DIR",
               "the folder of a corpus that you have; csv: or a file"),
        Option("data_name", "how", "", str, "TEXT",
               "name of the data in report and model card, instead of the corpus's own"),
        Option("data_licence", "how", "", str, "TEXT",
               "their licence there, instead of that of a published corpus"),
        Option("language", "within", "", str, "NAME",
               "the language of all utterances (csv, kaldi, lhotse_cuts, hf_dataset): de, de-DE, "
               "deu, german"),
        Option("split", "within", "", str, "SHARES",
               "shares of train, dev and test where the data have no splits (csv, kaldi), as "
               "80/10/10"),
        Option("local_data_opts", "training", "", str, "TEXT",
               'more options for local/data.sh: "--languages de,sv" or '
               '"--text_column \'Spoken text\'"'),
        Option("allow_pipes", "how", "false", SWITCH, "",
               "run the commands in a Kaldi folder's wav.scp"),
        Option("long", "training", "drop", ("drop", "split"), "",
               "utterances longer than 30 s. drop: leave them out and count them. split: let the "
               "teacher split those of train and dev at pauses, with their text; those of test "
               "stay whole"),
        Option("max_left_out", "how", "10", percentage, "P",
               "stop if more than P percent of the utterances are left out; left_out.tsv in the "
               "folders of the data says which and why"),
        Option("labels", "training", "text", ("text", "check", "replace"), "",
               "text: use it as given. check: drop utterances whose text the teacher does not "
               "hear. replace: use the teacher's text, where the teacher is sure of it (kaldi: "
               "train and dev need no text)"),
        Option("singles", "training", "30", whole, "N",
               "utterances that also get a window of their own"),
        Option("temperature", "training", "1", one_or_more, "T",
               "1: languages as they are; more: hear those of few hours more often"),
        Option("max_hours", "training", "inf", positive, "N", "at most N hours of each language"),
    ),
    "models and training": (
        Option("teacher", "training", "base", str, "MODEL",
               f"one of OpenAI's, {', '.join(MULTILINGUAL)}; or any model that you have: a folder "
               "of Hugging Face or CTranslate2, LoRA adapters, a .pt or ggml file, an experiment; "
               "or hf:USER/NAME, of the Hugging Face Hub"),
        Option("student", "training", "tiny", str, "MODEL",
               "the Whisper that learns: the same choices, a student that you trained before "
               "among them; bin.make_student and bin.trim_vocabulary cut smaller ones"),
        Option("grid", "training", "ct2_int8", str, "NAME|FILE",
               f"weight grid, and with it the runtime: {IN_RUNTIMES}; uniform2 to uniform8, also "
               "as uniform4_tensor or uniform4_g16, or a .yaml file with a grid for each weight "
               "(packed file, torch)"),
        Option("also", "scoring", "", str, "GRIDS",
               "grids that the trained student is exported on as well, with commas: "
               "ggml_q5_0,onnx_int8; rounded to them, of fewer than 8 bits by clips of its "
               "training data, not trained on them, and scored"),
        Option("mode", "training", "kd_qat", tuple(TRAIN_CONFIG), "",
               "kd_qat: distil in float, then on the grid; joint: on the grid from the first step"),
        Option("train_config", "within", "", str, "FILE",
               f"training configuration of kd ({TRAIN_CONFIG['kd_qat']}), or of joint "
               f"({TRAIN_CONFIG['joint']})"),
        Option("qat_config", "within", QAT_CONFIG, str, "FILE", "training configuration of qat"),
        Option("train_args", "within", "", str, "KEYS",
               'keys to set in train_config: "model_conf.alpha=0.5 grad_clip=0.5"'),
        Option("qat_args", "within", "", str, "KEYS", "keys to set in qat_config"),
        Option("steps", "training", "", count, "N",
               "steps of the first training, instead of as many as its data ask for; where they "
               "do not hear all windows, the others are left out before the teacher answers"),
        Option("epochs", "training", "", one_or_more, "N", "the same, as passes over all windows"),
        Option("qat_steps", "training", "", count, "N",
               f"steps on the grid after kd, instead of {SHARE} of those of kd, at least "
               f"{LEAST_ON_GRID}"),
        Option("merge", "training", "", share_or_auto, "SHARE",
               "training on the grid starts between the untouched student, 0, and what kd made of "
               "it, 1: in between it forgets less of other people and languages; auto: the share "
               "that dev and other people's speech like best "
               f"(auto; {MERGE:g} with --canary none, in one training, or in other windows than "
               "whole ones)"),
        Option("lr", "within", "", finite, "X", "learning rate of the first training"),
        Option("patience", "within", "", count, "N",
               "stop a training when so many looks at dev have not been better than the best one"),
        Option("seed", "training", "0", seed, "N", "seed of packing and training"),
    ),
    "scoring": (
        Option("test_clips", "scoring", "0", whole, "N",
               "score at most N test utterances of each language, the same ones in every run; "
               "0: all"),
        Option("test_windows", "scoring", "false", SWITCH, "",
               "score test utterances joined into 30 s windows, as in training: several times "
               "faster, but scores are not those of single utterances"),
        Option("systems", "scoring", " ".join(SYSTEMS), str, "LIST",
               "systems to score, student among them; rounded: the untouched student and teacher, "
               "on the grid without training"),
        Option("canary", "scoring", DEBIAN, str, "debian|DIR|none",
               "other people, other languages, noise and no speech, on which untouched, teacher "
               "and student are tried, too. debian: Tux Paint's stamps, 161 MB to fetch. DIR: "
               "these, and a Kaldi folder of your own that training does not have. none: nothing"),
        Option("upload_to", "here", "", str, "USER/NAME",
               "stage 13 also uploads each folder to the Hugging Face Hub, as the repository "
               "USER/NAME-FORMAT, which is private if it is new, and else as it was (log in "
               "first: hf auth login, or HF_TOKEN)"),
    ),
    "machines and folders": (
        Option("nj", "here", "", count, "N",
               "parallel jobs for data and decoding, on Slurm also for the teacher pass, instead "
               "of one a core"),
        Option("ngpu", "how", "0", whole, "N",
               "GPUs for training, on each node; labels take one of them; all else runs on the "
               "CPU"),
        Option("num_nodes", "how", "1", count, "N", "nodes for training, on Slurm"),
        Option("cmd", "here", "cmd.sh", str, "FILE",
               "where long work runs: this machine or Slurm, and its options"),
        Option("expdir", "here", "exp", str, "DIR", "parent of the experiment folder"),
        Option("dumpdir", "here", "dump", str, "DIR", "formatted data"),
        Option("cachedir", "here", "", str, "DIR",
               "keep packed windows, the teacher's answers and decoded texts there, for all "
               "experiments that need the same, instead of with each"),
        Option("tag", "how", "", str, "NAME", "added to the experiment's name"),
    ),
}
# fmt: on
BY_NAME = {option.name: option for group in OPTIONS.values() for option in group}
DEFAULTS = {name: option.default for name, option in BY_NAME.items()}


def deciding(what: str) -> list[str]:
    """The names of the options that decide this, one of `DECIDES`."""
    return [name for name, option in BY_NAME.items() if option.decides == what]


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
