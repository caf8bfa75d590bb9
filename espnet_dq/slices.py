"""Large tensors in parts.

What an elementwise formula needs in between stays in a core's cache when it is computed part by
part; that of a whole embedding or of a batch's logits goes through memory, and is allocated anew,
which takes longer than the arithmetic.
"""

from collections.abc import Iterator

from torch import Tensor

SLICE = 1 << 18  # values


def row_slices(tensor: Tensor) -> Iterator[slice]:
    """Slices of the first dimension: of about `SLICE` values on a CPU, elsewhere one of all."""
    size = max(1, tensor[:1].numel())
    rows = max(1, SLICE // size) if tensor.device.type == "cpu" else max(1, len(tensor))
    for start in range(0, len(tensor), rows):
        yield slice(start, start + rows)
