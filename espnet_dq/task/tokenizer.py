"""Whisper's vocabulary as ESPnet's token list, tokenizer and id converter see it.

ESPnet wants one printable, unique string a token. Text tokens are written as GPT-2 does, each
byte as one visible character; special tokens are written as they are (`<|ru|>`).
"""

from collections.abc import Iterable
from functools import cache

from espnet2.text.abs_tokenizer import AbsTokenizer
from espnet2.text.token_id_converter import TokenIDConverter

from espnet_dq.whisper.dims import encode_text, vocabulary_tokenizer

# The name that selects this tokenizer in ESPnet's options: `--bpemodel dq_whisper`.
NAME = "dq_whisper"


@cache
def byte_characters() -> str:
    """256 characters, one for each byte: visible ASCII and Latin-1 stand for themselves."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return "".join(chr(b) if b in visible else chr(next(spare)) for b in range(256))


@cache
def token_list(n_vocab: int = 51865) -> list[str]:
    """The token list: line i is token i."""
    tokenizer = vocabulary_tokenizer(n_vocab)
    special = {i: t for t, i in tokenizer.special_tokens.items()}
    characters = byte_characters()
    return [
        special[i]
        if i in special
        else "".join(characters[b] for b in tokenizer.encoding.decode_single_token_bytes(i))
        for i in range(n_vocab)
    ]


class DQWhisperTokenizer(AbsTokenizer):
    """Text to token strings and back, through openai-whisper's own encoding."""

    def __init__(self, n_vocab: int = 51865):
        self.tokenizer = vocabulary_tokenizer(n_vocab)
        self.tokens = token_list(n_vocab)
        self.ids = {t: i for i, t in enumerate(self.tokens)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_vocab={len(self.tokens)})"

    def text2ids(self, line: str) -> list[int]:
        """Token ids of a transcript."""
        return encode_text(self.tokenizer, line)

    def text2tokens(self, line: str) -> list[str]:
        """Token strings of a transcript."""
        return [self.tokens[i] for i in self.text2ids(line)]

    def tokens2text(self, tokens: Iterable[str]) -> str:
        """The transcript; special tokens are left out, broken UTF-8 becomes U+FFFD."""
        ids = [self.ids[t] for t in tokens]
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.eot]).strip()


class DQTokenIDConverter(TokenIDConverter):
    """ESPnet's converter, which insists on an `<unk>`; a byte-level vocabulary needs none."""

    def __init__(self, token_list, unk_symbol: str | None = None):
        whisper = not isinstance(token_list, str) and "<|endoftext|>" in token_list
        super().__init__(token_list, unk_symbol or ("<|endoftext|>" if whisper else "<unk>"))
