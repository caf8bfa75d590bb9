"""Whisper weights in memory, under openai-whisper's names, whatever file they came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite

import torch
from torch import Tensor
from whisper.model import ModelDimensions, sinusoids

from espnet_dq.errors import InputError, shown
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.generation import Generation
from espnet_dq.whisper.vocabulary import (
    OwnVocabulary,
    added_tokens,
    numbers,
    own_vocabulary,
    whole_size,
    whole_tokenizer,
)

ENCODER_POSITIONS = "encoder.positional_embedding"
EMBEDDING = "decoder.token_embedding.weight"
KEPT = "kept_tokens"  # of a vocabulary of its own, in formats with room for a tensor more
# Above any Whisper (large-v3: 1280 wide, 32 layers), below what a forged header could abuse.
_MOST = {
    "n_vocab": 1 << 20,
    "n_audio_ctx": 1 << 14,
    "n_text_ctx": 1 << 14,
    "n_audio_layer": 128,
    "n_text_layer": 128,
}
_MOST_OTHER = 1 << 13
MELS = (80, 128)  # of which openai-whisper has filters
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_token(value: object) -> bool:
    """Whether a value can be one of Whisper's tokens, all of which are short."""
    return isinstance(value, str) and len(value) < 1000


def check_dims(dims: ModelDimensions, source: str) -> ModelDimensions:
    """Return `dims`, or raise `InputError` when a value cannot be a Whisper's."""
    for field in fields(ModelDimensions):
        value = getattr(dims, field.name)
        most = _MOST.get(field.name, _MOST_OTHER)
        if type(value) is not int or not 0 < value <= most:
            raise InputError(f"{source}: {field.name} = {shown(value)} is not within 1 to {most}")
    if dims.n_mels not in MELS:
        raise InputError(f"{source}: n_mels = {dims.n_mels}: openai-whisper has filters for "
                         f"{' and '.join(map(str, MELS))} only")  # fmt: skip
    for side in ("audio", "text"):
        state, head = getattr(dims, f"n_{side}_state"), getattr(dims, f"n_{side}_head")
        if state % head or state % 2:
            raise InputError(f"{source}: n_{side}_state = {state} does not fit {head} heads")
    return dims


def all_finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number; far faster than asking each, as NaN spreads."""
    return not tensor.numel() or all(isfinite(end.item()) for end in tensor.aminmax())


def cast(tensor: Tensor, dtype: torch.dtype, name: str, source: object) -> Tensor:
    """A tensor on the CPU in another float type.

    Raises `InputError` that names the tensor when a value is no number, or beyond the type.
    """
    if tensor.dtype not in FLOATS:
        raise InputError(f"{source}: {name} holds {tensor.dtype}, expected floats")
    values = tensor.detach().cpu().to(dtype)
    if not all_finite(values):
        largest = float(tensor.abs().max())
        reason = f"up to {largest:.4g}, beyond {dtype}" if isfinite(largest) else "not all finite"
        raise InputError(f"{source}: {name} holds values that are {reason}")
    return values


def kept_tokens(dims: ModelDimensions) -> dict[str, Tensor]:
    """`KEPT` -> int32 [kept tokens], of a vocabulary of its own; nothing of a whole one."""
    if isinstance(dims, OwnVocabulary):
        return {KEPT: torch.tensor(dims.kept, dtype=torch.int32)}
    return {}


def with_kept(
    dims: ModelDimensions,
    kept,
    source: str,
    added: Sequence[str] = (),
    special: Sequence[str] = (),
) -> OwnVocabulary:
    """`dims` with the vocabulary that `KEPT` and added tokens say; raises `InputError` if none."""
    count = dims.n_vocab - len(added) - len(special)
    if not isinstance(kept, Tensor) or kept.dtype != torch.int32 or kept.shape != (count,):
        raise InputError(f"{source}: {KEPT} is not int32 [{count}]")
    return own_vocabulary(dims, kept.tolist(), source, added, special)


@dataclass
class Weights:
    """A Whisper's dimensions and tensors.

    Attributes:
        dims: openai-whisper's `ModelDimensions`.
        state: openai-whisper's names -> tensors; float16 or float32 as stored in the file,
            quantized tensors dequantized to float32.
        generation: the model's own settings of decoding; None: OpenAI's.
        any_window: whether it was trained in windows of every length, so that short audio may be
            heard in a short one (`load_runtime`'s `context`). OpenAI's heard 30 s only.
    """

    dims: ModelDimensions
    state: dict[str, Tensor]
    generation: Generation | None = None
    any_window: bool = False

    def check(self, source: str = "weights") -> "Weights":
        """Return self if `Whisper(dims)` takes `state` strictly; raise `InputError` if not.

        A value that is no finite number is damage, too.

        `source` is the file to name in the message. A missing `encoder.positional_embedding`
        (a constant that several formats leave out) is computed with openai-whisper's
        `sinusoids`.
        """
        check_dims(self.dims, source)
        if self.dims.n_audio_state != self.dims.n_text_state:
            raise InputError(
                f"{source}: n_audio_state {self.dims.n_audio_state} is not n_text_state "
                f"{self.dims.n_text_state}"
            )
        expected = weight_shapes(self.dims)
        if ENCODER_POSITIONS not in self.state:
            self.state[ENCODER_POSITIONS] = sinusoids(*expected[ENCODER_POSITIONS])
        for name, shape in expected.items():
            if name not in self.state:
                raise InputError(f"{source}: {name} is missing")
            tensor = self.state[name]
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{source}: {name} has shape {tuple(tensor.shape)}, expected {shape}"
                )
            if tensor.dtype not in FLOATS:
                raise InputError(f"{source}: {name} holds {tensor.dtype}, expected floats")
            if not all_finite(tensor):
                raise InputError(f"{source}: {name} holds values that are not all finite")
        for name in self.state:
            if name not in expected:
                raise InputError(f"{source}: {name} is not a Whisper weight")
        self.state = {name: self.state[name] for name in expected}
        return self

    def arranged(self, order: Sequence[int]) -> "Weights":
        """With the rows of the token embedding in another order, some maybe left out."""
        if [*order] == [*range(len(self.state[EMBEDDING]))]:
            return self
        return replace(self, state=self.state | {EMBEDDING: self.state[EMBEDDING][[*order]]})

    def without_added(self) -> "Weights":
        """With Whisper's own tokens only, which is all that OpenAI's checkpoint has a place for."""
        dims = self.dims
        if not added_tokens(dims):
            return self
        end = sum(i < whole_tokenizer(whole_size(dims)).eot for i in dims.kept)
        behind = end + len(dims.added)  # where the text ends; special tokens follow that
        rows = [*range(end), behind, *range(behind + 1 + len(dims.special), dims.n_vocab)]
        sizes = ModelDimensions(**numbers(dims) | {"n_vocab": len(rows)})
        if len(rows) < whole_size(dims):
            sizes = own_vocabulary(sizes, dims.kept, "without added tokens")
        return replace(self.arranged(rows), dims=sizes, generation=None)

    def lossless(self, names: Iterable[str]) -> str:
        """float16 if that changes no value of these tensors, else float32."""
        tensors = [self.state[name] for name in names]
        fits = all(torch.equal(t.half().float(), t.float()) for t in tensors)
        return "float16" if fits else "float32"
