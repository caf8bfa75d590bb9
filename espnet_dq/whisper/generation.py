"""What decoding takes from a model's folder: suppressed tokens, languages, alignment heads.

openai-whisper computes them from its tokenizer (`openais`). A fine-tune may say others, in
generation_config.json of a Hugging Face folder or config.json of a CTranslate2 one; then those go
with its weights. A `.pt`, ggml or ONNX file has no place for them.
"""

import base64
import gzip
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import whisper
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, say
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import (
    WHOLE,
    numbers,
    token_strings,
    whole_size,
)

# (decoder layers, decoder heads, whole vocabulary) -> the model whose alignment heads are known.
# The large models of one shape differ in theirs, so they take the default. A student that was cut
# to one of these shapes takes that model's, which only word timestamps read.
_NAMES = {
    (4, 6, 51865): "tiny",
    (4, 6, 51864): "tiny.en",
    (6, 8, 51865): "base",
    (6, 8, 51864): "base.en",
    (12, 12, 51865): "small",
    (12, 12, 51864): "small.en",
    (24, 16, 51865): "medium",
    (24, 16, 51864): "medium.en",
    (32, 20, 51866): "large-v3",
    (4, 20, 51866): "large-v3-turbo",
}
# Keys of generation_config.json that hold ids, beside those of `Generation`.
_MORE_IDS = ("bad_words_ids", "force_words_ids", "forced_bos_token_id", "forced_eos_token_id",
             "sequence_bias")  # fmt: skip
_LISTS = ("suppress_tokens", "begin_suppress_tokens", "alignment_heads")
# Keys of `by_vocabulary` that no search reads, or that a fine-tune may say otherwise.
_UNREAD = ("bos_token_id", "pad_token_id", "is_multilingual")
# Of config.json, where older folders of Hugging Face have what they say of decoding.
_OLD_KEYS = ("suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids", "max_length")


@dataclass(frozen=True)
class Generation:
    """Settings of decoding; tokens are our ids.

    Attributes:
        suppress_tokens: never said.
        begin_suppress_tokens: never said first.
        languages: the language tokens among which one is detected.
        alignment_heads: (layer, head) of the cross-attention heads that follow time.
        others: what else Hugging Face's generation_config.json says, but for what the vocabulary
            decides.
    """

    suppress_tokens: tuple[int, ...]
    begin_suppress_tokens: tuple[int, ...]
    languages: tuple[int, ...]
    alignment_heads: tuple[tuple[int, int], ...]
    others: Mapping[str, object] = field(default_factory=dict)


def openais(dims: ModelDimensions) -> Generation:
    """The lists that openai-whisper's own decoding makes from its tokenizer."""
    tokenizer = any_tokenizer(dims)
    suppressed = {
        *tokenizer.non_speech_tokens,
        tokenizer.sot,
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot_lm,
        tokenizer.sot_prev,
        tokenizer.no_speech,
    }
    return Generation(
        suppress_tokens=tuple(sorted(suppressed)),
        begin_suppress_tokens=tuple(sorted([*tokenizer.encode(" "), tokenizer.eot])),
        languages=tuple(sorted(tokenizer.all_language_tokens)),
        alignment_heads=tuple(_alignment_heads(dims)),
        others={"max_length": dims.n_text_ctx, "max_initial_timestamp_index": 50},  # 1 s
    )


def _alignment_heads(dims: ModelDimensions) -> list[tuple[int, int]]:
    """openai-whisper's table for its own models, or its default: all of the upper half."""
    layers, heads = dims.n_text_layer, dims.n_text_head
    name = _NAMES.get((layers, heads, whole_size(dims)))
    if name is None:
        return [*itertools.product(range(layers // 2, layers), range(heads))]
    mask = gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name]))
    table = np.frombuffer(mask, dtype=bool).reshape(layers, heads)
    return [(int(layer), int(head)) for layer, head in np.argwhere(table)]


def by_vocabulary(dims: ModelDimensions) -> dict[str, object]:
    """The keys of generation_config.json that the vocabulary decides."""
    tokenizer = any_tokenizer(dims)
    content = {
        "decoder_start_token_id": tokenizer.sot,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eot),
        "no_timestamps_token_id": tokenizer.no_timestamps,
        "prev_sot_token_id": tokenizer.sot_prev,
        "is_multilingual": tokenizer.language is not None,
    }
    if tokenizer.language is not None:
        content["task_to_id"] = {
            "transcribe": tokenizer.transcribe,
            "translate": tokenizer.translate,
        }
    return content


def generation_config(dims: ModelDimensions, generation: Generation | None) -> dict:
    """Hugging Face's generation_config.json, of the model's own settings or of OpenAI's."""
    found = generation or openais(dims)
    content = {
        **by_vocabulary(dims),
        "suppress_tokens": [*found.suppress_tokens],
        "begin_suppress_tokens": [*found.begin_suppress_tokens],
        "alignment_heads": [[*pair] for pair in found.alignment_heads],
        "return_timestamps": False,
        **found.others,
    }
    if content["is_multilingual"]:
        names = token_strings(any_tokenizer(dims).encoding)
        content["lang_to_id"] = {names[i]: i for i in found.languages}
    return content


def told_languages(dims: ModelDimensions, generation: Generation | None) -> list[str]:
    """The languages that a model can be told, by its settings; none if it is never told one."""
    return [
        token.strip("<|>") for token in generation_config(dims, generation).get("lang_to_id", ())
    ]


def of_huggingface(
    content: Mapping[str, object], dims: ModelDimensions, order: Sequence[int], rows: int, source
) -> Generation | None:
    """What a generation_config.json says; None if it is what OpenAI's models do.

    A list that it does not have is empty, as transformers reads it. What else it lacks is OpenAI's.

    Args:
        content: of the file.
        dims: the model's, with its vocabulary.
        order: row in the file of each token, see `vocabulary.arrange`.
        rows: how many the file has.
        source: the file to name.

    Raises:
        InputError: a value is none of its key, or says that the vocabulary is another.
    """
    ids, usual = _Ids(order, rows, source), openais(dims)
    others = {
        key: value
        for key, value in content.items()
        if value is not None and not key.startswith("_") and key != "transformers_version"
    }
    suppress, begin = (
        ids.each(key, others.pop(key, [])) for key in ("suppress_tokens", "begin_suppress_tokens")
    )
    heads = _heads(others.pop("alignment_heads", None), dims, source)
    languages = _languages(others.pop("lang_to_id", None), dims, ids)
    for key, expected in by_vocabulary(dims).items():
        found = others.pop(key, None)
        if key == "is_multilingual" and expected and found is False:
            others[key] = False  # a fine-tune that is never told a language
        elif key in _UNREAD or found is None:
            continue
        elif not _agree(ids.plain(found), expected):
            raise InputError(f"{source}: {key} is not that of this vocabulary")
    others.pop("task_to_id", None)
    if (forced := others.get("forced_decoder_ids")) is not None:
        others["forced_decoder_ids"] = ids.forced(forced)
    if odd := [key for key in _MORE_IDS if key in others and not ids.unchanged]:
        raise InputError(f"{source}: {odd[0]} cannot be kept where tokens get other ids")
    try:
        json.dumps(others)
    except RecursionError as e:
        raise InputError(f"{source}: tables in tables without end") from e
    if others.get("return_timestamps") is False:
        del others["return_timestamps"]
    others = {"max_length": dims.n_text_ctx} | others
    found = Generation(suppress, begin, languages or usual.languages,
                       heads or usual.alignment_heads, others)  # fmt: skip
    return None if found == usual else found


def check_told(content: Mapping[str, object], dims: ModelDimensions, source: object) -> None:
    """Raise `InputError` where a vocabulary may as well be the next smaller one and a token more.

    Of a model without its tokens, which are known by their number: its generation_config.json has
    to tell the two apart. Whether what it says is true is seen by `of_huggingface`.
    """
    if dims.n_vocab not in WHOLE[1:]:
        return
    fewer = dims.n_vocab - 1
    smaller = by_vocabulary(ModelDimensions(**numbers(dims) | {"n_vocab": fewer}))
    own = by_vocabulary(dims).items()
    telling = [key for key, value in own if key not in _UNREAD and value != smaller.get(key)]
    if not any(content.get(key) for key in telling):
        raise InputError(
            f"{source}: {dims.n_vocab} tokens are a Whisper's, or {fewer} and an added one: "
            "no_timestamps_token_id has to say which"
        )


def of_old_config(
    config: Mapping[str, object], dims: ModelDimensions, order: Sequence[int], rows: int, source
) -> Generation | None:
    """As `of_huggingface`, of a config.json beside which there is no generation_config.json."""
    said = {key: config[key] for key in _OLD_KEYS if config.get(key) is not None}
    if not said.keys() & {"suppress_tokens", "begin_suppress_tokens"}:
        return None
    return of_huggingface(openais(dims).others | said, dims, order, rows, source)


def of_ctranslate2(
    content: object, dims: ModelDimensions, order: Sequence[int], rows: int, source
) -> Generation | None:
    """As `of_huggingface`, of a CTranslate2 folder's config.json."""
    if not isinstance(content, dict):
        raise InputError(f"{source}: not a table of keys and values")
    ids, usual = _Ids(order, rows, source), openais(dims)
    suppress, begin, languages = (
        ids.each(key, content.get(key) or [])
        for key in ("suppress_ids", "suppress_ids_begin", "lang_ids")
    )
    heads = _heads(content.get("alignment_heads"), dims, source)
    found = Generation(suppress, begin, languages or usual.languages,
                       heads or usual.alignment_heads, usual.others)  # fmt: skip
    return None if found == usual else found


def to_table(generation: Generation) -> dict[str, object]:
    """For JSON, under the names of the attributes."""
    return {
        "suppress_tokens": [*generation.suppress_tokens],
        "begin_suppress_tokens": [*generation.begin_suppress_tokens],
        "languages": [*generation.languages],
        "alignment_heads": [[*pair] for pair in generation.alignment_heads],
        "others": dict(generation.others),
    }


def of_table(table: object, dims: ModelDimensions, source) -> Generation:
    """The inverse of `to_table`; raises `InputError`."""
    keys = {"suppress_tokens", "begin_suppress_tokens", "languages", "alignment_heads", "others"}
    if not isinstance(table, dict) or table.keys() != keys:
        raise InputError(f"{source} needs exactly the keys {', '.join(sorted(keys))}")
    ids = _Ids(range(dims.n_vocab), dims.n_vocab, source)
    lists = [ids.each(key, table[key])
             for key in ("suppress_tokens", "begin_suppress_tokens", "languages")]  # fmt: skip
    heads = _heads(table["alignment_heads"], dims, source)
    if len(heads) < len(table["alignment_heads"] or ()):  # nobody else's file
        raise InputError(f"{source}: alignment_heads: the model does not have them all")
    others = table["others"]
    if not isinstance(others, dict):
        raise InputError(f"{source}: others is not a table")
    # By the same rules as those that wrote it: what has a place of its own is not among the others.
    odd = {*by_vocabulary(dims), "task_to_id", "lang_to_id", *_LISTS} & others.keys()
    if odd - {"is_multilingual"} or others.get("is_multilingual", False) is not False:
        raise InputError(f"{source}: {sorted(odd)[0]} is not one of the others")
    if (forced := others.get("forced_decoder_ids")) is not None:
        ids.forced(forced)
    return Generation(*lists, heads, others)


class _Ids:
    """A file's token ids as ours."""

    def __init__(self, order: Sequence[int], rows: int, source: object) -> None:
        self.places = {row: place for place, row in enumerate(order)}
        self.unchanged = all(row == place for row, place in self.places.items())
        self.rows, self.source = rows, source

    def each(self, key: str, value: object) -> tuple[int, ...]:
        """A list of ids; those of rows that have no token are nothing to suppress."""
        if not isinstance(value, list) or not all(map(self._is_id, value)):
            raise InputError(f"{self.source}: {key} is not a list of ids below {self.rows}")
        return tuple(self.places[i] for i in value if i in self.places)

    def plain(self, value: object) -> object:
        """An id, a list of one, or a table of ids, as ours; None for what is none."""
        if isinstance(value, dict):
            return {key: self._one(each) for key, each in value.items()}
        return self._one(value[0] if isinstance(value, list) and len(value) == 1 else value)

    def forced(self, pairs: object) -> list[list[int | None]]:
        """Hugging Face's pairs of a position and the token, or none, that stands there."""
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int
            and (pair[1] is None or (self._is_id(pair[1]) and pair[1] in self.places))
            for pair in pairs
        ):  # fmt: skip
            raise InputError(f"{self.source}: forced_decoder_ids is not pairs of position and id")
        return [[at, None if i is None else self.places[i]] for at, i in pairs]

    def _one(self, value: object) -> int | None:
        return self.places.get(value) if self._is_id(value) else None

    def _is_id(self, value: object) -> bool:
        return type(value) is int and 0 <= value < self.rows


def _agree(found: object, expected: object) -> bool:
    """Whether ids are those expected, of a table all that it has."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.items() <= expected.items()
    return found == expected


def _languages(table: object, dims: ModelDimensions, ids: _Ids) -> tuple[int, ...]:
    """The ids in lang_to_id, each of which has to be that of its token."""
    if table is None:
        return ()
    names, found = token_strings(any_tokenizer(dims).encoding), ids.plain(table)
    if not isinstance(table, dict) or not table:
        raise InputError(f"{ids.source}: lang_to_id is no table of tokens and ids")
    for token, i in found.items():
        if type(i) is not int or names[i] != token:
            raise InputError(f"{ids.source}: lang_to_id has another id of {token[:80]!r}")
    return tuple(sorted(found.values()))


def _heads(value: object, dims: ModelDimensions, source: object) -> tuple[tuple[int, int], ...]:
    """`alignment_heads`: layers and heads, without those that the model does not have.

    Models of fewer layers are published with their teacher's. Word timestamps are all that reads
    them, and where a layer is missing CTranslate2 ends in a segmentation fault.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and n >= 0 for n in pair)
        for pair in value
    ):
        raise InputError(f"{source}: alignment_heads is not pairs of a layer and a head")
    own = [(x, y) for x, y in value if x < dims.n_text_layer and y < dims.n_text_head]
    if lost := len(value) - len(own):
        say(
            f"{source}: alignment_heads: left out are {lost} of {len(value)}, of layers or heads "
            "that the model does not have",
            sys.stderr,
        )
    return tuple(own)
