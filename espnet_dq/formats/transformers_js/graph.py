"""Whisper as the two ONNX graphs that transformers.js and optimum run.

Names, inputs and outputs are Hugging Face's: `encoder_model` gives `last_hidden_state`, and
`decoder_model_merged` takes and gives keys and values of each layer, (clip, head, position,
state). Where `use_cache_branch` is false those of cross attention are computed from
`encoder_hidden_states`, else they are passed through. Sums and stored weights are as in
`espnet_dq.formats.onnx.graph`.

A graph that computes in float16 (`half`) takes and gives float32, as those of Hugging Face do: so
one of the two fits to the other, whatever each computes in. transformers.js casts nothing between
them, and before version 4 gives caches of float32 to all.
"""

from collections.abc import Mapping

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
    _cross(g, dims, half)
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
        kv = [g.given(now(layer, "encoder", part)) for part in ("key", "value")]
        x = g.op("Add", x, g.linear(_attend(g, q, *kv, width), f"{block}.cross_attn.out"))
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


def _cross(g: Graph, dims: ModelDimensions, half: bool) -> None:
    """Keys and values of cross attention, of all layers: one branch."""
    of_cross = [each for each in caches(dims) if each[1] == "encoder"]
    passed, made = Graph(g.tensors, inside=g), Graph(g.tensors, inside=g, half=half)
    heard = made.given("encoder_hidden_states")
    branches = []
    for name, branch in (("then_branch", passed), ("else_branch", made)):
        outputs = []
        for layer, side, part in of_cross:
            output = f"{name}.{layer}.{part}"
            if branch is passed:
                branch.op("Identity", cache(layer, side, part), output=output)
            else:
                weight = f"decoder.blocks.{layer}.cross_attn.{part}"
                y = branch.linear(heard, weight)
                _split(branch, y, dims.n_text_head, dims.n_text_state, output)
            outputs.append(helper.make_tensor_value_info(output, _FLOAT, None))
        branches.append(helper.make_graph(branch.nodes, name, [], outputs))
    g.nodes.append(
        helper.make_node(
            "If",
            ["use_cache_branch"],
            [now(*each) for each in of_cross],
            "If",
            then_branch=branches[0],
            else_branch=branches[1],
        )
    )


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
