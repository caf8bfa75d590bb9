"""One change at random to a written model, for `fuzz_verify.py`.

A change is a function (original, target, dice) -> (kind, what): it makes `target`, a copy of the
original that differs in one thing. Files are edited with the packages of their formats or byte by
byte, never with our own writers. `Unchanged`: the dice chose something that changes nothing.
"""

from fuzz_changes import ct2, ggml, onnx_graph
from fuzz_changes.common import REWRITTEN, Change, Unchanged
from fuzz_changes.files import file, json_of, one_byte, twice
from fuzz_changes.tensors import pt, safetensors_of

__all__ = ["CHANGES", "REWRITTEN", "Unchanged"]

_CT2_JSON = ("config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")
_HF_JSON = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
            "preprocessor_config.json")  # fmt: skip

_ONNX = onnx_graph.change_of({"encoder": "encoder.onnx", "decoder": "decoder.onnx"})
_MERGED = "onnx/decoder_model_merged_q4.onnx"
_TRANSFORMERS_JS = onnx_graph.change_of(
    {"encoder": "onnx/encoder_model_q4.onnx", "decoder": _MERGED}
)

CHANGES: dict[str, list[Change]] = {
    "ct2": [
        *[ct2.change] * 10,
        *map(json_of, _CT2_JSON),
        twice("config.json"),
        file,
        one_byte("model.bin"),
    ],
    "ggml": [*[ggml.change] * 8, one_byte(None)],
    "onnx": [*[_ONNX] * 10, file, one_byte("tokens.txt"), one_byte("decoder.onnx")],
    "transformers_js": [
        *[_TRANSFORMERS_JS] * 10,
        *map(json_of, _HF_JSON),
        file,
        one_byte(_MERGED),
    ],
    "hf": [
        *[safetensors_of("model.safetensors")] * 12,
        *map(json_of, _HF_JSON),
        twice("generation_config.json"),
        file,
        one_byte("model.safetensors"),
    ],
    "packed": [*[safetensors_of(None)] * 8, one_byte(None)],
    "openai": [*[pt] * 8, one_byte(None)],
}
