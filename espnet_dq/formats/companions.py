"""What stands beside the weights in a folder, compared with what a writer writes for the model.

Settings and vocabularies decide the text as much as weights do: every key of every file has to be
what the model's dimensions and vocabulary say, and no file may be more or less than the runtime
needs, but for documents, which none reads.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer

from espnet_dq.errors import InputError, first_line
from espnet_dq.formats import json_file
from espnet_dq.formats.report import BESIDE, Row

# What people, desktops and the hub put beside a model: no runtime looks for such a name.
_DOCUMENT = re.compile(
    r"(readme|licen[cs]e|notice|copying|changelog|results|citation)([._-].*)?|.*\.md|report\.html"
    r"|\.gitattributes|\.gitignore|\.git|\.cache|\.ds_store|\._.*|thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)
_MOST = 3  # keys that a note names


def files(folder: Path, known: Iterable[str], folders: Iterable[str] = ()) -> Row:
    """The row for what is in a folder: every file that nobody asked for counts, none may lack.

    Folders in it that are in `folders` have rows of their own.
    """
    known, found = {*known}, {p.name for p in folder.iterdir()} - {*folders}
    more = sorted(n for n in found - known if not _DOCUMENT.fullmatch(n))
    wrong = [f"{name} is unknown" for name in more]
    wrong += [f"{name} is missing" for name in sorted(known - found)]
    wrong += [f"{name} is no file" for name in sorted(known & found)
              if not (folder / name).is_file()]  # fmt: skip
    return Row("files", (len(found),), "names", 8, 0, BESIDE, integers=len(wrong),
               note=", ".join(wrong[:_MOST]))  # fmt: skip


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of these names and texts."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def differing(path: Path, wanted: str) -> list[str]:
    """The keys of a JSON file whose values are not exactly those of the text that we write."""
    content = json_file.content(path)
    if content == wanted.encode():  # most are, and to read a vocabulary takes long
        return []
    return differing_keys(json_file.parse(content, path), json.loads(wanted))


def settings(path: Path, wanted: str) -> Row:
    """The row of a JSON file, see `differing`."""
    return text_row(path, differing(path, wanted))


def tokenizer(path: Path, wanted: str) -> Row:
    """The row of a tokenizer.json: how the tokenizers library itself reads it has to be equal."""
    if not differing(path, wanted):
        return text_row(path, [])
    wrong = differing_keys(json.loads(load_tokenizer(path).to_str()), json.loads(wanted))
    row = text_row(path, wrong)
    row.note = row.note or "differs in form only: the tokenizers library reads the same"
    return row


def load_tokenizer(path: Path) -> Tokenizer:
    """What the tokenizers library makes of a file; raises `InputError`."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as e:  # it raises nothing more special
        why = first_line(e)
        raise InputError(f"{path}: not a tokenizer ({why})") from e


def differing_keys(found: object, expected: object) -> list[str]:
    """The keys of two tables whose values differ; of anything else, whether it does."""
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return [] if same(found, expected) else ["the content"]
    keys = sorted(found.keys() | expected.keys())
    return [k for k in keys if k not in found or k not in expected or not same(found[k],
            expected[k])]  # fmt: skip


def same(found: object, expected: object) -> bool:
    """Whether two JSON values are equal in type, too: to some readers 1, 1.0 and true differ."""
    if json.dumps(found) == json.dumps(expected):  # most are, and sorting is what takes long
        return True
    return found == expected and json.dumps(found, sort_keys=True) == json.dumps(
        expected, sort_keys=True
    )


def differs(names: list[str]) -> str:
    """A note that names the first of what differs; empty if nothing does."""
    verb = "differ" if len(names) > 1 else "differs"
    return f"{', '.join(map(str, names[:_MOST]))} {verb}" if names else ""


def text_row(path: Path, wrong: list[str]) -> Row:
    """The row of a file, of which some parts are wrong."""
    size = path.stat().st_size if path.is_file() else 0
    return Row(path.name, (), "text", 8, size, BESIDE, integers=len(wrong), note=differs(wrong))
