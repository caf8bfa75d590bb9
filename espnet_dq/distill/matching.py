"""Which teacher layer teaches which student layer.

`distances[i, j]` is the distance between student layer i and teacher layer j, [Ls, Lt]. A mapping
is a list with one teacher layer (0-based) for each student layer. The choice is made on detached
distances; gradients flow only through the chosen pairs. Source: DQ-Whisper (arXiv 2305.10788),
fixed, dynamic "without limit" and dynamic "with limit" matching.
"""

from torch import Tensor

from espnet_dq.errors import InputError

MODES = ("logits", "static", "dynamic", "dynamic_monotonic")


def static(students: int, teachers: int) -> list[int]:
    """m(i) = floor((i + 1) * Lt / Ls) - 1: evenly spaced, the last teaches the last.

    Raises `InputError` when the teacher has fewer layers than the student.
    """
    if teachers < students:
        raise InputError(
            f"static matching needs at least as many teacher as student layers, "
            f"but the teacher has {teachers} and the student {students}"
        )
    return [(i + 1) * teachers // students - 1 for i in range(students)]


def dynamic(distances: Tensor) -> list[int]:
    """m(i) = argmin over all j: the nearest teacher layer, without limit."""
    return distances.detach().argmin(dim=1).tolist()


def dynamic_monotonic(distances: Tensor) -> list[int]:
    """m(i) = argmin over j >= m(i - 1): greedy from the first layer on, equality allowed."""
    mapping, start = [], 0
    for row in distances.detach():
        start += int(row[start:].argmin())
        mapping.append(start)
    return mapping


def match(mode: str, distances: Tensor) -> list[int]:
    """The mapping of a mode, given all pair distances [Ls, Lt]."""
    if mode == "static":
        return static(*distances.shape)
    if mode == "dynamic":
        return dynamic(distances)
    if mode == "dynamic_monotonic":
        return dynamic_monotonic(distances)
    raise InputError(f"unknown matching '{mode}': known are {', '.join(MODES)}")
