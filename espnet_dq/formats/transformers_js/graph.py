"""Whisper as the two ONNX graphs that transformers.js and optimum run.

Names, inputs and outputs are Hugging Face's: `encoder_model` gives `last_hidden_state`, and
`decoder_model_merged` takes and gives keys and values of each layer, (clip, head, position,
state). Where `use_cache_branch` is false those of cross attention are computed from
`encoder_hidden_states` and given; else those that it takes are used, and what it gives of them
is empty: who runs it keeps them, as those who run Hugging Face's graphs do, and nothing is copied
for each token. Sums and stored weights are as in `espnet_dq.formats.onnx.graph`.

A graph that computes in float16 (`half`) takes and gives float32, as those of Hugging Face do: so
one of the two fits to the other, whatever each computes in. transformers.js casts nothing between
them, and before version 4 gives caches of float32 to all.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper
from whisper.model import ModelDimensions

from espnet_dq.formats.onnx.graph import EMBEDDING, Graph, Stored, begin, hear

_FLOAT = TensorProto.FLOAT


def encoder(
    dims: ModelDimensions, tensors: Mapping[str, Stored], half: bool = False
) -> onnx.GraphProto:
    """`input_features` (B, mels, frames) -> `last_hidden_state` (B, positions, width)."""
    g = Graph(tensors, half=half)
    output = "last_hidden_state"
    hear(g, g.given("input_features"), dims, output)
    info = helper.make_tensor_value_info
    inputs = [info("input_features", _FLOAT, ["batch_size", dims.n_mels, "frames"])]
    outputs = [info(output, _FLOAT, ["batch_size", "positions", dims.n_audio_state])]
    return helper.make_graph(g.nodes, "encoder", inputs, outputs, g.initializers)


def decoder(
    dims: ModelDimensions, tensors: Mapping[str, Stored], half: bool = False
) -> onnx.GraphProto:
    """`input_ids` (B, n) int64 that follow those in the cache -> `logits` (B, n, n_vocab)."""
    g = Graph(tensors, half=half)
    width, heads = dims.n_text_state, dims.n_text_head
    offset = g.op("Shape", cache(0, "decoder", "key"), start=2, end=3)
    x, mask, _ = begin(g, "input_ids", offset)
    for layer in range(dims.n_text_layer):
        block = f"decoder.blocks.{layer}"
        h = g.norm(x, f"{block}.attn_ln")
        q = _query(g, g.linear(h, f"{block}.attn.query"), heads, width)
        kv = []
        for part in ("key", "value"):
            new = _split(g, g.linear(h, f"{block}.attn.{part}"), heads, width)
            before = g.given(cache(layer, "decoder", part))
            kv.append(g.op("Concat", before, new, axis=2, output=now(layer, "decoder", part)))
        x = g.op("Add", x, g.linear(_attend(g, q, *kv, width, mask), f"{block}.attn.out"))
        h = g.norm(x, f"{block}.cross_attn_ln")
        q = _query(g, g.linear(h, f"{block}.cross_attn.query"), heads, width)
        x = g.op("Add", x, g.linear(_cross(g, dims, half, layer, q), f"{block}.cross_attn.out"))
        x = g.feed_forward(x, block)
    g.product(g.norm(x, "decoder.ln"), EMBEDDING, output="logits")
    return helper.make_graph(g.nodes, "decoder", *_values(dims), g.initializers)


def cache(layer: int, side: str, part: str) -> str:
    """The input for keys or values of a layer: `side` is `decoder`, or `encoder` of cross ones."""
    return f"past_key_values.{layer}.{side}.{part}"


def now(layer: int, side: str, part: str) -> str:
    """The output that is the next step's `cache`."""
    return f"present.{layer}.{side}.{part}"


def caches(dims: ModelDimensions) -> list[tuple[int, str, str]]:
    """Layer, side and part of each cache, in the order of inputs and outputs."""
    return [
        (layer, side, part)
        for layer in range(dims.n_text_layer)
        for side in ("decoder", "encoder")
        for part in ("key", "value")
    ]


def _cross(g: Graph, dims: ModelDimensions, half: bool, layer: int, q: str) -> str:
    """Cross attention of a layer: a branch for keys and values that are given, one that makes them.

    What is heard, (B, n, width), and `now` of both parts.
    """
    width, heads, parts = dims.n_text_state, dims.n_text_head, ("key", "value")
    kind = TensorProto.FLOAT16 if half else _FLOAT
    given = Graph(g.tensors, inside=g, half=half, name=f"given_{layer}")
    kv = [given.given(cache(layer, "encoder", part)) for part in parts]
    outputs = [(_attend(given, q, *kv, width), kind)]
    nothing = np.zeros((0, heads, 0, width // heads), np.float32)
    outputs += [(given.constant(nothing), _FLOAT) for _ in parts]
    made = Graph(g.tensors, inside=g, half=half, name=f"made_{layer}")
    heard, kv = made.given("encoder_hidden_states"), []
    names = [f"made_{layer}.{part}" for part in parts]
    for part, name in zip(parts, names, strict=True):
        y = made.linear(heard, f"decoder.blocks.{layer}.cross_attn.{part}")
        kv.append(_split(made, y, heads, width, name))
    branches = [
        (given, outputs),
        (made, [(_attend(made, q, *kv, width), kind), *((name, _FLOAT) for name in names)]),
    ]
    bodies = [
        helper.make_graph(
            branch.nodes,
            name,
            [],
            [helper.make_tensor_value_info(*output, None) for output in outputs],
        )
        for name, (branch, outputs) in zip(("then_branch", "else_branch"), branches, strict=True)
    ]
    found = [f"If_{layer}", *(now(layer, "encoder", part) for part in parts)]
    node = helper.make_node(
        "If", ["use_cache_branch"], found, found[0], then_branch=bodies[0], else_branch=bodies[1]
    )
    g.nodes.append(node)
    return found[0]


def _split(g: Graph, x: str, heads: int, width: int, output: str = "") -> str:
    """(B, positions, width) -> (B, heads, positions, state)."""
    x = g.op("Reshape", x, g.ints(0, 0, heads, width // heads))
    return g.op("Transpose", x, perm=[0, 2, 1, 3], output=output)


def _query(g: Graph, q: str, heads: int, width: int) -> str:
    scale = g.constant(g.dtype.type((width // heads) ** -0.5))
    return _split(g, g.op("Mul", q, scale), heads, width)


def _attend(g: Graph, q: str, k: str, v: str, width: int, mask: str | None = None) -> str:
    return g.attend(q, g.op("Transpose", k, perm=[0, 1, 3, 2]), v, width, mask)


def _values(
    dims: ModelDimensions,
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the decoder."""
    info, state = helper.make_tensor_value_info, dims.n_text_state // dims.n_text_head

    def shape(side: str, length: str) -> list[int | str]:
        return ["batch_size", dims.n_text_head, f"{side}_{length}", state]

    inputs = [
        info("input_ids", TensorProto.INT64, ["batch_size", "n"]),
        info("encoder_hidden_states", _FLOAT, ["batch_size", "positions", dims.n_audio_state]),
        *(
            info(cache(i, side, part), _FLOAT, shape(side, "past"))
            for i, side, part in caches(dims)
        ),
        info("use_cache_branch", TensorProto.BOOL, [1]),
    ]
    outputs = [
        info("logits", _FLOAT, ["batch_size", "n", dims.n_vocab]),
        *(info(now(*each), _FLOAT, shape(each[1], "now")) for each in caches(dims)),
    ]
    return inputs, outputs
