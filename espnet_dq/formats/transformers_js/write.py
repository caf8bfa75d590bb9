"""Write a Hugging Face folder with ONNX graphs: our integers and scales as they are."""

from collections.abc import Mapping
from pathlib import Path

from espnet_dq.files import atomic
from espnet_dq.formats import companions
from espnet_dq.formats.hf.write import beside
from espnet_dq.formats.onnx.write import save_graph, stored
from espnet_dq.formats.transformers_js import SIDES, TransformersJs, graph, suffix
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.weights import Weights


def save(
    folder: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
) -> None:
    """Write both graphs and what Hugging Face's tools set themselves up from.

    Args:
        folder: where; appears whole or not at all, and replaces a folder of its own kind only.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales on a grid of `TransformersJs.grids`.
        float_dtype: `float16` or `float32`, for everything else. All is computed in float32.

    Raises:
        InputError: the weights are no Whisper, a quantized tensor does not fit, or a graph is
            larger than an ONNX file can be (2 GiB).
    """
    weights.check(str(folder))
    tensors = stored(weights, quantized, float_dtype, folder)
    end = suffix({q.grid for q in quantized.values()})
    with atomic(folder, TransformersJs.folder) as tmp:
        (tmp / "onnx").mkdir(parents=True)
        for side, name in SIDES.items():
            made = getattr(graph, side)(weights.dims, tensors)
            save_graph(tmp / f"onnx/{name}{end}.onnx", made, {}, folder)
        companions.write(tmp, beside(weights, "float32"))
