"""How much a Whisper loses when one weight alone is put on a grid."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import batched
from math import isfinite, prod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from whisper.model import Whisper

from espnet_dq.errors import InputError, WorkError
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import candidates
from espnet_dq.reading import loads
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import (
    decode_hidden,
    encode,
    log_mel,
    output_logits,
    own_window,
    window_samples,
)
from espnet_dq.whisper.sequences import Sequences, build_sequences
from espnet_dq.whisper.weights import Weights

BATCH = 4  # windows at a time: their logits are the largest thing in memory


@dataclass(frozen=True)
class Utterance:
    """A clip (samples,) float32 at 16 kHz, and the tokens of its text and of its language."""

    speech: Tensor
    text: list[int]
    language: int


@dataclass(frozen=True)
class Loss:
    """What one weight on one grid costs.

    `kl`: divergence from the untouched model's output, `ce`: increase of the cross-entropy of the
    text; both in nats a token. `bytes`: of its integers and scales.
    """

    name: str
    grid: str
    bytes: int
    kl: float
    ce: float

    @classmethod
    def parse(cls, line: str) -> "Loss":
        """A line of a table of these, JSON; raises `ValueError` for any other."""
        try:
            row = cls(**loads(line))
            if not isinstance(row.name, str) or not isinstance(row.grid, str):
                raise ValueError("name or grid is no text")
            row = replace(row, bytes=int(row.bytes), kl=float(row.kl), ce=float(row.ce))
            if not isfinite(row.kl) or not isfinite(row.ce):
                raise ValueError(f"kl {row.kl}, ce {row.ce}: not both are finite")
            return row
        except (TypeError, OverflowError) as e:  # no object, Infinity
            raise ValueError(str(e)) from e


@dataclass
class _Batch:
    mel: Tensor  # (B, n_mels, 3000)
    sequences: Sequences
    audio: Tensor  # (B, 1500, D): the untouched encoder's output
    logits: Tensor  # (N, V): the untouched model's


def stored_bytes(shape: tuple[int, ...], grid: str) -> int:
    """Bytes of a weight's integers, in as many bits as the grid has, and scales.

    Raises `InputError` if the grid does not fit.
    """
    get_grid(grid).fake(torch.zeros(shape))
    dtype, scales = get_grid(grid).scale_like(shape)
    return -(-prod(shape) * get_grid(grid).bits // 8) + prod(scales) * dtype.itemsize


class Probe:
    """A float Whisper and utterances that fit into its window, on which weights are tried."""

    def __init__(self, weights: Weights, utterances: Iterable[Utterance]):
        self.dims = weights.dims
        self.model = Whisper(weights.dims).eval().requires_grad_(False)
        self.model.load_state_dict({k: v.float() for k, v in weights.state.items()})
        tokenizer = vocabulary_tokenizer(self.dims)
        self.batches: list[_Batch] = []
        for group in batched(utterances, BATCH):
            texts = [torch.tensor(u.text) for u in group]
            sequences = build_sequences(
                pad_sequence(texts, batch_first=True),
                torch.tensor([len(t) for t in texts]),
                torch.tensor([u.language for u in group]),
                torch.full((len(group),), -1),
                tokenizer,
            )
            lengths = torch.tensor([len(u.speech) for u in group])
            window = window_samples(int(lengths.max()), "full", own_window(self.dims))
            speech = pad_sequence([u.speech for u in group], batch_first=True)
            mel = log_mel(speech, lengths, self.dims.n_mels, window)
            batch = _Batch(mel, sequences, encode(self.model.encoder, mel), torch.empty(0))
            batch.logits = self._logits(batch, batch.audio)
            self.batches.append(batch)
        if not self.batches:
            raise InputError("no utterances to measure on")

    def _logits(self, batch: _Batch, audio: Tensor) -> Tensor:
        seq = batch.sequences
        hidden = seq.select(decode_hidden(self.model.decoder, seq.inputs, audio))[seq.counted]
        return output_logits(self.model.decoder, hidden)

    def loss(self, name: str, grid: str) -> Loss:
        """Put the weight `name` on `grid`, alone, and measure.

        Raises `InputError` if it does not fit, and `WorkError` if the model then says no numbers.
        """
        weight = self.model.get_parameter(name)
        size, plain = stored_bytes(tuple(weight.shape), grid), weight.clone()
        weight.copy_(get_grid(grid).fake(plain))
        kl = ce = count = 0
        try:
            for batch in self.batches:
                audio = batch.audio
                if name.startswith("encoder."):
                    audio = encode(self.model.encoder, batch.mel)
                # float64: what 8 bits lose is less than the rounding of a float32 sum.
                found = F.log_softmax(self._logits(batch, audio).double(), dim=-1)
                plain_log_p = F.log_softmax(batch.logits.double(), dim=-1)
                kl += float(F.kl_div(found, plain_log_p, log_target=True, reduction="sum"))
                targets = batch.sequences.targets[batch.sequences.counted]
                ce += float((plain_log_p - found).gather(1, targets[:, None]).sum())
                count += len(targets)
        finally:
            weight.copy_(plain)
        if not isfinite(kl) or not isfinite(ce):
            raise WorkError(f"{name} on {grid}: what the model says is no number")
        return Loss(name, grid, size, kl / count, ce / count)

    def pairs(self, grids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """(weight, grid): every pair that fits."""
        grids = list(grids)
        for name in candidates(self.dims):
            for grid in grids:
                try:
                    stored_bytes(tuple(self.model.get_parameter(name).shape), grid)
                except InputError:
                    continue
                yield name, grid
