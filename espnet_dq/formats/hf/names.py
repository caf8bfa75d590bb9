"""Hugging Face's names of a Whisper's tensors and dimensions, and openai-whisper's."""

from collections.abc import Mapping
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import json_file
from espnet_dq.whisper.weights import check_dims

_PARTS = {
    "layers": "blocks",
    "self_attn": "attn",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn": "cross_attn",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
    "embed_tokens": "token_embedding",
}
_THEIRS = {ours: theirs for theirs, ours in _PARTS.items()}

# openai-whisper's dimension -> its key in config.json.
DIMS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}


def openai_name(name: str) -> str:
    """openai-whisper's name of `model.{encoder,decoder}.` + Hugging Face's name.

    Example usage::

        openai_name("decoder.layers.0.fc1.weight")  # "decoder.blocks.0.mlp.0.weight"
    """
    side, *parts = name.removeprefix("model.").split(".")
    if parts[0] == "embed_positions":
        return f"{side}.positional_embedding"
    if parts[0] == "layer_norm":
        parts[0] = "ln_post" if side == "encoder" else "ln"
    return ".".join([side, *(_PARTS.get(part, part) for part in parts)])


def hf_name(name: str) -> str:
    """The inverse of `openai_name`, from `model.` on.

    Example usage::

        hf_name("decoder.blocks.0.mlp.0.weight")  # "model.decoder.layers.0.fc1.weight"
    """
    side, rest = name.split(".", 1)
    if rest == "positional_embedding":
        return f"model.{side}.embed_positions.weight"
    for layer in ("mlp.0", "mlp.2"):  # the only parts with a dot in them
        rest = rest.replace(layer, _THEIRS[layer])
    parts = rest.split(".")
    if parts[0] in ("ln_post", "ln"):
        parts[0] = "layer_norm"
    return ".".join(["model", side, *(_THEIRS.get(part, part) for part in parts)])


def read_json(path: Path) -> dict:
    """The table that a JSON file holds; raises `InputError` when it does not."""
    content = json_file.read(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a table of keys and values")
    return content


def read_dims(config: Mapping[str, object], source: object) -> ModelDimensions:
    """Dimensions that a config.json gives; raises `InputError` for a bad or missing one."""
    missing = [key for key in DIMS.values() if key not in config]
    if missing:
        raise InputError(f"{source}: {missing[0]} is missing")
    return check_dims(ModelDimensions(**{k: config[v] for k, v in DIMS.items()}), str(source))
