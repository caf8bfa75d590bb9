"""Cut a Whisper to fewer channels, each of its layers fitted to what the source does on real clips.

A projection of the weights alone is no start: the LayerNorms, the GELUs and the tied embedding
fix the axes of both streams, and what is lost grows from layer to layer. So the student keeps the
channels, heads and inner units of the source that matter most on the clips, and its layers are
fitted by least squares, from the first to the last, each on what the layers before it give.

Exact: convolutions and embeddings, positions and LayerNorm gains keep the source's values in the
channels that stay (the LayerNorms' mean and variance are those of fewer channels), and a key needs
no bias. Approximate: everything that is fitted. This is where distillation starts, no model to use.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm
from whisper.model import (
    ModelDimensions,
    MultiHeadAttention,
    ResidualAttentionBlock,
    Whisper,
)

from espnet_dq.errors import InputError
from espnet_dq.quant.calibrate import on_input
from espnet_dq.whisper.forward import decode_hidden, encode
from espnet_dq.whisper.weights import Weights

# Added to the features' covariance, relative to its mean diagonal: what few clips do not decide
# stays as it was in the source.
_RIDGE = 0.1


def check_width(dims: ModelDimensions, width: int) -> None:
    """Raise `InputError` for a width that is no multiple of a head's, or above the source's."""
    head = dims.n_text_state // dims.n_text_head
    if dims.n_audio_head != dims.n_text_head:
        raise InputError("the heads of encoder and decoder are not of one size")
    if width % head or not 0 < width <= dims.n_text_state:
        raise InputError(
            f"{width}: a multiple of {head}, the size of a head, is needed, "
            f"{dims.n_text_state} at most"
        )


def narrow(weights: Weights, width: int, clips: Iterable[tuple[Tensor, Tensor]]) -> Weights:
    """The same Whisper, `width` channels wide in encoder and decoder; heads keep their size.

    Args:
        weights: the source; of its own width it comes back as it is.
        width: a multiple of the source's head size (64 in every Whisper).
        clips: log-mel features (1, n_mels, F) and tokens (1, T) int64 of each, all kept in memory.

    Raises `InputError` as `check_width`.
    """
    dims = weights.dims
    check_width(dims, width)
    if width == dims.n_text_state:
        return weights
    source = Whisper(dims)
    source.load_state_dict(weights.state)
    heads = dims.n_text_head * width // dims.n_text_state
    sizes = {"n_audio_state": width, "n_text_state": width}
    student = Whisper(replace(dims, **sizes, n_audio_head=heads, n_text_head=heads))
    with torch.no_grad():
        _Narrower(source.float().eval(), student.eval(), list(clips)).run()
    return Weights(student.dims, student.state_dict(), any_window=weights.any_window)


class _Narrower:
    """Walks source and student side by side; `xs` and `zs` are their streams, (T, D) a clip."""

    def __init__(
        self, source: Whisper, student: Whisper, clips: list[tuple[Tensor, Tensor]]
    ) -> None:
        self.source, self.student, self.clips = source, student, clips
        self.width = student.dims.n_text_state
        self.head = self.width // student.dims.n_text_head

    def run(self) -> None:
        """Choose the channels, then fit the encoder and the decoder on what it gives."""
        heard, read = _reading(self.source, self.clips)
        layers = len(self.source.encoder.blocks) + len(self.source.decoder.blocks)
        with tqdm(total=layers, desc="narrow", unit="layer") as self.bar:
            heard_by_student = self.encoder(_largest(heard, self.width))
            self.decoder(_largest(read, self.width), *heard_by_student)

    def encoder(self, kept: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Fit it; returns what source and student hear, and the channels kept."""
        old, new = self.source.encoder, self.student.encoder
        mels = [mel for mel, _ in self.clips]
        inner = [F.gelu(old.conv1(mel)) for mel in mels]
        outer = [old.conv2(x) for x in inner]
        size = old.conv2.weight[kept].square().sum((0, 2))
        units = _largest(sum(x.square().sum((0, 2)) for x in inner) * size, self.width)
        _copy(new.conv1, old.conv1, units)
        _copy(new.conv2, old.conv2, kept, units)
        _fit(new.conv2, [_frames(x[:, units]) for x in inner], [x[0].T[:, kept] for x in outer])
        new.positional_embedding.copy_(old.positional_embedding[:, kept])
        positions = old.positional_embedding
        xs = [F.gelu(x)[0].T + positions[: x.shape[2]] for x in outer]
        zs = [F.gelu(new.conv2(F.gelu(new.conv1(mel))))[0].T for mel in mels]
        zs = [z + new.positional_embedding[: len(z)] for z in zs]
        for pair in zip(old.blocks, new.blocks, strict=True):
            xs, zs = self.block(*pair, xs, zs, kept)
        _copy(new.ln_post, old.ln_post, kept)
        return [old.ln_post(x) for x in xs], [new.ln_post(z) for z in zs], kept

    def decoder(
        self, kept: Tensor, heard: list[Tensor], heard_by_student: list[Tensor], channels: Tensor
    ) -> None:
        old, new = self.source.decoder, self.student.decoder
        new.positional_embedding.copy_(old.positional_embedding[:, kept])
        new.token_embedding.weight.copy_(old.token_embedding.weight[:, kept])
        xs, zs = (
            [m.token_embedding(t[0]) + m.positional_embedding[: t.shape[1]] for _, t in self.clips]
            for m in (old, new)
        )
        for pair in zip(old.blocks, new.blocks, strict=True):
            xs, zs = self.block(*pair, xs, zs, kept, (heard, heard_by_student, channels))
        _copy(new.ln, old.ln, kept)
        # The hidden states that give the source's logits through the kept columns, as well as
        # these can: the embedding is tied, so only the LayerNorm's gain and bias can be fitted.
        ours, theirs = (m.token_embedding.weight.double() for m in (new, old))
        through = torch.linalg.solve(ours.T @ ours, ours.T @ theirs).float()
        wanted = torch.cat([old.ln(x) @ through.T for x in xs])
        found = torch.cat([F.layer_norm(z, (self.width,)) for z in zs])
        spread = found - found.mean(0)
        new.ln.weight.copy_((spread * wanted).sum(0) / spread.square().sum(0))
        new.ln.bias.copy_(wanted.mean(0) - found.mean(0) * new.ln.weight)

    def block(
        self,
        old: ResidualAttentionBlock,
        new: ResidualAttentionBlock,
        xs: list[Tensor],
        zs: list[Tensor],
        kept: Tensor,
        heard: tuple[list[Tensor], list[Tensor], Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Fit a block; returns both streams after it."""
        for name in ("attn_ln", "cross_attn_ln", "mlp_ln"):
            if getattr(old, name, None) is not None:
                _copy(getattr(new, name), getattr(old, name), kept)
        mask = None if heard is None else self.source.decoder.mask
        ys, ws = [old.attn_ln(x) for x in xs], [new.attn_ln(z) for z in zs]
        xs, zs = self.attention(old.attn, new.attn, xs, zs, (ys, ws, kept), (ys, ws, kept), mask)
        if heard is not None:
            ys, ws = [old.cross_attn_ln(x) for x in xs], [new.cross_attn_ln(z) for z in zs]
            xs, zs = self.attention(
                old.cross_attn, new.cross_attn, xs, zs, (ys, ws, kept), heard, None
            )
        inner = [old.mlp[0](old.mlp_ln(x)) for x in xs]
        active = [F.gelu(y) for y in inner]
        size = old.mlp[2].weight[kept].square().sum(0)
        units = _largest(sum(a.square().sum(0) for a in active) * size, 4 * self.width)
        _copy(new.mlp[0], old.mlp[0], units, kept)
        _copy(new.mlp[2], old.mlp[2], kept, units)
        ws = [new.mlp_ln(z) for z in zs]
        _fit(new.mlp[0], ws, [y[:, units] for y in inner])
        xs = [x + old.mlp[2](a) for x, a in zip(xs, active, strict=True)]
        zs = _add(new.mlp[2], [F.gelu(new.mlp[0](w)) for w in ws], xs, zs, kept)
        self.bar.update()
        return xs, zs

    def attention(
        self,
        old: MultiHeadAttention,
        new: MultiHeadAttention,
        xs: list[Tensor],
        zs: list[Tensor],
        asking: tuple[list[Tensor], list[Tensor], Tensor],
        asked: tuple[list[Tensor], list[Tensor], Tensor],
        mask: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Fit the heads with the largest output; returns both streams after it."""
        kept = asking[2]
        seen = {"query": asking, "key": asked, "value": asked}
        theirs = {name: [getattr(old, name)(y) for y in seen[name][0]] for name in seen}
        mixed = _attend(old, theirs, mask)
        outputs = old.out.weight[kept].unflatten(1, (-1, self.head))
        size = sum(
            torch.einsum("thd,chd->htc", m.unflatten(1, (-1, self.head)), outputs)
            .square()
            .sum((1, 2))
            for m in mixed
        )
        heads = _largest(size, new.n_head)
        rows = (heads[:, None] * self.head + torch.arange(self.head)).flatten()
        for name, (_, ws, columns) in seen.items():
            _copy(getattr(new, name), getattr(old, name), rows, columns)
            _fit(getattr(new, name), ws, [t[:, rows] for t in theirs[name]])
        ours = {name: [getattr(new, name)(w) for w in seen[name][1]] for name in seen}
        _copy(new.out, old.out, kept, rows)
        xs = [x + old.out(m) for x, m in zip(xs, mixed, strict=True)]
        return xs, _add(new.out, _attend(new, ours, mask), xs, zs, kept)


def _attend(
    attention: MultiHeadAttention, parts: dict[str, list[Tensor]], mask: Tensor | None
) -> list[Tensor]:
    """What the heads give together, (T, D) a clip, before the output projection."""
    together = zip(parts["query"], parts["key"], parts["value"], strict=True)
    return [attention.qkv_attention(q[None], k[None], v[None], mask)[0][0] for q, k, v in together]


def _add(
    out: nn.Linear, features: list[Tensor], xs: list[Tensor], zs: list[Tensor], kept: Tensor
) -> list[Tensor]:
    """Fit what is added to the student's stream, so that its channels get to where `xs` are."""
    _fit(out, features, [x[:, kept] - z for x, z in zip(xs, zs, strict=True)])
    return [z + out(f) for z, f in zip(zs, features, strict=True)]


def _fit(layer: nn.Linear | nn.Conv1d, features: list[Tensor], targets: list[Tensor]) -> None:
    """Change weight and bias to the least squares, near what they are (`_RIDGE`).

    Without a bias (keys) the constant part of the targets is left out: added to all keys, it
    changes all of a query's scores by the same.
    """
    x, weight = torch.cat(features).double(), layer.weight.flatten(1).double()
    rest = torch.cat(targets).double() - x @ weight.T
    mean, constant = x.mean(0), rest.mean(0)
    x = x - mean
    square = x.T @ x
    square.diagonal().add_(_RIDGE * square.diagonal().mean())
    change = torch.linalg.solve(square, x.T @ (rest - constant)).T
    layer.weight.add_(change.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(constant - change @ mean)


def _copy(new: nn.Module, old: nn.Module, rows: Tensor, columns: Tensor | None = None) -> None:
    """The source's weight and bias in the rows and columns that stay."""
    weight = old.weight[rows]
    new.weight.copy_(weight if columns is None else weight[:, columns])
    if old.bias is not None:
        new.bias.copy_(old.bias[rows])


def _frames(x: Tensor) -> Tensor:
    """What each position of conv2 sees, (F / 2, 3 C), of (1, C, F)."""
    return F.unfold(x[:, :, None], (1, 3), padding=(0, 1), stride=(1, 2))[0].T


def _largest(sizes: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest, in their order."""
    return sizes.topk(count).indices.sort().values


def _reading(source: Whisper, clips: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """How much the layers take from each channel of the encoder's and of the decoder's stream.

    Squares of what a layer reads there, times its weights' squares, summed over the layers.
    """
    dims = source.dims
    audio, text = torch.zeros(dims.n_audio_state), torch.zeros(dims.n_text_state)

    def take(layer: str, x: Tensor) -> Tensor:
        heard = layer.startswith("encoder") or layer.endswith(("s_attn.key", "s_attn.value"))
        size = source.get_submodule(layer).weight.square().sum(0)
        (audio if heard else text).add_(x.square().mean((0, 1)) * size)
        return x

    readers = (".query", ".key", ".value", ".mlp.0", ".token_embedding")
    layers = [name for name, _ in source.named_modules() if name.endswith(readers)]
    handles = [on_input(source, layer, partial(take, layer)) for layer in layers]
    for mel, tokens in clips:
        decode_hidden(source.decoder, tokens, encode(source.encoder, mel))
    for handle in handles:
        handle.remove()
    return audio, text
