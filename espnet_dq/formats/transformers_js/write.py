"""Write a Hugging Face folder with ONNX graphs: our integers and scales as they are."""

from collections.abc import Mapping
from pathlib import Path

from espnet_dq.files import atomic
from espnet_dq.formats import companions
from espnet_dq.formats.hf.write import beside
from espnet_dq.formats.onnx.write import save_graph, stored
from espnet_dq.formats.transformers_js import TransformersJs, graph, names
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.weights import Weights


def save(
    folder: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
    half: bool = False,
) -> None:
    """Write the graphs and what Hugging Face's tools set themselves up from.

    Args:
        folder: where; appears whole or not at all, and replaces a folder of its own kind only.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales on a grid of `TransformersJs.grids`.
        float_dtype: `float16` or `float32`, for everything else in the files that compute in
            float32.
        half: files that compute in float16, too. They store float16.

    Raises:
        InputError: the weights are no Whisper, a quantized tensor does not fit, a graph is larger
            than an ONNX file can be (2 GiB), or there is no name for what `half` asks.
    """
    weights.check(str(folder))
    grids = {name: q.grid for name, q in quantized.items()}
    computed = {False: float_dtype, True: "float16"} if half else {False: float_dtype}
    with atomic(folder, TransformersJs.folder) as tmp:
        (tmp / "onnx").mkdir(parents=True)
        for in_half, dtype in computed.items():
            tensors = stored(weights, quantized, dtype, folder)
            for side, name in names(grids, in_half).items():
                made = getattr(graph, side)(weights.dims, tensors, in_half)
                save_graph(tmp / "onnx" / name, made, {}, folder)
        companions.write(tmp, beside(weights, "float32"))
