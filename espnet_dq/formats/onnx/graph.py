"""Whisper as two ONNX graphs, built node by node: no tracing, so our integers stay as they are.

The interface is sherpa-onnx's. The encoder gives the keys and values of the decoder's cross
attention, [text layer, clip, position, state]; the decoder takes and gives its own keys and
values in the same layout. That cache is either as long as the text context, filled up to
`offset` (sherpa-onnx), or exactly `offset` long, and then grows (ours).

A stored weight becomes float32 by Cast. ONNX Runtime folds that when it loads a model; it would
leave DequantizeLinear in, and run it for every token. Matrices on a grid of rows are multiplied
as integers, by rows that are rounded to integers as well (`Graph.as_integers`); convolutions on it
become float32, times their scales. Weights in ggml's blocks stay what they are in memory, too: ONNX
Runtime's MatMulNBits and GatherBlockQuantized compute with them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from whisper.model import ModelDimensions

# The first with Gelu; IR 10 is what ONNX wrote then.
OPSET, IR_VERSION = 20, 10
CONTRIB = "com.microsoft"  # domain of ONNX Runtime's own operators
BLOCK = 32  # columns that share a scale on the grids of blocks
BITS = {"ggml_q8_0": 8, "ggml_q4_0": 4}  # of those grids' integers
# Of MatMulNBits: integers times integers, of what it multiplies with, too, in blocks. Without it
# products of 8 bits are many times slower for one row, those of 4 bits as fast.
INTEGER_PRODUCTS, ACCURACY_LEVEL = (8,), 4
EMBEDDING = "decoder.token_embedding.weight"
# Of the rows that meet matrices on a grid of rows: 127 steps to either side of a zero at 128, since
# x86 processors multiply unsigned bytes by signed ones. A row of zeros is divided by FLOOR.
TOP, ZERO, FLOOR = np.float32(127), np.uint8(128), np.float32(1e-30)
_END = np.iinfo(np.int64).max


class Stored(NamedTuple):
    """A tensor as the file holds it: openai-whisper's shape, or for a linear its transpose.

    `values`: float16, float32 or int8; `scale`: of int8, float32 [rows of the weight], or on a grid
    of blocks float16 [rows, blocks], and `bits` then those of an integer there.
    """

    values: np.ndarray
    scale: np.ndarray | None = None
    bits: int | None = None


def stored_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which a weight is stored: linears as [in, out], the rest as in openai-whisper."""
    return shape[::-1] if is_linear(name) else shape


def scale_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which the scales of a weight of openai-whisper's `shape` are stored."""
    return shape[:1] if is_linear(name) else (shape[0],) + (1,) * (len(shape) - 1)


def in_blocks(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers [rows, columns] as uint8 [rows, blocks, 4 * bits], of 0 in the middle.

    Of two integers of 4 bits in a byte the first has the lower half, as MatMulNBits wants it.
    """
    moved = (values.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        moved = moved[:, 0::2] | moved[:, 1::2] << 4
    return moved.reshape(len(values), values.shape[1] // BLOCK, -1)


def is_linear(name: str) -> bool:
    """Whether a weight is a linear layer's; not the token embedding, nor a convolution."""
    return name.endswith(".weight") and ".blocks." in name and "_ln." not in name


def encoder(dims: ModelDimensions, tensors: Mapping[str, Stored]) -> onnx.GraphProto:
    """`mel` (B, mels, frames) float32 -> keys and values of cross attention.

    Frames beyond the model's window are not heard; fewer give fewer positions.
    """
    g = Graph(tensors)
    x = hear(g, "mel", dims)
    outputs = []
    for part in ("key", "value"):
        each = [
            g.unsqueeze(g.linear(x, f"decoder.blocks.{i}.cross_attn.{part}"))
            for i in range(dims.n_text_layer)
        ]
        outputs.append(g.op("Concat", *each, axis=0, output=f"n_layer_cross_{part[0]}"))
    info, cross = helper.make_tensor_value_info, _cross(dims)
    return helper.make_graph(
        g.nodes,
        "encoder",
        [info("mel", TensorProto.FLOAT, ["n_audio", dims.n_mels, "n_frames"])],
        [info(name, TensorProto.FLOAT, cross) for name in outputs],
        g.initializers,
    )


def hear(g: "Graph", mel: str, dims: ModelDimensions, output: str = "") -> str:
    """The encoder: log-mel features (B, mels, frames) -> (B, positions, width)."""
    width, heads = dims.n_audio_state, dims.n_audio_head
    x = g.slice(mel, g.ints(0), g.ints(2 * dims.n_audio_ctx), axis=2)
    x = g.op("Gelu", g.conv(x, "encoder.conv1", stride=1))
    x = g.op("Gelu", g.conv(x, "encoder.conv2", stride=2))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    length = g.op("Shape", x, start=1, end=2)
    positions = g.tensor("encoder.positional_embedding")
    x = g.op("Add", x, g.slice(positions, g.ints(0), length, axis=0))
    for layer in range(dims.n_audio_layer):
        block = f"encoder.blocks.{layer}"
        h = g.norm(x, f"{block}.attn_ln")
        q, k, v = (g.linear(h, f"{block}.attn.{part}") for part in ("query", "key", "value"))
        x = g.op("Add", x, g.linear(g.attention(q, k, v, heads, width), f"{block}.attn.out"))
        x = g.feed_forward(x, block)
    return g.norm(x, "encoder.ln_post", output)


def decoder(dims: ModelDimensions, tensors: Mapping[str, Stored]) -> onnx.GraphProto:
    """`tokens` (B, n) int64 that follow `offset` (1,) others -> logits (B, n, n_vocab), caches."""
    g = Graph(tensors)
    width, heads = dims.n_text_state, dims.n_text_head
    x, mask, end = begin(g, "tokens", "offset")
    past, new = {}, {"k": [], "v": []}
    for part in "kv":
        past[part] = g.slice(f"in_n_layer_self_{part}_cache", g.ints(0), "offset", axis=2)
    for layer in range(dims.n_text_layer):
        block, index = f"decoder.blocks.{layer}", g.constant(np.int64(layer))
        h = g.norm(x, f"{block}.attn_ln")
        q = g.linear(h, f"{block}.attn.query")
        kv = []
        for part, projection in (("k", "key"), ("v", "value")):
            now = g.linear(h, f"{block}.attn.{projection}")
            new[part].append(g.unsqueeze(now))
            before = g.op("Gather", past[part], index, axis=0)
            kv.append(g.op("Concat", before, now, axis=1))
        x = g.op("Add", x, g.linear(g.attention(q, *kv, heads, width, mask), f"{block}.attn.out"))
        q = g.linear(g.norm(x, f"{block}.cross_attn_ln"), f"{block}.cross_attn.query")
        kv = [g.op("Gather", f"n_layer_cross_{part}", index, axis=0) for part in "kv"]
        x = g.op("Add", x, g.linear(g.attention(q, *kv, heads, width), f"{block}.cross_attn.out"))
        x = g.feed_forward(x, block)
    g.product(g.norm(x, "decoder.ln"), EMBEDDING, output="logits")
    for part in "kv":
        now = g.op("Concat", *new[part], axis=0)
        rest = g.slice(f"in_n_layer_self_{part}_cache", end, g.ints(_END), axis=2)
        name = f"out_n_layer_self_{part}_cache"
        g.op("Concat", past[part], now, rest, axis=2, output=name)

    return helper.make_graph(g.nodes, "decoder", *_decoder_values(dims), g.initializers)


def begin(g: "Graph", tokens: str, offset: str) -> tuple[str, str, str]:
    """Embedded tokens (B, n) that follow `offset` (1,) others; their mask; where they end (1,)."""
    end = g.op("Add", offset, g.op("Shape", tokens, start=1, end=2))
    zero, one = g.constant(np.int64(0)), g.constant(np.int64(1))
    positions = g.op("Range", g.op("Squeeze", offset), g.op("Squeeze", end), one)
    keys = g.op("Range", zero, g.op("Squeeze", end), one)
    seen = g.op("LessOrEqual", keys, g.op("Unsqueeze", positions, g.ints(1)))
    minus_infinity = g.constant(g.dtype.type(-np.inf))
    mask = g.op("Where", seen, g.constant(g.dtype.type(0)), minus_infinity)
    x = g.rows(EMBEDDING, tokens)
    x = g.op("Add", x, g.rows("decoder.positional_embedding", positions))
    return x, mask, end


def _decoder_values(
    dims: ModelDimensions,
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the decoder."""
    info, floats = helper.make_tensor_value_info, TensorProto.FLOAT
    cache, width = [dims.n_text_layer, "n_audio"], dims.n_text_state
    return (
        [
            info("tokens", TensorProto.INT64, ["n_audio", "n_tokens"]),
            *(info(f"in_n_layer_self_{p}_cache", floats, [*cache, "n_cache", width]) for p in "kv"),
            *(info(f"n_layer_cross_{p}", floats, _cross(dims)) for p in "kv"),
            info("offset", TensorProto.INT64, [1]),
        ],
        [
            info("logits", floats, ["n_audio", "n_tokens", dims.n_vocab]),
            *(
                info(f"out_n_layer_self_{p}_cache", floats, [*cache, "n_cache_out", width])
                for p in "kv"
            ),
        ],
    )


def _cross(dims: ModelDimensions) -> list[int | str]:
    return [dims.n_text_layer, "n_audio", "n_positions", dims.n_text_state]


class Graph:
    """Nodes and initializers of a graph that grows; methods return the name of their result."""

    def __init__(
        self,
        tensors: Mapping[str, Stored],
        inside: "Graph | None" = None,
        half: bool = False,
        name: str = "",
    ) -> None:
        """A graph without nodes.

        Args:
            tensors: what it may use.
            inside: the graph of whose branch this is, and which stores the tensors of both.
            half: it computes in float16. What it takes and gives stays float32: see `given`, `op`.
            name: of a branch; those of its nodes begin with it, as names are those of one graph.
        """
        self.tensors = tensors
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self._half = half
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = inside.initializers if inside else []
        self._known: dict[str, str] = inside._known if inside else {}  # initializers
        self._wide: dict[str, str] = {}  # of scales of blocks, their float32 values
        self._rounded: dict[str, tuple[str, str]] = {}  # what has been rounded: see `as_integers`
        self._prefix = f"{name}_" if name else ""

    def op(self, kind: str, *inputs: str, output: str = "", **attributes) -> str:
        """A node with one output.

        With a name for it, it is what the graph gives: in float32, whatever it computes in. What is
        returned is the name of what is computed.
        """
        found = output
        if not output or self._half:
            found = f"{self._prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [found], found, **attributes))
        if output and self._half:
            given = helper.make_node("Cast", [found], [output], output, to=TensorProto.FLOAT)
            self.nodes.append(given)
        return found

    def given(self, x: str) -> str:
        """What the graph is given, in float32, as it computes."""
        return self.op("Cast", x, to=TensorProto.FLOAT16) if self._half else x

    def constant(self, value: np.ndarray) -> str:
        """A constant, which is no weight: a node, not an initializer."""
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(np.array(values, np.int64))

    def slice(self, x: str, start: str, end: str, axis: int) -> str:
        """x[start:end] along one axis."""
        return self.op("Slice", x, start, end, self.ints(axis))

    def unsqueeze(self, x: str) -> str:
        """A new first dimension."""
        return self.op("Unsqueeze", x, self.ints(0))

    def initializer(self, name: str, values: np.ndarray) -> str:
        """A stored array, stored once."""
        if name not in self._known:
            self._known[name] = name
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def stored(self, name: str) -> tuple[str, str | None]:
        """Initializers of a tensor's values and scales."""
        values, scale, bits = self.tensors[name]
        shape = values.shape
        if bits:
            return (
                self.initializer(name, in_blocks(values, bits)),
                self.initializer(f"{name}.scale", scale),
            )
        if is_linear(name):
            values = values.T
        stored = self.initializer(name, values)
        if scale is None:
            return stored, None
        return stored, self.initializer(f"{name}.scale", scale.reshape(scale_shape(name, shape)))

    def numbers(self, values: str, scale: str | None, dtype: np.dtype) -> str:
        """Stored values as the numbers that they stand for."""
        if dtype != self.dtype:
            values = self.op("Cast", values, to=helper.np_dtype_to_tensor_dtype(self.dtype))
        return self.op("Mul", values, scale) if scale else values

    def tensor(self, name: str) -> str:
        """A whole tensor as it is computed with."""
        return self.numbers(*self.stored(name), self.tensors[name].values.dtype)

    def block_scale(self, scale: str) -> str:
        """Scales of blocks, which are float16, as they are computed with: converted once."""
        if self._half:
            return scale
        if scale not in self._wide:
            self._wide[scale] = self.op("Cast", scale, to=TensorProto.FLOAT)
        return self._wide[scale]

    def rows(self, name: str, indices: str) -> str:
        """Some rows of a matrix: only they are converted."""
        values, scale = self.stored(name)
        if bits := self.tensors[name].bits:
            values = self.op("Reshape", values, self.ints(0, -1))
            return self.op(
                "GatherBlockQuantized", values, indices, self.block_scale(scale), domain=CONTRIB,
                bits=bits, block_size=BLOCK, gather_axis=0, quantize_axis=1,
            )  # fmt: skip
        values = self.op("Gather", values, indices)
        scale = scale and self.op("Gather", scale, indices)
        return self.numbers(values, scale, self.tensors[name].values.dtype)

    def product(self, x: str, name: str, output: str = "") -> str:
        """x times a weight, a linear layer's or the embedding."""
        bits = self.tensors[name].bits
        if bits is None:
            if self.tensors[name].scale is not None:
                return self.integer_product(x, name, output)
            weight = self.tensor(name)
            if not is_linear(name):
                weight = self.op("Transpose", weight, perm=[1, 0])
            return self.op("MatMul", x, weight, output=output)
        weight, scale = self.stored(name)
        rows, columns = self.tensors[name].values.shape
        level = {"accuracy_level": ACCURACY_LEVEL} if bits in INTEGER_PRODUCTS else {}
        return self.op(
            "MatMulNBits", x, weight, self.block_scale(scale), output=output, domain=CONTRIB,
            N=rows, K=columns, bits=bits, block_size=BLOCK, **level,
        )  # fmt: skip

    def as_integers(self, x: str) -> tuple[str, str]:
        """The rows of x as uint8 around `ZERO`, and a scale for each row (..., 1); done once.

        `round_half_even(x * (TOP / max|row|))`, times `max|row| / TOP`; known to training as
        `int8_rows` (`espnet_dq.quant.activations`).
        """
        if x not in self._rounded:
            low = self.op("Neg", self.op("ReduceMin", x, self.ints(-1), keepdims=1))
            high = self.op("ReduceMax", x, self.ints(-1), keepdims=1)
            most, top = self.op("Max", low, high, self.constant(FLOOR)), self.constant(TOP)
            steps = self.op("Mul", x, self.op("Div", top, most))
            one, zero = self.constant(np.float32(1)), self.constant(ZERO)
            integers = self.op("QuantizeLinear", steps, one, zero)
            self._rounded[x] = integers, self.op("Div", most, top)
        return self._rounded[x]

    def integer_product(self, x: str, name: str, output: str = "") -> str:
        """x times a weight on a grid of rows, both as integers.

        The scales are two products. Of one, by their outer product, ONNX Runtime 1.32 makes a
        MatMulIntegerToFloat, which adds the bias before it multiplies by the scales of x's rows.
        """
        weight, scale = self.stored(name)
        if not is_linear(name):
            weight = self.op("Transpose", weight, perm=[1, 0])
            scale = self.op("Reshape", scale, self.ints(-1))
        integers, each = self.as_integers(x)
        sums = self.op("MatMulInteger", integers, weight, self.constant(ZERO))
        rows = self.op("Mul", self.op("Cast", sums, to=TensorProto.FLOAT), each)
        return self.op("Mul", rows, scale, output=output)

    def linear(self, x: str, name: str) -> str:
        """x W + b; keys have no b."""
        y = self.product(x, f"{name}.weight")
        bias = f"{name}.bias"
        return self.op("Add", y, self.tensor(bias)) if bias in self.tensors else y

    def conv(self, x: str, name: str, stride: int) -> str:
        """A convolution of width 3 over frames."""
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self.op("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1], strides=[stride])

    def norm(self, x: str, name: str, output: str = "") -> str:
        """LayerNorm over the last dimension."""
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        kind = "LayerNormalization"
        return self.op(kind, x, weight, bias, output=output, axis=-1, epsilon=1e-5)

    def feed_forward(self, x: str, block: str) -> str:
        """x + MLP(LayerNorm(x))."""
        h = self.linear(self.norm(x, f"{block}.mlp_ln"), f"{block}.mlp.0")
        return self.op("Add", x, self.linear(self.op("Gelu", h), f"{block}.mlp.2"))

    def attention(
        self, q: str, k: str, v: str, heads: int, width: int, mask: str | None = None
    ) -> str:
        """softmax(q k' / sqrt(width / heads) + mask) v for each head; all (B, positions, width)."""
        split = self.ints(0, 0, heads, width // heads)
        q = self.op("Mul", q, self.constant(self.dtype.type((width // heads) ** -0.5)))
        q = self.op("Transpose", self.op("Reshape", q, split), perm=[0, 2, 1, 3])
        k = self.op("Transpose", self.op("Reshape", k, split), perm=[0, 2, 3, 1])
        v = self.op("Transpose", self.op("Reshape", v, split), perm=[0, 2, 1, 3])
        return self.attend(q, k, v, width, mask)

    def attend(self, q: str, k: str, v: str, width: int, mask: str | None = None) -> str:
        """softmax(q k + mask) v of (B, heads, ...) -> (B, positions, width).

        `q` is scaled before, `k` (B, heads, state, positions).
        """
        scores = self.op("MatMul", q, k)
        if mask:
            scores = self.op("Add", scores, mask)
        x = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        x = self.op("Transpose", x, perm=[0, 2, 1, 3])
        return self.op("Reshape", x, self.ints(0, 0, width))
