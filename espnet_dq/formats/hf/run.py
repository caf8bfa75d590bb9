"""Logits that transformers computes."""

from pathlib import Path

import numpy as np

from espnet_dq.formats.hf.quiet import quiet
from espnet_dq.formats.logits import Probe


def logits(path: Path, probe: Probe) -> np.ndarray:
    """Logits of the probe; see `espnet_dq.formats.logits`."""
    import torch
    from transformers import WhisperForConditionalGeneration

    with quiet():
        model, info = WhisperForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise ValueError(f"{kind}: {sorted(map(str, info[kind]))[0]}")
    model.eval()
    found = []
    with torch.inference_mode():
        for mel in probe.mels:
            audio = model.get_encoder()(torch.from_numpy(mel)[None])
            logits = [
                model(encoder_outputs=audio, decoder_input_ids=torch.tensor([text])).logits[0]
                for text in probe.texts
            ]
            found.append([rows[-probe.count - 1 : -1].numpy() for rows in logits])
    return np.array(found)
