"""How many tokens a decoder has room for: one reckoning for training windows and for decoding.

A decoder of n positions reads a prompt and what it has written so far. openai-whisper, CTranslate2
and whisper.cpp stop at n / 2 tokens by default, to leave the other half to text from before, which
nothing here gives a model. So all positions behind the prompt are used, where a runtime can.
"""

from espnet_dq.errors import InputError

PROMPT = 4  # <|startoftranscript|>, language, task, <|notimestamps|>
ENDS = 3  # the first and the last timestamp, <|endoftext|>


def most_tokens(n_text_ctx: int) -> int:
    """Tokens that a decoder of so many positions writes at most, those of `ENDS` included.

    Raises `InputError` if there is no room for one.
    """
    if n_text_ctx <= PROMPT:
        raise InputError(f"a decoder of {n_text_ctx} positions has no room behind its prompt")
    return n_text_ctx - PROMPT


def most_text(n_text_ctx: int) -> int:
    """Tokens of the longest text that can be trained and decoded, with timestamps or without."""
    return most_tokens(n_text_ctx) - ENDS
