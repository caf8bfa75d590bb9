"""Token sequences of a batch, and the positions that losses count.

An utterance is `<|startoftranscript|> <|lang|> <|transcribe|> <|notimestamps|> text
<|endoftext|>`, or, with timestamps, `... <|transcribe|> <|0.00|> text <|end|> <|endoftext|>`.
Everything after the prompt is counted. The language is selected as well, for the KL term only,
so that language detection is not forgotten.
"""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor
from whisper.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sequences:
    """One batch.

    `inputs` (B, T) int64, padded with `<|endoftext|>`. N selected positions, row by row:
    `rows`, `columns` (N,) index `inputs`; `targets` (N,) is the token that follows; `counted`
    (N,) bool is False at the language position, which opens each row.
    """

    inputs: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    counted: Tensor

    def select(self, values: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...): the selected positions."""
        return values[self.rows, self.columns]


def prompt(tokenizer: Tokenizer, language: int, timed: bool = False) -> list[int]:
    """What stands before a text in a language, by its token, or before the first timestamp."""
    begin = [tokenizer.sot, language, tokenizer.transcribe]
    return begin if timed else [*begin, tokenizer.no_timestamps]


def build_sequences(
    text: Tensor, text_lengths: Tensor, language: Tensor, end: Tensor, tokenizer: Tokenizer
) -> Sequences:
    """Sequences of a batch.

    Text tokens (B, L) with lengths (B,), language tokens (B,), and `end` (B,): the timestamp
    token that closes the utterance, or -1 for an utterance without timestamps.
    """
    rows = []
    for ids, length, lang, stop in zip(
        text.tolist(), text_lengths.tolist(), language.tolist(), end.tolist(), strict=True
    ):
        timed, body = stop >= 0, ids[:length]
        if timed:
            body = [tokenizer.timestamp_begin, *body, stop]
        begin = prompt(tokenizer, lang, timed)
        rows.append((len(begin), [*begin, *body, tokenizer.eot]))
    longest = max(len(tokens) for _, tokens in rows)
    padded = [tokens + [tokenizer.eot] * (longest - len(tokens)) for _, tokens in rows]
    device = text.device
    tokens = torch.tensor(padded, device=device)
    column = torch.arange(longest - 1, device=device)
    first = torch.tensor([p - 1 for p, _ in rows], device=device)[:, None]
    last = torch.tensor([len(t) - 2 for _, t in rows], device=device)[:, None]
    counted = (column >= first) & (column <= last)
    selected = counted | (column == 0)
    row_index, column_index = selected.nonzero(as_tuple=True)
    return Sequences(
        inputs=tokens[:, :-1],
        rows=row_index,
        columns=column_index,
        targets=tokens[:, 1:][selected],
        counted=counted[selected],
    )


def has_timestamps(utterance: str, share: float) -> bool:
    """Whether an utterance is trained with timestamps: by its name, the same in every run."""
    return zlib.crc32(utterance.encode()) < share * 2**32
