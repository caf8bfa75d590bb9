"""How alike layers are before any map between them has been learned.

Linear CKA (Kornblith et al., 2019, arXiv 1905.00414) compares features of different widths as they
are, so it favours no pair. A learned map does: it brings those layers together that it was fitted
on, and the nearest layer is then the one that it was given.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def linear_cka(student: Tensor, teacher: Tensor) -> Tensor:
    """[Ls, Lt] in [0, 1] of features [Ls, N, D] and [Lt, N, D'] at the same N positions.

    Each position is normalised first, as by LayerNorm: the residual stream has channels that are
    many times larger than all others. With several processes the positions of all of them count.
    """
    ours, theirs = (_centred(F.layer_norm(x.float(), x.shape[-1:])) for x in (student, teacher))
    cross = torch.stack([torch.stack([_product(t, s) for t in theirs]) for s in ours])
    own = torch.stack([_product(s, s) for s in ours])
    other = torch.stack([_product(t, t) for t in theirs])
    scale = (own[:, None] * other[None]).clamp(min=torch.finfo(cross.dtype).tiny)
    return cross.square() / scale


def _centred(features: Tensor) -> Tensor:
    total, count = features.sum(dim=1, keepdim=True), torch.tensor(float(features.shape[1]))
    count = count.to(features.device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        dist.all_reduce(count)
    return features - total / count


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Frobenius norm of a' b, the sum over positions."""
    product = a.T @ b
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(product)
    return product.norm()
