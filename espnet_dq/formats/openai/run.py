"""Logits that openai-whisper computes."""

from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe, of_model


def logits(path: Path, probe: Probe) -> np.ndarray:
    """Logits of the probe; see `espnet_dq.formats.logits`."""
    import whisper

    # Absolute: of a file that is called `tiny` it would fetch OpenAI's.
    model = whisper.load_model(str(path.absolute()), device="cpu")
    return of_model(model, probe, probe.mels)
