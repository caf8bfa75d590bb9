"""Logits that CTranslate2 computes."""

from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe
from espnet_dq.jobs import threads


def logits(path: Path, probe: Probe) -> np.ndarray:
    """In float32: in 8 bits, activations are rounded so that the last bit of a sum moves logits."""
    import ctranslate2

    ctranslate2.set_log_level(40)
    model = ctranslate2.models.Whisper(
        str(path), device="cpu", compute_type="float32", intra_threads=threads()
    )
    found = []
    for mel in probe.mels:
        audio = model.encode(ctranslate2.StorageView.from_array(mel[None]))
        rows = []
        for text in probe.texts:
            # The tokens behind the prompt are forced, and their logits returned.
            (result,) = model.generate(
                audio, [text], beam_size=1, return_logits_vocab=True, suppress_blank=False,
                suppress_tokens=[], max_length=probe.n_text_ctx,
            )  # fmt: skip
            rows.append(np.stack([np.array(each) for each in result.logits[0]]))
        found.append(rows)
    return np.array(found)
