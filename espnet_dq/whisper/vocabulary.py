"""Vocabularies: openai-whisper's whole ones, and those that keep a part of one or add to it.

A trimmed model has fewer rows in its tied embedding, a fine-tune may have more. Which tokens of
the whole vocabulary they are, and what was added, travels with its dimensions (`OwnVocabulary`),
and its tokenizer is openai-whisper's own with the byte-pair ranks of the kept tokens, in their
order. Every pair that is merged on the way to a kept token is kept, so a text of kept tokens is
cut as the whole vocabulary cuts it; any other text is spelled with smaller tokens, at worst with
bytes.

Every runtime takes what stands behind `<|0.00|>` for times and drops what stands behind
`<|endoftext|>` from the text, so here added tokens stand before these: text right before
`<|endoftext|>`, special tokens right behind it. `arrange` finds that order for any other.

Plain dimensions stand for a whole vocabulary, by its size. In a file, tokens decide if there are
any (`arrange`).
"""

import zlib
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import tiktoken
from whisper.model import ModelDimensions
from whisper.tokenizer import Tokenizer, get_tokenizer

from espnet_dq.errors import InputError, named

WHOLE = (51864, 51865, 51866)  # English only, 99 languages, 100 languages
_OTHER_NAMES = {"<|nocaptions|>": "<|nospeech|>"}  # in the tokenizers of Hugging Face


@dataclass(repr=False)
class OwnVocabulary(ModelDimensions):
    """openai-whisper's dimensions, and what its tokens are if they are not a whole vocabulary.

    Attributes:
        kept: ids in the whole vocabulary, in order. They end with all special tokens, so the last
            one tells which vocabulary it is.
        added: tokens of text that no Whisper has; they stand right before `<|endoftext|>`.
        special: those that are no text; they stand right behind `<|endoftext|>`.

    Raises `InputError` for what no tokenizer can be made of.
    """

    kept: tuple[int, ...]
    added: tuple[str, ...] = ()
    special: tuple[str, ...] = ()

    def __post_init__(self):
        kept, more = self.kept, self.added + self.special
        count = f"{len(kept)} kept tokens" + (f" and {len(more)} added ones" if more else "")
        if len(kept) + len(more) != self.n_vocab:
            raise InputError(f"{count}, but n_vocab is {self.n_vocab}")
        if not kept or kept[0] < 0 or any(a >= b for a, b in pairwise(kept)):
            raise InputError("the kept tokens are not ids in rising order")
        if kept[-1] + 1 not in WHOLE:
            raise InputError("the kept tokens do not end as a Whisper's do")
        whole = whole_tokenizer(kept[-1] + 1)
        if "" in more or len({*more} - _whole_ids(kept[-1] + 1).keys()) < len(more):
            raise InputError("an added token is empty, one of Whisper's, or there twice")
        if len(kept) == kept[-1] + 1 and more:
            return
        if whole.language is None:
            raise InputError("the kept tokens do not end as a multilingual Whisper's do")
        ordinary = {i for i in kept if i < whole.eot}
        if len(kept) - len(ordinary) != whole.encoding.n_vocab - whole.eot:
            raise InputError("the kept tokens lack a special token")
        if self.n_vocab >= WHOLE[0]:
            raise InputError(f"{count}: not fewer than a whole vocabulary has")
        if missing := closure(whole, ordinary) - ordinary:
            token = whole.encoding.decode_single_token_bytes(min(missing))
            raise InputError(f"the kept tokens lack {min(missing)} ({token!r}), which others need")

    def __repr__(self) -> str:
        own = (self.kept, self.added, self.special) if self.added or self.special else self.kept
        return (
            f"{ModelDimensions(**numbers(self))} with tokens {zlib.crc32(repr(own).encode()):08x}"
        )


def own_vocabulary(
    dims: ModelDimensions,
    kept: Sequence[int],
    source: str,
    added: Sequence[str] = (),
    special: Sequence[str] = (),
) -> OwnVocabulary:
    """`dims`, whose `n_vocab` is already that of their own vocabulary, with it.

    Raises `InputError`, naming `source`, as `OwnVocabulary`.
    """
    with named(source):
        return OwnVocabulary(**numbers(dims), kept=tuple(kept), added=tuple(added),
                             special=tuple(special))  # fmt: skip


def numbers(dims: ModelDimensions) -> dict[str, int]:
    """openai-whisper's ten dimensions by name, without a vocabulary of its own."""
    return {field.name: getattr(dims, field.name) for field in fields(ModelDimensions)}


def whole_size(dims: ModelDimensions) -> int:
    """Size of the whole vocabulary that a model's is, or comes from."""
    return dims.kept[-1] + 1 if isinstance(dims, OwnVocabulary) else dims.n_vocab


def ids_in_whole(dims: ModelDimensions, ids: Iterable[int]) -> list[int]:
    """Tokens of a model without added ones, by their ids in the whole vocabulary."""
    return [dims.kept[i] for i in ids] if isinstance(dims, OwnVocabulary) else list(ids)


def added_tokens(dims: ModelDimensions) -> tuple[str, ...]:
    """The tokens that no Whisper has."""
    return dims.added + dims.special if isinstance(dims, OwnVocabulary) else ()


@cache
def whole_tokenizer(size: int) -> Tokenizer:
    """openai-whisper's tokenizer for one of `WHOLE`; raises `InputError` for another size."""
    if size not in WHOLE:
        raise InputError(f"no Whisper tokenizer has {size} tokens, and nothing says which they are")
    if size == WHOLE[0]:
        return get_tokenizer(multilingual=False)
    return get_tokenizer(multilingual=True, num_languages=size - 51766)


@cache
def own_tokenizer(
    kept: tuple[int, ...], added: tuple[str, ...], special: tuple[str, ...]
) -> Tokenizer:
    """The tokenizer of an `OwnVocabulary`; ids are places in it."""
    whole = whole_tokenizer(kept[-1] + 1)
    ordinary = [i for i in kept if i < whole.eot]
    rest = [i for i in kept if i > whole.eot]
    tokens = [*ordinary, *added, whole.eot, *special, *rest]
    places = {token: place for place, token in enumerate(tokens)}
    encoding = whole.encoding
    specials = {token: places[i] for token, i in encoding._special_tokens.items()}
    return Tokenizer(
        encoding=tiktoken.Encoding(
            name=f"{encoding.name} of {len(tokens)} tokens",
            pat_str=encoding._pat_str,
            mergeable_ranks={
                token: places[i] for token, i in encoding._mergeable_ranks.items() if i in places
            },
            special_tokens=specials | {token: places[token] for token in added + special},
            explicit_n_vocab=len(tokens),
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


def _alphabet() -> dict[int, str]:
    """The character that stands for each byte: itself if visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in visible else next(stand_ins)) for byte in range(256)}


_ALPHABET = _alphabet()


def printable(token: bytes) -> str:
    """A token's bytes as byte-level BPE prints them, each as one visible character."""
    return token.decode("latin-1").translate(_ALPHABET)


def token_strings(encoding: tiktoken.Encoding) -> list[str]:
    """Every token by its id: ordinary ones `printable`, special ones as they are (`<|ru|>`)."""
    return [*_strings(encoding)]


@cache  # a tenth of a second, and asked for again and again
def _strings(encoding: tiktoken.Encoding) -> tuple[str, ...]:
    tokens = {rank: printable(token) for token, rank in encoding._mergeable_ranks.items()}
    tokens |= {rank: token for token, rank in encoding._special_tokens.items()}
    return tuple(tokens[i] for i in range(encoding.n_vocab))


@cache
def token_bytes(encoding: tiktoken.Encoding) -> tuple[bytes, ...]:
    """Every token by its id as bytes; special ones are their names."""
    tokens = {rank: token for token, rank in encoding._mergeable_ranks.items()}
    tokens |= {rank: token.encode() for token, rank in encoding._special_tokens.items()}
    return tuple(tokens[i] for i in range(encoding.n_vocab))


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


@cache
def _whole_rows(size: int) -> dict[int, str]:
    return dict(enumerate(token_strings(whole_tokenizer(size).encoding)))


def with_tokens(dims: ModelDimensions, tokens: Sequence[str], source: str) -> ModelDimensions:
    """`dims` with the vocabulary that the strings of `token_strings` say.

    Raises `InputError`, naming `source`, when they are no Whisper's or not as many as `n_vocab`.
    """
    if len(tokens) != dims.n_vocab:
        raise InputError(f"{source}: {len(tokens)} tokens, but n_vocab is {dims.n_vocab}")
    ids = whole_ids({*tokens})
    if unknown := [token for token in tokens if token not in ids]:
        raise InputError(f"{source}: {unknown[0]!r} is no token of Whisper's")
    found, order = arrange(dims, dict(enumerate(tokens)), (), source)
    if order != [*range(len(tokens))]:
        wrong = next(token for row, token in enumerate(tokens) if order[row] != row)
        raise InputError(f"{source}: {wrong!r} is not where Whisper has it")
    return found


def whole_ids(tokens: Set[str]) -> dict[str, int]:
    """String -> id of the whole vocabulary that has most of these tokens.

    Of two that have as many, 99 languages' goes before 100's, and that before English only.
    """
    candidates = (WHOLE[1], WHOLE[2], WHOLE[0])
    for size in candidates:  # a tenth of a second each, and mostly the first has them all
        if (ids := _whole_ids(size)).keys() >= tokens:
            return ids
    return max(map(_whole_ids, candidates), key=lambda ids: len(ids.keys() & tokens))


def arrange(
    dims: ModelDimensions, tokens: Mapping[int, str], special: Container[str], source: str
) -> tuple[ModelDimensions, list[int]]:
    """The vocabulary that a file's tokens are, and the rows of its embedding in our order.

    Rows without a token, with which an embedding is padded, are left out. Older tokenizers have no
    times; these stand behind `<|notimestamps|>`.

    Args:
        dims: the model's, by the sizes of its tensors.
        tokens: row -> string, as `token_strings` gives them.
        special: those of the strings that are no text, if they are not Whisper's.
        source: the file to name.

    Returns:
        `dims` with their vocabulary, and for each of its tokens the row in the file.

    Raises:
        InputError: a row that is not there, a token that is there twice, or as `OwnVocabulary`.
    """
    count = len(tokens)
    if count in WHOLE and count <= dims.n_vocab and tokens == _whole_rows(count):  # most files
        return ModelDimensions(**numbers(dims) | {"n_vocab": count}), [*range(count)]
    rows = {_OTHER_NAMES.get(token, token): row for row, token in tokens.items()}
    if odd := [row for row in tokens if not 0 <= row < dims.n_vocab]:
        raise InputError(
            f"{source}: {tokens[odd[0]]!r} is token {odd[0]}, but n_vocab is {dims.n_vocab}"
        )
    if len(rows) < len(tokens):
        twice = next(t for i, t in tokens.items() if rows[_OTHER_NAMES.get(t, t)] != i)
        raise InputError(f"{source}: {twice!r} is there twice")
    ids = whole_ids(rows.keys())
    whole = whole_tokenizer(len(ids))
    times = token_strings(whole.encoding)[whole.timestamp_begin :]
    first = rows.get("<|notimestamps|>", dims.n_vocab) + 1
    if not rows.keys() & {*times} and not tokens.keys() & {*range(first, first + len(times))}:
        rows |= {t: row for row, t in enumerate(times, first) if row < dims.n_vocab}
    kept = sorted((ids[t], row) for t, row in rows.items() if t in ids)
    more = sorted((row, t) for t, row in rows.items() if t not in ids)
    added, apart = ([(row, t) for row, t in more if (t in special) is s] for s in (False, True))
    order = [row for i, row in kept if i < whole.eot] + [row for row, _ in added]
    order += [row for i, row in kept if i == whole.eot] + [row for row, _ in apart]
    order += [row for i, row in kept if i > whole.eot]
    sizes = ModelDimensions(**numbers(dims) | {"n_vocab": len(order)})
    if len(kept) == len(ids) and not more:
        return sizes, order
    strings = ([t for _, t in each] for each in (added, apart))
    return own_vocabulary(sizes, [i for i, _ in kept], source, *strings), order
