"""Which teacher layer teaches which student layer.

`distances[i, j]` is the distance between student layer i and teacher layer j, [Ls, Lt]. A mapping
is a list with one teacher layer (0-based) for each student layer. The choice is made on detached
distances; gradients flow only through the chosen pairs. Source: DQ-Whisper (arXiv 2305.10788) for
fixed, dynamic "without limit" and dynamic "with limit" matching (`static`, `dynamic`,
`dynamic_monotonic`).
"""

import torch
from torch import Tensor

from espnet_dq.config import MATCHINGS, DistillConfig, known
from espnet_dq.errors import InputError


def check_mode(mode: str, students: int, teachers: int) -> None:
    """Raise `InputError` for an unknown mode, and where the layers do not suffice for one."""
    known("matching", mode, MATCHINGS)
    if mode in ("static", "optimal_increasing") and teachers < students:
        raise InputError(
            f"{mode} matching needs at least as many teacher as student layers, "
            f"but the teacher has {teachers} and the student {students}"
        )


def spaced(students: int, teachers: int) -> list[int]:
    """m(i) = floor((i + 1) * Lt / Ls) - 1, but not below 0: even, the last teaches the last."""
    return [max(0, (i + 1) * teachers // students - 1) for i in range(students)]


def static(distances: Tensor) -> list[int]:
    """`spaced`, whatever the distances."""
    return spaced(*distances.shape)


def dynamic(distances: Tensor) -> list[int]:
    """m(i) = argmin over all j: the nearest teacher layer, without limit."""
    return distances.argmin(dim=1).tolist()


def dynamic_monotonic(distances: Tensor) -> list[int]:
    """m(i) = argmin over j >= m(i - 1): greedy from the first layer on, equality allowed."""
    mapping, start = [], 0
    for row in distances:
        start += int(row[start:].argmin())
        mapping.append(start)
    return mapping


def optimal_monotonic(distances: Tensor, step: int = 0) -> list[int]:
    """The mapping with m(i) >= m(i - 1) + `step` whose distances add up to the least.

    By dynamic programming from the last layer on, in O(Ls * Lt). `step` 1 makes it strictly
    increasing, which `check_mode` allows where the teacher has layers enough. Of equal sums the
    one with the earliest layers, lexicographically, is taken.
    """
    # rest[j]: the least sum of the rows below when none of them may take a layer before j.
    rest = distances.new_zeros(distances.shape[1] + 1)
    sums = []
    for row in distances.flip(0):
        taken = row + rest[step : len(rest) - 1 + step]
        sums.append(taken)
        least = taken.flip(0).cummin(0).values.flip(0)
        rest = torch.cat([least, least.new_full((1,), torch.inf)])
    mapping, start = [], 0
    for taken in reversed(sums):
        mapping.append(start + int(taken[start:].argmin()))
        start = mapping[-1] + step
    return mapping


def optimal_increasing(distances: Tensor) -> list[int]:
    """`optimal_monotonic` in which no teacher layer teaches twice."""
    return optimal_monotonic(distances, step=1)


_CHOOSE = {
    "static": static,
    "dynamic": dynamic,
    "dynamic_monotonic": dynamic_monotonic,
    "optimal_monotonic": optimal_monotonic,
    "optimal_increasing": optimal_increasing,
}


def normalize(distances: Tensor, by: str) -> Tensor:
    """Distances [..., Ls, Lt], each divided by a mean, for the choice only.

    `student`: by the mean over its student layer's row, so that in a sum of distances a layer
    that is far from everything does not outvote the others (only the optimal modes notice).
    `teacher`: by the mean over its teacher layer's column, so that one layer that is near to
    everything does not draw all students.
    """
    if by == "none":
        return distances
    mean = distances.mean(dim=-1 if by == "student" else -2, keepdim=True)
    return distances / mean.clamp(min=torch.finfo(distances.dtype).tiny)


def match(
    mode: str, distances: Tensor, normalization: str = DistillConfig.matching_normalization
) -> Tensor:
    """Mappings [G, Ls] int64 of G groups, given their pair distances [G, Ls, Lt]."""
    chosen = normalize(distances.detach().cpu().double(), normalization)
    return torch.tensor([_CHOOSE[mode](d) for d in chosen], device=distances.device)


def groups(scope: str, rows: Tensor, language: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions choose together: the group of each position (N,), and the groups' keys (G,).

    `rows` (N,): the utterance of each position; `language` (B,): that of each utterance. A key is
    the language token, the row of the utterance, or 0 for the whole batch.
    """
    if scope == "batch":
        return torch.zeros_like(rows), rows.new_zeros(1)
    keys, index = torch.unique(
        rows if scope == "utterance" else language[rows], return_inverse=True
    )
    return index, keys
