"""The tokens of a Hugging Face folder, and what it says of decoding."""

from collections.abc import Callable
from functools import lru_cache
from os.path import lexists
from pathlib import Path
from typing import NamedTuple

from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, named
from espnet_dq.formats import json_file
from espnet_dq.formats.hf.names import read_dims, read_json
from espnet_dq.whisper.generation import Generation, check_told, of_huggingface, of_old_config
from espnet_dq.whisper.vocabulary import added_tokens, arrange
from espnet_dq.whisper.weights import is_token

GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
_OLD = "vocab.json"  # of a tokenizer in several files


def read_vocabulary(dims: ModelDimensions, folder: Path) -> tuple[ModelDimensions, list[int]]:
    """`dims` with the tokens that the folder's tokenizer has, and their rows, as `arrange`.

    Without a tokenizer its size says which vocabulary it is. Raises `InputError`, also where an
    added token makes that the size of another.
    """
    if lexists(folder / TOKENIZER):
        path, read = folder / TOKENIZER, _tokenizer_json
    elif lexists(folder / _OLD):
        path, read = folder / _OLD, _old_files
    else:
        if lexists(folder / GENERATION):  # which transformers writes of a model without a tokenizer
            check_told(read_json(folder / GENERATION), dims, folder / GENERATION)
        return dims, [*range(dims.n_vocab)]
    table = _read(read, path)
    found, order = arrange(dims, table.tokens, table.special, str(path))
    # Text is cut into added tokens by their strings, into others by pairs that nobody has here.
    if odd := [token for token in added_tokens(found) if token not in table.added]:
        raise InputError(f"{path}: {odd[0]!r} is no token of Whisper's, nor one that was added")
    return found, order


def in_order(folder: Path) -> bool:
    """Whether it is such a folder, and the rows of its embedding stand as its reader gives them."""
    path = folder / "config.json"
    if not lexists(path):
        return False
    sizes = read_dims(read_json(path), path)
    return read_vocabulary(sizes, folder)[1] == [*range(sizes.n_vocab)]


def special_tokens(path: Path) -> frozenset[str]:
    """The added tokens of a tokenizer.json that are no text; raises `InputError`."""
    return _read(_tokenizer_json, path).special


class _Table(NamedTuple):
    """What a tokenizer says; nobody changes it, as others are given the same one."""

    tokens: dict[int, str]
    added: frozenset[str]  # those that stand beside the byte pairs
    special: frozenset[str]  # and those of them that are no text


def _read(reader: Callable[[Path], _Table], path: Path) -> _Table:
    try:
        return reader(path)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise InputError(f"{path}: not a byte-pair tokenizer ({type(e).__name__})") from e


def _tokenizer_json(path: Path) -> _Table:
    content = json_file.content(path)
    with named(path):
        return _whole_file(content)


@lru_cache(maxsize=4)  # a quarter of a second, and who verifies a model reads it several times
def _whole_file(content: bytes) -> _Table:
    """Of a tokenizer.json; raises `InputError`, which does not name it."""
    found = json_file.loads(content)
    added = found["added_tokens"]
    special = [token["content"] for token in added if token.get("special")]
    return _table(
        {**found["model"]["vocab"]}, {token["content"]: token["id"] for token in added}, special
    )


def _old_files(path: Path) -> _Table:
    """Of vocab.json and, if they are there, the files beside it."""
    added, special = {}, []
    if lexists(path.with_name("added_tokens.json")):
        added |= read_json(path.with_name("added_tokens.json"))
    if lexists(path.with_name("tokenizer_config.json")):
        table = read_json(path.with_name("tokenizer_config.json")).get("added_tokens_decoder", {})
        added |= {token["content"]: int(i) for i, token in table.items()}
        special = [token["content"] for token in table.values() if token.get("special")]
    vocabulary = read_json(path)
    with named(path):
        return _table(vocabulary, added, special)


def _table(vocabulary: dict, added: dict, special: list) -> _Table:
    """From token -> id; raises `InputError`, which names no file."""
    ids = vocabulary | added
    if not all(map(is_token, ids)) or any(type(i) is not int for i in ids.values()):
        raise InputError("not a byte-pair tokenizer (no table of tokens and ids)")
    tokens = {i: token for token, i in ids.items()}
    if len(tokens) < len(ids):
        twice = next(i for token, i in ids.items() if tokens[i] != token)
        raise InputError(f"two of its tokens have the id {twice}")
    if odd := [t for t, i in added.items() if vocabulary.get(t, i) != i]:
        raise InputError(f"{odd[0]!r} has two ids")
    return _Table(tokens, frozenset(added), frozenset(special))


def read_generation(
    config: dict, folder: Path, dims: ModelDimensions, order: list[int], rows: int
) -> Generation | None:
    """The folder's own settings; None if there are none, or OpenAI's. Raises `InputError`.

    `order` is as `read_vocabulary` gives it, `rows` the file's number of them.
    """
    path = folder / GENERATION
    if lexists(path):
        return of_huggingface(read_json(path), dims, order, rows, path)
    return of_old_config(config, dims, order, rows, folder / "config.json")
