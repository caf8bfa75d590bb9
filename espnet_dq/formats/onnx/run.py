"""Logits that ONNX Runtime computes."""

from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe
from espnet_dq.jobs import threads


def logits(path: Path, probe: Probe) -> np.ndarray:
    """Logits of the probe; see `espnet_dq.formats.logits`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    encoder, decoder = (
        onnxruntime.InferenceSession(
            path / f"{side}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for side in ("encoder", "decoder")
    )
    layers, width = probe.shape
    names = [value.name for value in decoder.get_inputs()]
    found = []
    for mel in probe.mels:
        cross = encoder.run(None, {"mel": mel[None]})
        rows = []
        for text in probe.texts:
            tokens = np.array([text])
            caches = [np.zeros((layers, 1, probe.n_text_ctx, width), np.float32)] * 2
            start = len(text) - probe.count
            # The prompt, then the rest, as sherpa-onnx gives them: into a cache of full length.
            inputs = [tokens[:, :start], *caches, *cross, np.array([0])]
            first, *caches = decoder.run(None, dict(zip(names, inputs, strict=True)))
            inputs = [tokens[:, start:-1], *caches, *cross, np.array([start])]
            rest = decoder.run(None, dict(zip(names, inputs, strict=True)))[0]
            rows.append(np.concatenate([first[0, -1:], rest[0]]))
        found.append(rows)
    return np.array(found)
