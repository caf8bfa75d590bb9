"""Is what a Hugging Face folder holds what training's forward pass used? Counted, bit by bit.

The weights are read with the safetensors package; nothing of `quant/` is used. Only
float32 can hold a grid's values, so a tensor on a grid in any other type is wrong. Settings and
tokenizer are compared with what `write` writes for the same model; a folder that writes
them in other words is accepted if transformers itself, asked for both, reads the same.
"""

import json
import re
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, WorkError, first_line
from espnet_dq.formats import companions, json_file
from espnet_dq.formats.hf import FILE, INDEX, HuggingFace
from espnet_dq.formats.hf import write as hf_write
from espnet_dq.formats.hf.names import openai_name, read_dims, read_json
from espnet_dq.formats.hf.quiet import quiet
from espnet_dq.formats.hf.read import as_stored
from espnet_dq.formats.report import (
    BESIDE,
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    as_numpy,
    cast,
    differing_bits,
    differing_values,
    float_kind,
    float_types,
    rounding_error,
)
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import numbers

# Of tokenizer.json, what transformers makes itself, but others that read the file take from it.
_FOR_OTHERS = ("normalizer", "pre_tokenizer", "decoder", "added_tokens")
_FILES = {*HuggingFace.folder.files} - {FILE}
# What transformers' own `save_pretrained` may write beside or instead of these, and reads again.
_THEIRS = {"processor_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
           "merges.txt"}  # fmt: skip
_PROCESSOR_KEYS = {"feature_extractor", "processor_class"}
# Where a folder was, what wrote it, and states that do not decide anything.
_NOT_MEANT = {"name_or_path", "_name_or_path", "transformers_version", "init_kwargs", "_tokenizer",
              "_should_update_post_processor", "files_loaded", "_vocab", "_merges",
              "_from_model_config", "_commit_hash", "_original_object_hash"}  # fmt: skip


def compare(folder: Path, reference: Reference) -> Report:
    """Compare each tensor of the folder's safetensors, in one file or several, and all beside it.

    On a grid: the float32 values have to equal the reference's. Other floats: the reference cast
    to the file's type, bit for bit. There are no scales to compare.

    Raises:
        InputError: no readable folder.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    found = read_dims(read_json(folder / "config.json"), folder / "config.json")
    if numbers(found) != numbers(reference.dims):
        raise WorkError(f"{folder}: holds {found}, expected {reference.dims}")
    file, parts, stored = as_stored(folder, (FILE, INDEX))  # no pickles
    tensors = {_ours(name): as_numpy(values) for name, values in stored.items()}
    if odd := sorted(tensors.keys() ^ reference.weights.keys()):
        raise WorkError(f"{file}: {odd[0]} is {'unknown' if odd[0] in tensors else 'missing'}")
    rows = []
    for name, weight in reference.weights.items():
        values, expected = tensors[name], weight.detach().cpu().float().numpy()
        grid, error = reference.grids.get(name, values.dtype.name), None
        if values.shape != expected.shape or values.dtype.name not in ("float16", "float32"):
            wrong = expected.size
        elif name not in reference.grids:
            wrong = differing_bits(values, cast(expected, values.dtype))
        elif values.dtype.name == "float16":
            wrong = expected.size
        else:
            wrong = differing_values(values, expected)
            error = rounding_error({name: values}, reference.floats)
        kind = ON_GRID if name in reference.grids else float_kind(name)
        bits, size = 8 * values.itemsize, values.nbytes
        rows.append(Row(name, values.shape, grid, bits, size, kind, error, wrong))
    types = {name: values.dtype.name for name, values in tensors.items()}
    dtype = types["decoder.ln.weight"]
    known = {file.name, *(part.name for part in parts)}
    return Report([*rows, float_types(types), *_beside(folder, reference, dtype, known)])


def _ours(name: str) -> str:
    return openai_name(name) if name.startswith(("model.encoder.", "model.decoder.")) else name


def _beside(folder: Path, reference: Reference, dtype: str, weights: set[str]) -> list[Row]:
    """Rows of the vocabulary and of all files but those of the weights."""
    expected = hf_write.beside(reference, dtype)
    rows = [_vocabulary(folder / "tokenizer.json", reference.dims)]
    rows.append(companions.files(folder, weights | _expected_files(folder)))
    rows += _processor(folder)
    odd = any(row.integers for row in rows)
    raw = {name: _differing(folder / name, text) for name, text in expected.items()}
    theirs = {p.name for p in folder.iterdir()} & _THEIRS
    resolved = {}
    if odd:  # by which transformers might load something else
        resolved = {name: [*keys] for name, keys in raw.items()}
    elif any(raw.values()) or theirs:
        with tempfile.TemporaryDirectory() as scratch:
            companions.write(Path(scratch), expected)
            resolved = _resolved(folder, Path(scratch))
    if isinstance(resolved, str):  # transformers is not there to be asked
        resolved = {name: keys for name, keys in raw.items() if keys}
    for name, keys in raw.items():
        differing = resolved.get(name, [])
        if name == "tokenizer.json":
            differing += [key for key in keys if key in _FOR_OTHERS and key not in differing]
        row = Row(name, (), "text", 8, _size(folder / name), BESIDE, integers=len(differing))
        row.note = companions.differs(differing)
        if keys and not differing:
            row.note = f"{', '.join(keys[:3])}: differs in form only, transformers reads the same"
        rows.append(row)
    return rows


def _expected_files(folder: Path) -> set[str]:
    """Ours, and of transformers' own those that are there: `_resolved` says what they change."""
    found = {p.name for p in folder.iterdir()}
    known = _FILES | (found & _THEIRS)
    if "processor_config.json" in found:
        known -= {"preprocessor_config.json"} - found
    return known


def _processor(folder: Path) -> list[Row]:
    """The row of a processor_config.json, if there is one: keys that a Whisper's does not have.

    By others transformers loads more: an audio tokenizer from wherever they say, code of others.
    """
    path = folder / "processor_config.json"
    if not path.is_file():
        return []
    return [companions.text_row(path, sorted(read_json(path).keys() - _PROCESSOR_KEYS))]


def _differing(path: Path, wanted: str) -> list[str]:
    if not path.is_file() and path.name == "preprocessor_config.json":
        return ["the file"]
    return companions.differing(path, wanted)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _resolved(folder: Path, written: Path) -> dict[str, list[str]] | str:
    """File -> keys that transformers reads differently in two folders; a text if it is missing."""
    if find_spec("transformers") is None:
        return "transformers is not installed"
    try:
        with quiet():
            found = _as_read(folder)
            expected = _as_written(
                tuple((p.name, p.read_bytes()) for p in sorted(written.iterdir()))
            )
    except Exception as e:  # what odd values make it, tokenizers and others stumble on
        why = first_line(e)
        raise WorkError(f"{folder}: transformers cannot read it: {why}") from e
    return {name: companions.differing_keys(found[name], content)
            for name, content in expected.items()}  # fmt: skip


@lru_cache(maxsize=1)  # a second, and the same for all folders of one model
def _as_written(files: tuple[tuple[str, bytes], ...]) -> dict[str, dict]:
    """What transformers makes of files that we write: pairs of their names and contents."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files:
            (Path(scratch) / name).write_bytes(content)
        return _as_read(Path(scratch))


def _as_read(folder: Path) -> dict[str, dict]:
    """What transformers makes of a folder's files, as plain values.

    Its Auto classes are asked, as its pipeline asks them: some keys only choose the class. And of
    settings all that objects hold: what they would save leaves out how attention is computed.
    """
    import transformers

    local = {"local_files_only": True}
    config = transformers.AutoConfig.from_pretrained(folder, **local, trust_remote_code=False)
    generation = transformers.GenerationConfig.from_pretrained(folder, **local)
    processor = transformers.AutoProcessor.from_pretrained(folder, **local, trust_remote_code=False)
    tokenizer = processor.tokenizer
    content = {
        "config.json": vars(config) | {"class": type(config)},
        "generation_config.json": vars(generation),
        # Not with its filters and window, which it computes from the rest.
        "preprocessor_config.json": processor.feature_extractor.to_dict()
        | {"class": type(processor)},
        # Of what it was made from, which other folders say otherwise, code of others alone.
        "tokenizer_config.json": vars(tokenizer)
        | {"class": type(tokenizer), "auto_map": tokenizer.init_kwargs.get("auto_map")},
    }
    plain = {name: {k: _plain(v) for k, v in table.items() if k not in _NOT_MEANT}
             for name, table in content.items()}  # fmt: skip
    return plain | {"tokenizer.json": json.loads(tokenizer.backend_tokenizer.to_str())}


def _plain(value: object) -> object:
    """A value of plain types; of an object, how it prints itself, without its address."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str | int | float | None):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _vocabulary(path: Path, dims: ModelDimensions) -> Row:
    """Tokens whose id is not openai-whisper's."""
    content = json_file.read(path)
    encoding = any_tokenizer(dims).encoding
    try:
        found = {token["content"]: token["id"] for token in content["added_tokens"]}
        words = content["model"]["vocab"]
        found |= {token.translate(_BYTES).encode("latin-1"): words[token] for token in words}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError(f"{path}: not a byte-pair tokenizer ({type(e).__name__})") from e
    expected = {**encoding._special_tokens, **encoding._mergeable_ranks}
    wrong = sum(found.get(token) != number for token, number in expected.items())
    wrong += len(found.keys() - expected)
    size = path.stat().st_size
    return Row("vocabulary", (len(found),), "bytes", 8, size, OTHER, integers=wrong)


_ODD = [*range(0x21), 0x7F, *range(0x80, 0xA1), 0xAD]  # bytes that print as nothing
# The characters that stand for them in byte-level BPE (GPT-2's table); others are their own bytes.
_BYTES = {0x100 + i: byte for i, byte in enumerate(_ODD)}
