"""Write a Whisper as ONNX for ONNX Runtime and sherpa-onnx: our integers and scales as they are.

`encoder.onnx`, `decoder.onnx` and `tokens.txt` in a folder, with sherpa-onnx's inputs, outputs and
metadata; `read` reads them. Matrices on grid `onnx_int8` are int8 in the file and in memory; those
on `ggml_q8_0` and `ggml_q4_0`, integers and scales as in whisper.cpp's file, stay in blocks.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import helper
from whisper.model import ModelDimensions
from whisper.tokenizer import LANGUAGES

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.formats.ggml.write import ordinary_tokens
from espnet_dq.formats.onnx import Onnx
from espnet_dq.formats.onnx import graph as onnx_graph
from espnet_dq.formats.onnx.graph import BITS, BLOCK, CONTRIB, IR_VERSION, OPSET, Stored
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.any_window import ANY_WINDOW
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes
from espnet_dq.whisper.vocabulary import OwnVocabulary, numbers
from espnet_dq.whisper.weights import Weights, cast

ROWS, FOLDER = "onnx_int8", Onnx.folder


def check_vocabulary(dims: ModelDimensions) -> None:
    """Raise `InputError` for added special tokens: tokens.txt only lists those of text."""
    if isinstance(dims, OwnVocabulary) and dims.special:
        raise InputError(f"ONNX folders list no added special tokens, as {dims.special[0]!r}")


def check_grids(dims: ModelDimensions, grids: Mapping[str, str]) -> None:
    """Raise `InputError` for what is on a grid of blocks, but is no matrix to multiply by.

    Args:
        dims: the model's.
        grids: openai-whisper's name -> grid, of what is on one.
    """
    for name, shape in weight_shapes(dims).items():
        if grids.get(name) in BITS:
            if len(shape) != 2 or name.endswith("positional_embedding"):
                raise InputError(f"{name}: ONNX folders hold no {grids[name]} of it")
            if shape[1] % BLOCK:
                raise InputError(f"{name}: {shape[1]} columns are no multiple of {BLOCK}")


def save(
    folder: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
) -> None:
    """Write both graphs and tokens.txt into a new folder.

    Args:
        folder: where; appears whole or not at all, and replaces a folder of its own kind only.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales on a grid of `Onnx.grids`.
        float_dtype: `float16` or `float32`, for everything else. All is computed in float32.

    Raises:
        InputError: the weights are no Whisper, a quantized tensor does not fit, or a graph is
            larger than an ONNX file can be (2 GiB).
    """
    weights.check(str(folder))
    check_vocabulary(weights.dims)
    tensors = stored(weights, quantized, float_dtype, folder)
    metadata = sherpa_metadata(weights.dims, weights.any_window)
    with atomic(folder, FOLDER) as tmp:
        tmp.mkdir()
        for side in ("encoder", "decoder"):
            graph = getattr(onnx_graph, side)(weights.dims, tensors)
            save_graph(tmp / f"{side}.onnx", graph, metadata, folder)
        (tmp / "tokens.txt").write_text(tokens_txt(weights.dims), encoding="ascii")


def save_graph(
    path: Path, graph: onnx.GraphProto, metadata: Mapping[str, str], where: Path | str
) -> None:
    """Write a graph to `path`; raises `InputError`, naming `where`, above 2 GiB."""
    if sum(len(tensor.raw_data) for tensor in graph.initializer) > (2 << 30) - (1 << 20):
        raise InputError(f"{where}: the {graph.name} is over 2 GiB, too large for ONNX in one file")
    onnx.save(model(graph, metadata), path)


def model(graph: onnx.GraphProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """A graph as the model that a file holds."""
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == CONTRIB for node in graph.node):
        opsets.append(helper.make_opsetid(CONTRIB, 1))
    made = helper.make_model(
        graph, producer_name="espnet_dq", ir_version=IR_VERSION, opset_imports=opsets
    )
    helper.set_model_props(made, metadata)
    return made


def stored(
    weights: Weights, quantized: Mapping[str, Quantized], float_dtype: str, folder: Path | str
) -> dict[str, Stored]:
    """Each tensor as a graph stores it; raises `InputError` as `save`."""
    check_grids(weights.dims, {name: q.grid for name, q in quantized.items()})
    for name, q in quantized.items():
        if name not in weights.state:
            raise InputError(f"{name} is quantized, but no Whisper weight")
        shape = tuple(weights.state[name].shape)
        if q.grid not in Onnx.grids:
            raise InputError(f"{name} is on grid {q.grid}, ONNX needs {', '.join(Onnx.grids)}")
        if tuple(q.integers.shape) != shape or q.integers.dtype != torch.int8:
            raise InputError(f"{name}: the integers are not int8 of shape {shape}")
        dtype, scales = get_grid(q.grid).scale_like(shape)
        if tuple(q.scale.shape) != scales or q.scale.dtype != dtype:
            raise InputError(f"{name}: the scales are not {dtype} of shape {scales}")
    tensors = {}
    for name, tensor in weights.state.items():
        if name in quantized:
            q = quantized[name]
            scale = q.scale.cpu().numpy()
            tensors[name] = Stored(q.integers.cpu().numpy(), scale, BITS.get(q.grid))
        else:
            values = cast(tensor, getattr(torch, float_dtype), name, folder)
            tensors[name] = Stored(values.numpy())
    return tensors


def sherpa_metadata(dims: ModelDimensions, any_window: bool) -> dict[str, str]:
    """What sherpa-onnx reads from the encoder, with all of openai-whisper's dimensions.

    And what it passes over: whether the model was trained in windows of every length.
    """
    tokenizer = any_tokenizer(dims)
    # In the order of their ids; the tokenizer's own lists are in that of a set, another each time.
    languages = list(LANGUAGES)[: tokenizer.num_languages]
    values = {
        "model_type": "whisper",
        "version": 1,
        **numbers(dims),
        "is_multilingual": int(tokenizer.language is not None),
        "sot": tokenizer.sot,
        "sot_index": 0,
        "sot_sequence": tokenizer.sot_sequence,
        "sot_prev": tokenizer.sot_prev,
        "sot_lm": tokenizer.sot_lm,
        "eot": tokenizer.eot,
        "blank_id": tokenizer.encode(" ")[0],
        "no_speech": tokenizer.no_speech,
        "transcribe": tokenizer.transcribe,
        "translate": tokenizer.translate,
        "no_timestamps": tokenizer.no_timestamps,
        "non_speech_tokens": tokenizer.non_speech_tokens,
        "all_language_tokens": [tokenizer.to_language_token(code) for code in languages],
        "all_language_codes": languages,
        **({ANY_WINDOW: 1} if any_window else {}),
    }
    return {
        key: ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        for key, value in values.items()
    }


def tokens_txt(dims: ModelDimensions) -> str:
    """The ordinary tokens, one `base64 id` a line; an empty token is `=`."""
    encoded = (base64.b64encode(token).decode() or "=" for token in ordinary_tokens(dims))
    return "".join(f"{token} {i}\n" for i, token in enumerate(encoded))
