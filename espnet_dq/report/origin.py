"""Where results come from, told to others: without the paths of the machine that made them.

run.json and results.json keep every path, so that the files are found again; what is read elsewhere
(RESULTS.md, report.html, model cards) names data and licences, and files by their own names.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from espnet_dq.fetch.names import HUB
from espnet_dq.whisper.dims import SIZES

UNNAMED = "data of the user's own"
NOT_STATED = "not stated"
UNNAMED_WEIGHTS = ("", "unknown")  # in run.json
# Names under which the Hub has what OpenAI calls otherwise.
_ON_THE_HUB = {"large-v1": "large", "large": "large-v3", "turbo": "large-v3-turbo"}
PLACE = "DIR"  # stands for a folder whose name is nobody's business
# Of files that a user gives to the recipe; what has another ending is taken for a folder.
FILES = re.compile(r"\.(pt|pth|bin|safetensors|ya?ml|sh|json|jsonl|gz|tsv|csv|txt)$")
# Where a path begins that leaves the current folder: at `/`, `~` or `..`, also behind the letter of
# an option, `-I/usr`; but not within a word or a URL (save `file:`), and not at `</s>`.
_OPTION = r"(?<=(?<![\w-])-\w)"
_PATH = rf"""
    (?: file:/+
      | (?: (?<![\w.:/~-])/+ | (?<=:)/(?!/) | {_OPTION}/ ) (?!(?<=</)\w+>)(?=\S)
      | (?: (?<![\w./~-]) | {_OPTION} ) (?: ~ | \.\.(?=/|$) ) )
"""
# Folders may have spaces in their names; the last name ends at one, as does another option.
_WHOLE = re.compile(
    rf"""{_PATH} (?: (?:(?!\s(?:[-/~]|\.\.))[^/:,;"'\n])* / )* [^\s/:,;"'()\[\]<>]* """, re.VERBOSE
)
# In a word of a command the path is the last, with all its spaces: behind `--option=`, `@` or `-I`.
_LAST = re.compile(rf"((?:--?[\w-]+=|\w+=|-\w|@)*) {_PATH} .*", re.VERBOSE | re.DOTALL)
_QUOTED = re.compile(r"""(["'])(.*?)\1""", re.DOTALL)


def data_of(run: Mapping, name: str | None, licence: str | None) -> dict[str, str]:
    """`data_name` and `data_licence`: as the user says, else as the corpora of run.json do.

    Args:
        run: what run.json holds.
        name, licence: the user's word, in the place of the corpora's own.
    """
    sources = run["sources"]
    licences = [each["licence"] for each in sources]
    if len(sources) > 1:
        licences = [f"{each['licence']} ({each['name']})" for each in sources]
    known = {
        "data_name": name or "; ".join(each["name"] for each in sources) or UNNAMED,
        "data_licence": licence or "; ".join(licences) or NOT_STATED,
    }
    return {key: " ".join(value.split()) for key, value in known.items()}


def command(line: str) -> str:
    """A command line, or a list of files, as a shell reads it, its paths shortened.

    Example usage::

        command("run.sh --corpus kaldi --data_root /home/ann/de --qat_config ~/my.yaml")
        # run.sh --corpus kaldi --data_root DIR --qat_config my.yaml
    """
    try:
        words = shlex.split(line)
    except ValueError:  # not written for a shell
        words = line.split()
    return shlex.join(map(_word, words))


def _word(word: str) -> str:
    if last := _LAST.fullmatch(word):
        return last[1] + _name(word[last.end(1) :])
    # In a list, or among options that are one word: `--local_data_opts`.
    inner = _QUOTED.sub(lambda m: m[1] + _word(m[2]) + m[1], word)
    return _WHOLE.sub(lambda m: _name(m[0]), inner)


def _name(path: str) -> str:
    return Path(path).name if FILES.search(path) else PLACE


def place(path: str, exp: Path) -> str:
    """A file of an experiment by its path within it; any other by its name."""
    whole, root = Path(path).resolve(), exp.resolve()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else whole.name


def prose(text: str) -> str:
    """Text in which paths may stand, with no more of each than the file's name."""
    return _WHOLE.sub(lambda m: Path(m[0]).name if Path(m[0]).suffix else PLACE, text)


def part(run: Mapping) -> str:
    """What of the data was scored: the name of its folder, `test`."""
    return Path(run["data"]).name


def weights(name: str) -> str:
    """Whose the weights of that name are, and their licence; `name`: as run.json has it."""
    if name in SIZES:
        return f"OpenAI's Whisper {name}, MIT licence"
    if name.startswith(HUB):
        return f"`{name}`, of the Hugging Face Hub: its model card says its licence"
    if name in UNNAMED_WEIGHTS:
        return NOT_STATED
    kind = "folder" if name.endswith("/") else "file"  # by its name alone nobody knows
    return f"`{name}`, a {kind} of the user's: its licence is {NOT_STATED}"


def repository(name: str) -> str | None:
    """Where the Hugging Face Hub has the weights of that name, if it does."""
    if name.startswith(HUB):
        return name.removeprefix(HUB).partition("@")[0]
    return f"openai/whisper-{_ON_THE_HUB.get(name, name)}" if name in SIZES else None
