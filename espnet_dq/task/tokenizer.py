"""Whisper's vocabulary as ESPnet's token list, tokenizer and id converter see it.

ESPnet wants one printable, unique string a token: those of `whisper.vocabulary.token_strings`.
The list is also all that ESPnet keeps of a vocabulary, so a trimmed one is known from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from espnet2.text.abs_tokenizer import AbsTokenizer
from espnet2.text.token_id_converter import TokenIDConverter
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.vocabulary import token_strings, with_tokens

# The name that selects this tokenizer in ESPnet's options: `--bpemodel dq_whisper`.
NAME = "dq_whisper"


def token_list(dims: ModelDimensions = SIZES["tiny"]) -> list[str]:
    """The token list: line i is token i."""
    return token_strings(vocabulary_tokenizer(dims).encoding)


class DQWhisperTokenizer(AbsTokenizer):
    """Text to token strings and back, through openai-whisper's own encoding.

    Without its tokens (ESPnet's `asr_inference` does not say them) the whole vocabulary: the
    strings of a trimmed one are among its.
    """

    def __init__(self, tokens: Sequence[str] | None = None):
        self.tokens = token_list() if tokens is None else [*tokens]
        dims = replace(SIZES["tiny"], n_vocab=len(self.tokens))
        self.tokenizer = vocabulary_tokenizer(with_tokens(dims, self.tokens, "token_list"))
        self.ids = {t: i for i, t in enumerate(self.tokens)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_vocab={len(self.tokens)})"

    def text2tokens(self, line: str) -> list[str]:
        """Not to be had without the text's language, which ESPnet does not tell."""
        raise InputError(
            "ESPnet does not tell the language of a text, on which its tokens depend: give the "
            "recipe the text itself"
        )

    def text2ids(self, text: str, language: str) -> list[int]:
        """Token ids of a transcript in a language (Whisper's code)."""
        return encode_text(self.tokenizer, text, language)

    def tokens2text(self, tokens: Iterable[str]) -> str:
        """The transcript; special tokens are left out, broken UTF-8 becomes U+FFFD."""
        ids = [self.ids[t] for t in tokens]
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.eot]).strip()


class DQTokenIDConverter(TokenIDConverter):
    """ESPnet's converter, which insists on an `<unk>`; a byte-level vocabulary needs none."""

    def __init__(self, token_list, unk_symbol: str | None = None):
        whisper = not isinstance(token_list, str) and "<|endoftext|>" in token_list
        super().__init__(token_list, unk_symbol or ("<|endoftext|>" if whisper else "<unk>"))
