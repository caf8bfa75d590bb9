"""Hugging Face's names of a Whisper's tensors, as openai-whisper calls them."""

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
