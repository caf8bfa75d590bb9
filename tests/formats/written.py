"""Files of every format as our writers make them, and changes of them."""

import json
from dataclasses import replace
from functools import cache

import torch
from whisper.model import ModelDimensions, Whisper

from espnet_dq.errors import DQError
from espnet_dq.formats.verify import compare
from espnet_dq.whisper.vocabulary import closure, own_vocabulary, whole_tokenizer

CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
PREPROCESSOR, VOCABULARY = "preprocessor_config.json", "vocabulary.json"
WHOLE = ModelDimensions(80, 100, 32, 2, 2, 51865, 32, 32, 2, 2)
GRIDS = {"ct2": "ct2_int8", "ggml": "ggml_q5_0", "onnx": "onnx_int8",
         "transformers_js": "ggml_q4_0", "hf": "uniform4",
         "packed": "uniform3", "openai": "uniform4"}  # fmt: skip


@cache
def few() -> ModelDimensions:
    """With the tokens of a text and all special ones only: there is much less to read."""
    text = " Where is the station?"
    tokenizer = whole_tokenizer(WHOLE.n_vocab)
    kept = closure(tokenizer, tokenizer.encode(text)) | {*range(tokenizer.eot, WHOLE.n_vocab)}
    kept.add(
        tokenizer.encoding.encode_single_token(b"")
    )  # without it CTranslate2 only knows English
    return own_vocabulary(replace(WHOLE, n_vocab=len(kept)), sorted(kept), "toy")


def random_state(dims):
    torch.manual_seed(0)
    state = Whisper(dims).state_dict()
    for name, tensor in state.items():
        if name != "encoder.positional_embedding":
            tensor.copy_(torch.randn(tensor.shape) * (0.5 if tensor.dim() > 1 else 0.1))
        if "ln" in name and name.endswith("weight"):
            tensor += 1
    return state


def seen(path, reference) -> bool:
    try:
        return compare(path, reference).mismatched > 0
    except DQError:
        return True


def edit_json(file, edit):
    def change(path):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content, ensure_ascii=False))

    return file, change


def put(file, key, value):
    return edit_json(file, lambda content: content.__setitem__(key, value))


def drop(file, key):
    return edit_json(file, lambda content: content.__delitem__(key))
