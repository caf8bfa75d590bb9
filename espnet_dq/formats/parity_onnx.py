"""Is what an ONNX folder holds what training's forward pass used? Counted, bit by bit.

The files are read here with the `onnx` package alone; no code is shared with `quant/`, the writer
or its reader. A right weight can still be used wrongly, so the graphs are also run, against
openai-whisper's own model with the reference's weights.
"""

from base64 import b64decode
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from whisper.model import Whisper

from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats.parity import (
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    differing_bits,
    float_row,
    rounding_error,
)
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import numbers

_SIDES = ("encoder", "decoder")
# For float32 arithmetic in another order, relative to the largest value of an output.
_TOLERANCE = 1e-3


def compare_onnx(path: Path | str, reference: Reference) -> Report:
    """Compare each tensor of both files, the metadata, tokens.txt, and what the graphs compute.

    Integers times scales have to equal the reference's float32 values, and the scales the
    reference's, bit for bit. Floats: the reference cast to the file's type, bit for bit. Rows
    `cross keys`, `cross values` and `logits`: how many of the graphs' outputs for a fixed input,
    the tokens in two steps, are off by more than rounding.

    Raises:
        InputError: no readable ONNX folder.
        WorkError: it is another Whisper, a tensor is missing or unknown, or a graph does not run.
    """
    path = Path(path)
    models = {side: _read(path / f"{side}.onnx") for side in _SIDES}
    stored = {
        tensor.name: tensor for model in models.values() for tensor in model.graph.initializer
    }
    on_grid = {name for name in reference.weights if f"{name}.scale" in stored}
    wanted = {*reference.weights, *(f"{name}.scale" for name in on_grid)}
    if odd := sorted(wanted ^ stored.keys()):
        raise WorkError(f"{path}: {odd[0]} is {'missing' if odd[0] in wanted else 'unknown'}")
    if len(stored) != sum(len(model.graph.initializer) for model in models.values()):
        raise WorkError(f"{path}: a tensor is stored twice")
    rows, state = [], {}
    for name, weight in reference.weights.items():
        expected = weight.detach().cpu().float().numpy()
        values = _values(stored[name], path)
        size, grid = values.nbytes, reference.grids.get(name, "none")
        # Linear layers are stored for x W: [in, out].
        turned = ".blocks." in name and values.ndim == 2
        if values.shape != (expected.T if turned else expected).shape:
            raise WorkError(f"{path}: {name} has shape {values.shape}, of {expected.shape}")
        values = values.T if turned else values
        if name not in on_grid:
            rows.append(float_row(name, values, expected, reference))
            state[name] = expected.astype(values.dtype).astype(np.float32)
            continue
        state[name] = expected
        scale = _values(stored[f"{name}.scale"], path)
        if values.dtype != np.int8 or scale.dtype != np.float32 or scale.size != len(expected):
            raise WorkError(f"{path}: {name} is not int8 with a float32 scale for each row")
        each = scale.reshape(-1, *[1] * (expected.ndim - 1))
        dequantized = values.astype(np.float32) * each
        # The sign of a zero does not count: integers have none.
        wrong = int(np.count_nonzero(dequantized != expected))
        if grid == "onnx_int8":
            theirs = reference.scales[name].detach().cpu().float().numpy()
            differing = differing_bits(scale.ravel(), theirs.ravel())
        else:
            wrong, differing = expected.size, scale.size
        error, size = rounding_error({name: dequantized}, reference.floats), size + scale.nbytes
        rows.append(Row(name, values.shape, grid, 8, size, ON_GRID, error, wrong, differing))
    constants = _constants(path, models["encoder"], reference)
    return Report([*rows, *constants, *_outputs(path, reference, state)])


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as e:
        raise InputError(f"{path}: not a readable ONNX model ({type(e).__name__})") from e
    return model


def _values(tensor: onnx.TensorProto, path: Path) -> np.ndarray:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise InputError(f"{path}: {tensor.name} lies in another file, which is not read")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path}: {tensor.name} is damaged ({type(e).__name__})") from e


def _constants(path: Path, encoder: onnx.ModelProto, reference: Reference) -> list[Row]:
    """Rows for what is the same in every Whisper of these dimensions: metadata and tokens.txt."""
    tokenizer = any_tokenizer(reference.dims)
    expected = {key: str(value) for key, value in numbers(reference.dims).items()}
    for key in ("sot", "eot", "no_speech", "transcribe", "translate", "no_timestamps"):
        expected[key] = str(getattr(tokenizer, key))
    languages = sorted(
        zip(tokenizer.all_language_tokens, tokenizer.all_language_codes, strict=True)
    )
    lists = [tokenizer.sot_sequence, tokenizer.non_speech_tokens, *zip(*languages, strict=True)]
    keys = ("sot_sequence", "non_speech_tokens", "all_language_tokens", "all_language_codes")
    for key, values in zip(keys, lists, strict=True):
        expected[key] = ",".join(map(str, values))
    expected["is_multilingual"] = str(int(tokenizer.language is not None))
    expected["blank_id"] = str(tokenizer.encode(" ")[0])
    found = {entry.key: entry.value for entry in encoder.metadata_props}
    wrong = sum(found.get(key) != value for key, value in expected.items())
    size, count = sum(map(len, found.values())), (len(found),)
    metadata = Row("metadata", count, "text", 8, size, OTHER, integers=wrong)

    file = path / "tokens.txt"
    try:
        text = file.read_text(encoding="ascii")
        tokens = [b64decode(line.split(" ")[0]) for line in text.splitlines()]
        ids = [int(line.split(" ")[1]) for line in text.splitlines()]
    except (OSError, ValueError, IndexError) as e:
        raise InputError(f"{file}: not a readable list of tokens ({type(e).__name__})") from e
    ordinary = range(tokenizer.eot)  # the first special token
    theirs = [(tokenizer.encoding.decode_single_token_bytes(i), i) for i in ordinary]
    pairs = zip_longest(zip(tokens, ids, strict=True), theirs)
    wrong = sum(ours != theirs for ours, theirs in pairs)
    return [metadata, Row("tokens", (len(tokens),), "text", 8, len(text), OTHER, integers=wrong)]


def _outputs(path: Path, reference: Reference, state: dict[str, np.ndarray]) -> list[Row]:
    """How much of what the graphs compute differs from openai-whisper, which gets `state`."""
    dims = reference.dims
    model = Whisper(dims)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()})
    random = np.random.default_rng(0)
    mel = random.normal(0, 0.5, (1, dims.n_mels, 2 * dims.n_audio_ctx)).astype(np.float32)
    tokens = random.integers(dims.n_vocab, size=(1, min(6, dims.n_text_ctx)))
    with torch.inference_mode():
        features = model.eval().encoder(torch.from_numpy(mel))
        attentions = [block.cross_attn for block in model.decoder.blocks]
        expected = {
            "cross keys": torch.stack([attention.key(features) for attention in attentions]),
            "cross values": torch.stack([attention.value(features) for attention in attentions]),
            "logits": model.decoder(torch.from_numpy(tokens), features),
        }
    cache = np.zeros((dims.n_text_layer, 1, dims.n_text_ctx, dims.n_text_state), np.float32)
    caches, found = [cache, cache], []
    try:
        encoder, decoder = (
            onnxruntime.InferenceSession(path / f"{side}.onnx", providers=["CPUExecutionProvider"])
            for side in _SIDES
        )
        cross = encoder.run(None, {"mel": mel})
        for start, part in ((0, tokens[:, :4]), (4, tokens[:, 4:])):
            names = [value.name for value in decoder.get_inputs()]
            inputs = [part, *caches, *cross, np.array([start])]
            logits, *caches = decoder.run(None, dict(zip(names, inputs, strict=True)))
            found.append(logits)
    except Exception as e:  # ONNX Runtime raises its own, of no common base
        raise WorkError(f"{path}: does not run: {str(e).strip().splitlines()[0]}") from e
    rows = []
    outputs = (*cross, np.concatenate(found, axis=1))
    for (name, tensor), output in zip(expected.items(), outputs, strict=True):
        theirs = tensor.numpy()
        if output.shape != theirs.shape:
            raise WorkError(f"{path}: {name} have shape {output.shape}, expected {theirs.shape}")
        near = np.abs(output - theirs) <= _TOLERANCE * np.abs(theirs).max()
        wrong = int(np.count_nonzero(~near))
        rows.append(Row(name, theirs.shape, "float32", 32, 0, OTHER, integers=wrong))
    return rows
