"""Hugging Face's `tokenizer.json` from openai-whisper's byte-pair ranks.

tiktoken keeps only tokens and their ranks; Hugging Face's BPE also wants the pairs that were
merged. A token's pair is what byte-pair encoding leaves of its bytes when only tokens of lower
rank may be used: the token was made by merging exactly these two.
"""

import json
from collections.abc import Mapping
from functools import lru_cache

from tiktoken import Encoding
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from espnet_dq.whisper.vocabulary import parts, printable

_END, _FIRST_TIME = "<|endoftext|>", "<|0.00|>"


@lru_cache(maxsize=4)  # as `build`, a part of a second
def text(encoding: Encoding) -> str:
    """The file as the tokenizers library writes `build`'s tokenizer: times are special tokens."""
    return build(encoding).to_str()


@lru_cache(maxsize=4)
def text_of_huggingface(encoding: Encoding) -> str:
    """The file as transformers wants it: times are part of the text, if asked for."""
    content, special = json.loads(text(encoding)), {*no_text(encoding)}
    for token in content["added_tokens"]:
        token["special"] = token["content"] in special
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def no_text(encoding: Encoding) -> list[str]:
    """The tokens of tasks, languages and the like, in the order of their ids: no words or times."""
    ids = encoding._special_tokens
    found = [token for token, i in ids.items() if ids[_END] <= i < ids[_FIRST_TIME]]
    return sorted(found, key=ids.__getitem__)


@lru_cache(maxsize=4)  # seconds, and always the same
def build(encoding: Encoding) -> Tokenizer:
    """A Hugging Face tokenizer that encodes and decodes as `encoding` does.

    Special tokens in a text are parsed as such; openai-whisper's `encode` refuses them unless
    told so.
    """
    ranks = encoding._mergeable_ranks
    vocab = {printable(token): rank for token, rank in ranks.items()}
    merges = [
        (printable(left), printable(right))
        for left, right in (
            parts(token, ranks, rank) for token, rank in _by_rank(ranks) if len(token) > 1
        )
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = encoding._special_tokens
    tokenizer.add_tokens(
        [  # in the order of their ids; what stands before the end of a text is text
            AddedToken(token, normalized=False, special=specials[token] >= specials[_END])
            for token in sorted(specials, key=specials.__getitem__)
        ]
    )
    return tokenizer


def _by_rank(ranks: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(ranks.items(), key=lambda item: item[1])
