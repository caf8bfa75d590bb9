"""Vocabularies: openai-whisper's whole ones, and those that keep a part of one.

A trimmed model has fewer rows in its tied embedding. Which tokens of the whole vocabulary they
are travels with its dimensions (`TrimmedDimensions`), and its tokenizer is openai-whisper's own
with the byte-pair ranks of the kept tokens, in their order. Every pair that is merged on the way
to a kept token is kept, so a text of kept tokens is cut as the whole vocabulary cuts it; any
other text is spelled with smaller tokens, at worst with bytes.

A whole vocabulary is known by its size, a trimmed one never has such a size.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import tiktoken
from whisper.model import ModelDimensions
from whisper.tokenizer import Tokenizer, get_tokenizer

from espnet_dq.errors import InputError

WHOLE = (51864, 51865, 51866)  # English only, 99 languages, 100 languages


@dataclass(repr=False)
class TrimmedDimensions(ModelDimensions):
    """openai-whisper's dimensions, and the ids in the whole vocabulary of the tokens kept.

    `kept` is in order and ends with all special tokens, so its last id tells which vocabulary it
    is of. Raises `InputError` for a `kept` that no tokenizer can be made of.
    """

    kept: tuple[int, ...]

    def __post_init__(self):
        kept = self.kept
        if len(kept) != self.n_vocab:
            raise InputError(f"{len(kept)} kept tokens, but n_vocab is {self.n_vocab}")
        if kept[0] < 0 or any(a >= b for a, b in pairwise(kept)):
            raise InputError("the kept tokens are not ids in rising order")
        if kept[-1] + 1 not in WHOLE[1:]:
            raise InputError("the kept tokens do not end as a multilingual Whisper's do")
        if len(kept) >= WHOLE[0]:
            raise InputError(f"{len(kept)} kept tokens: not fewer than a whole vocabulary has")
        whole = whole_tokenizer(kept[-1] + 1)
        ordinary = {i for i in kept if i < whole.eot}
        if len(kept) - len(ordinary) != whole.encoding.n_vocab - whole.eot:
            raise InputError("the kept tokens lack a special token")
        if missing := closure(whole, ordinary) - ordinary:
            token = whole.encoding.decode_single_token_bytes(min(missing))
            raise InputError(f"the kept tokens lack {min(missing)} ({token!r}), which others need")

    def __repr__(self) -> str:
        crc = zlib.crc32(repr(self.kept).encode())
        return f"{ModelDimensions(**numbers(self))} with tokens {crc:08x}"


def trim(dims: ModelDimensions, kept: Sequence[int], source: str) -> TrimmedDimensions:
    """`dims`, whose `n_vocab` is already the smaller one, with their vocabulary.

    Raises `InputError`, naming `source`, as `TrimmedDimensions`.
    """
    try:
        return TrimmedDimensions(**numbers(dims), kept=tuple(kept))
    except InputError as e:
        raise InputError(f"{source}: {e}") from e


def numbers(dims: ModelDimensions) -> dict[str, int]:
    """openai-whisper's ten dimensions by name, without the vocabulary of a trimmed model."""
    return {field.name: getattr(dims, field.name) for field in fields(ModelDimensions)}


def whole_size(dims: ModelDimensions) -> int:
    """Size of the whole vocabulary that a model's is, or is a part of."""
    return dims.kept[-1] + 1 if isinstance(dims, TrimmedDimensions) else dims.n_vocab


@cache
def whole_tokenizer(size: int) -> Tokenizer:
    """openai-whisper's tokenizer for one of `WHOLE`; raises `InputError` for another size."""
    if size not in WHOLE:
        raise InputError(f"no Whisper tokenizer has {size} tokens, and nothing says which they are")
    if size == WHOLE[0]:
        return get_tokenizer(multilingual=False)
    return get_tokenizer(multilingual=True, num_languages=size - 51766)


@cache
def trimmed_tokenizer(kept: tuple[int, ...]) -> Tokenizer:
    """The tokenizer of `TrimmedDimensions.kept`; ids are places in it."""
    whole = whole_tokenizer(kept[-1] + 1)
    places = {i: place for place, i in enumerate(kept)}
    encoding = whole.encoding
    return Tokenizer(
        encoding=tiktoken.Encoding(
            name=f"{encoding.name} of {len(kept)} tokens",
            pat_str=encoding._pat_str,
            mergeable_ranks={
                token: places[i] for token, i in encoding._mergeable_ranks.items() if i in places
            },
            special_tokens={token: places[i] for token, i in encoding._special_tokens.items()},
            explicit_n_vocab=len(kept),
        ),
        num_languages=whole.num_languages,
        language=whole.language,
        task=whole.task,
    )


def closure(whole: Tokenizer, ids: Iterable[int]) -> set[int]:
    """Ordinary tokens, all they are merged from, and the 256 bytes: all that these `ids` need."""
    ranks = whole.encoding._mergeable_ranks
    needed = {rank for token, rank in ranks.items() if len(token) == 1}
    todo = [whole.encoding.decode_single_token_bytes(i) for i in ids]
    while todo:
        token = todo.pop()
        if ranks[token] not in needed:
            needed.add(ranks[token])
            todo += parts(token, ranks, ranks[token])
    return needed


def parts(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """Byte-pair encoding of `token` with the ranks below `limit` only: two parts.

    tiktoken keeps only tokens and their ranks. With its own rank as the limit this is the pair
    that a token was made of.
    """
    found = [bytes([byte]) for byte in token]
    while len(found) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(found)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        found[at : at + 2] = [found[at] + found[at + 1]]
    return found


def _alphabet() -> list[str]:
    """The character that stands for each byte: itself if visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(stand_ins)) for byte in range(256)]


_ALPHABET = _alphabet()


def printable(token: bytes) -> str:
    """A token's bytes as byte-level BPE prints them, each as one visible character."""
    return "".join(_ALPHABET[byte] for byte in token)


def token_strings(encoding: tiktoken.Encoding) -> list[str]:
    """Every token by its id: ordinary ones `printable`, special ones as they are (`<|ru|>`)."""
    tokens = {rank: printable(token) for token, rank in encoding._mergeable_ranks.items()}
    tokens |= {rank: token for token, rank in encoding._special_tokens.items()}
    return [tokens[i] for i in range(encoding.n_vocab)]


def partners(ours: tiktoken.Encoding, theirs: tiktoken.Encoding) -> list[int] | None:
    """For each of our tokens the id of theirs of the same string, or -1; None if all are the same.

    Ordinary tokens are compared by their bytes, special ones (`<|yue|>`) by their names.
    """
    strings, others = token_strings(ours), token_strings(theirs)
    if strings == others:
        return None
    ids = {token: i for i, token in enumerate(others)}
    return [ids.get(token, -1) for token in strings]


@cache
def _whole_ids(size: int) -> dict[str, int]:
    return {token: i for i, token in enumerate(token_strings(whole_tokenizer(size).encoding))}


def with_tokens(dims: ModelDimensions, tokens: Sequence[str], source: str) -> ModelDimensions:
    """`dims` with the vocabulary that the strings of `token_strings` say.

    Raises `InputError`, naming `source`, when they are no Whisper's or not as many as `n_vocab`.
    """
    if len(tokens) != dims.n_vocab:
        raise InputError(f"{source}: {len(tokens)} tokens, but n_vocab is {dims.n_vocab}")
    if dims.n_vocab in WHOLE:
        ids = _whole_ids(dims.n_vocab)
        wrong = next((t for i, t in enumerate(tokens) if ids.get(t) != i), None)
        if wrong is not None:
            raise InputError(f"{source}: {wrong!r} is not where Whisper has it")
        return dims
    ids = _whole_ids(WHOLE[2] if "<|yue|>" in tokens else WHOLE[1])
    unknown = next((t for t in tokens if t not in ids), None)
    if unknown is not None:
        raise InputError(f"{source}: {unknown!r} is no token of Whisper's")
    return trim(dims, [ids[t] for t in tokens], source)
