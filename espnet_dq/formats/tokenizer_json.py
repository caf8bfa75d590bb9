"""Hugging Face's `tokenizer.json` from openai-whisper's byte-pair ranks.

tiktoken keeps only tokens and their ranks; Hugging Face's BPE also wants the pairs that were
merged. A token's pair is what byte-pair encoding leaves of its bytes when only tokens of lower
rank may be used: the token was made by merging exactly these two.
"""

from collections.abc import Mapping
from itertools import pairwise

from tiktoken import Encoding
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers


def build(encoding: Encoding) -> Tokenizer:
    """A Hugging Face tokenizer that encodes and decodes as `encoding` does.

    Special tokens in a text are parsed as such; openai-whisper's `encode` refuses them unless
    told so.
    """
    ranks = encoding._mergeable_ranks
    vocab = {_printable(token): rank for token, rank in ranks.items()}
    merges = [
        (_printable(left), _printable(right))
        for left, right in (
            _parts(token, ranks, rank) for token, rank in _by_rank(ranks) if len(token) > 1
        )
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token, _ in specials])
    return tokenizer


def vocabulary(encoding: Encoding) -> list[str]:
    """Every token by its id, bytes as byte-level BPE prints them: CTranslate2's vocabulary."""
    tokens = {rank: _printable(token) for token, rank in encoding._mergeable_ranks.items()}
    tokens |= {rank: token for token, rank in encoding._special_tokens.items()}
    return [tokens[i] for i in range(encoding.n_vocab)]


def _by_rank(ranks: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(ranks.items(), key=lambda item: item[1])


def _parts(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """Byte-pair encoding of `token` with the ranks below `limit` only: two parts."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _alphabet() -> list[str]:
    """The character that stands for each byte: itself if visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(stand_ins)) for byte in range(256)]


_ALPHABET = _alphabet()


def _printable(token: bytes) -> str:
    return "".join(_ALPHABET[byte] for byte in token)
