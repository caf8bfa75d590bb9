"""Files of others and our own, read with care: bytes up to a limit, JSON, YAML."""

import copy
import functools
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml

from espnet_dq.errors import InputError, first_line, shown

DEEPEST = 50  # lists and mappings in each other, in YAML
LARGEST_YAML = 4 << 20  # bytes; a configuration with every token has less than one million
LARGEST_TEXT = 1 << 30  # bytes of a table of ours, or of a list of words
_DIGITS = 40  # of a whole number in JSON; transformers writes some of 31
_MOST = 200_000  # values in it, keys among them, which take a second or two
_LONGEST = 10_000  # characters of a value in YAML: of longer numbers reading alone takes hours


def file_size(path: Path | str) -> int:
    """Bytes of a regular file that can be read; to be asked before anything opens a path of others.

    Opening a pipe would wait for its other end, reading a device might never end.

    Raises:
        InputError: nothing is there, it is something else than a file, or it may not be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise InputError(f"{path}: {what}")
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise InputError(f"{path}: no such file") from e
    except (OSError, ValueError) as e:  # a loop of links, no rights, a name that cannot be
        raise InputError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e})") from e
    return status.st_size


def check_native(path: Path | str) -> None:
    """Raise `InputError` for a path that the libraries of runtimes cannot open: not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as e:
        raise InputError(f"{path}: no runtime opens a path that is not UTF-8: rename it") from e


def read_limited(path: Path | str, most: int) -> bytes:
    """What a regular file holds, if that is `most` bytes or less.

    Raises:
        InputError: as `file_size`, or the file is larger.
    """
    size = file_size(path)
    if size > most:
        raise InputError(f"{path}: larger than {most} bytes, which nothing of its kind is")
    with open(path, "rb") as f:
        return f.read(size)


def read_text(path: Path | str) -> str:
    """What a text file says; raises `InputError` as `read_limited`, or it is not UTF-8."""
    try:
        return read_limited(path, LARGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not UTF-8") from e


def loads(text: str, **hooks) -> object:
    """As `json.loads`; raises `ValueError`, too, where a number or the nesting has no bound."""
    try:
        return json.loads(text, parse_int=_whole, **hooks)
    except RecursionError as e:
        raise ValueError("nested too deep") from e


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:  # Python cannot print all, nor make a float of it
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def read_value(path: Path) -> object:
    """What a JSON file of ours says.

    Raises:
        InputError: as `read_text`, or it is not JSON; names file and line.
    """
    try:
        return loads(read_text(path))
    except json.JSONDecodeError as e:
        raise InputError(f"{path}:{e.lineno}: not JSON: {e.msg}") from e
    except ValueError as e:
        raise InputError(f"{path}: not JSON ({e})") from e


def read_json(path: Path) -> dict:
    """A JSON object from a file of ours; raises `InputError` as `read_value`, or it is none."""
    value = read_value(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def read_yaml(path: Path) -> object:
    """What a YAML file says, in numbers, words, lists and mappings: it can name no code.

    Raises:
        InputError: There is no such file, it is no YAML, or it has what could mean more than it
            says: an alias, a key that stands twice in a mapping.
    """
    return copy.deepcopy(_parsed(read_limited(path, LARGEST_YAML), path))


@functools.lru_cache(8)  # a command reads a training's configuration several times
def _parsed(content: bytes, path: Path) -> object:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not YAML ({first_line(e)})") from e
    try:
        return parse_yaml(text)
    except InputError as e:
        raise InputError(f"{path}:{e}") from e


def parse_yaml(text: str) -> object:
    """As `read_yaml`, of a text; what it raises begins with the line and a colon, or a space."""
    try:
        _check_yaml(yaml.parse(text, _Loader))
        return yaml.load(text, _Loader)
    except InputError:
        raise
    except Exception as e:  # PyYAML raises whatever a tagged or an odd value makes it stumble on
        raise InputError(f" not YAML ({first_line(e)})") from e


def _check_yaml(events: Iterator[yaml.Event]) -> None:
    """Raise `InputError` for YAML that would become more than is seen of it.

    Events build nothing: too deep a nesting crashes the interpreter when it is built, and an alias
    multiplies what it names.
    """
    depth = count = 0
    for event in events:
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if not isinstance(event, yaml.NodeEvent):
            continue
        line, count = event.start_mark.line + 1, count + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{line}: an alias (*{event.anchor[:40]}), which is not read")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif len(event.value) > _LONGEST:
            raise InputError(f"{line}: a value of more than {_LONGEST} characters")
        if depth > DEEPEST:
            raise InputError(f"{line}: YAML that is nested more than {DEEPEST} deep")
        if count > _MOST:
            raise InputError(f"{line}: YAML of more than {_MOST} values")


class _Loader(yaml.CSafeLoader):  # the fast one: ESPnet's configurations hold every token
    """Reads a key once in a mapping, however it is written, and numbers that others can take."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise InputError(f"{_line(key)}: a merge key (<<), which is not read")
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            left = {*found}
            for key, _ in node.value:
                value = self.construct_object(key, deep=True)
                if value not in left:
                    raise InputError(f"{_line(key)}: {shown(value)} is there twice")
                left.remove(value)
        return found

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if value.bit_length() > 64:
            raise InputError(f"{_line(node)}: a number of more than 64 bits")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
