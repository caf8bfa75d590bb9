"""Logits that ONNX Runtime computes of the graphs for transformers.js, step by step as it does."""

from pathlib import Path

import numpy as np

from espnet_dq.formats.logits import Probe
from espnet_dq.formats.transformers_js import files
from espnet_dq.jobs import threads


def logits(path: Path, probe: Probe, half: bool = False) -> np.ndarray:
    """Logits of the probe, see `espnet_dq.formats.logits`; `half`: as of `files`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    encoder, decoder = (
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for file in files(path, half).values()
    )
    names = [value.name for value in decoder.get_inputs()]
    pasts = [value for value in decoder.get_inputs() if value.name.startswith("past_key_values.")]
    empty = {v.name: np.zeros((1, v.shape[1], 0, v.shape[3]), np.float32) for v in pasts}
    found = []
    for mel in probe.mels:
        (heard,) = encoder.run(None, {"input_features": mel[None]})
        rows = []
        for text in probe.texts:
            tokens, start = np.array([text]), len(text) - probe.count
            inputs = {"encoder_hidden_states": heard} | empty
            each = []
            # The prompt, the next token alone, the rest: all that the cache can be asked.
            for part, cached in (
                (tokens[:, :start], False),
                (tokens[:, start : start + 1], True),
                (tokens[:, start + 1 : -1], True),
            ):
                if part.size:
                    inputs |= {"input_ids": part, "use_cache_branch": np.array([cached])}
                    logits, *present = decoder.run(None, {name: inputs[name] for name in names})
                    # Those of cross attention are empty once they are given, and kept.
                    inputs |= {v.name: p for v, p in zip(pasts, present, strict=True) if p.size}
                    each.append(logits[0])
            rows.append(np.concatenate(each)[-probe.count :])
        found.append(rows)
    return np.array(found)
