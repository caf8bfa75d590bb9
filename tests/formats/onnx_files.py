"""ONNX folders: changes of their graphs, and sherpa-onnx, which runs them as they come."""

import onnx
import sherpa_onnx
from onnx import numpy_helper


def change(folder, side, edit):
    """Edit one model of a folder in place."""
    model = onnx.load(folder / f"{side}.onnx")
    edit(model)
    (folder / f"{side}.onnx").write_bytes(model.SerializeToString())


def initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def drop(name):
    return lambda model: model.graph.initializer.remove(initializer(model, name))


def values(name, array):
    return lambda model: initializer(model, name).CopyFrom(numpy_helper.from_array(array, name))


def swap_keys_and_values(model):
    for node in model.graph.node:
        for i, value in enumerate(node.input):
            if value in ("n_layer_cross_k", "n_layer_cross_v"):
                node.input[i] = {"k": "n_layer_cross_v", "v": "n_layer_cross_k"}[value[-1]]


def heard_by_sherpa(folder, language, audio):
    """The text and the tokens that sherpa-onnx hears in (samples,) at 16 kHz."""
    recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(
        encoder=str(folder / "encoder.onnx"),
        decoder=str(folder / "decoder.onnx"),
        tokens=str(folder / "tokens.txt"),
        language=language,
        num_threads=1,
    )
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, audio)
    recognizer.decode_stream(stream)
    return stream.result.text, stream.result.tokens
