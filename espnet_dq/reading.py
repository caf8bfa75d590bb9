"""Files of others and our own, read with care: bytes up to a limit, JSON, YAML."""

import copy
import functools
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml

from espnet_dq.errors import InputError, first_line

DEEPEST = 50  # lists and mappings in each other, in YAML
LARGEST_YAML = 4 << 20  # bytes; a configuration with every token has less than one million
LARGEST_TEXT = 1 << 30  # bytes of a table of ours, or of a list of words
_DIGITS = 40  # of a whole number in JSON; transformers writes some of 31
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
    loader = yaml.CSafeLoader  # the fast one: ESPnet's configurations hold every token
    try:
        text = content.decode("utf-8")
        _check_yaml(yaml.parse(text, loader), path)
        return yaml.load(text, loader)
    except InputError:
        raise
    except Exception as e:  # PyYAML raises whatever a tagged or an odd value makes it stumble on
        why = first_line(e)
        raise InputError(f"{path}: not YAML ({why})") from e


def _check_yaml(events: Iterator[yaml.Event], path: Path) -> None:
    """Raise `InputError` for YAML that would become more, or something else, than is seen of it.

    Events build nothing: too deep a nesting crashes the interpreter when it is built, an alias
    multiplies what it names, and of a key that stands twice the last one would be taken.
    """
    open_ = []  # of each mapping and list around: the keys so far, or None
    values = []  # of each: values so far, of which every other one in a mapping is a key
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
            values.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}:{line}: an alias (*{event.anchor[:40]}), which is not read")
        if open_:
            keys, is_key = open_[-1], values[-1] % 2 == 0
            values[-1] += 1
            if keys is not None and is_key and isinstance(event, yaml.ScalarEvent):
                key = event.tag, event.implicit, event.value
                if key in keys:
                    raise InputError(f"{path}:{line}: {event.value[:40]} is there twice")
                if event.value == "<<" and event.implicit[0]:
                    raise InputError(f"{path}:{line}: a merge key (<<), which is not read")
                keys.add(key)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            values.append(0)
        elif len(event.value) > _LONGEST:
            raise InputError(f"{path}:{line}: a value of more than {_LONGEST} characters")
        if len(open_) > DEEPEST:
            raise InputError(f"{path}: YAML that is nested more than {DEEPEST} deep")
