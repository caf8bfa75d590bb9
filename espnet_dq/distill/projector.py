"""The linear map from teacher features to student features, shared by all layers.

A random map would make the choice of the nearest layer meaningless, so it starts from least
squares (teacher to student features, of the pairs that `LayerLoss` chooses) on the first batches
and is trained by gradient from then on.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from espnet_dq.whisper.weights import all_finite

FIT_BATCHES = 8
# Relative to the mean of the diagonal: enough for directions that few positions span.
RIDGE = 1e-3


class Projector(nn.Module):
    """P: [..., teacher_width] -> [..., student_width], no bias.

    Its normal equations are part of the saved state, so that a resumed run goes on as an
    uninterrupted one would, in the middle of the fit as well.
    """

    def __init__(self, teacher_width: int, student_width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(student_width, teacher_width))
        self.register_buffer("gram", torch.zeros(teacher_width, teacher_width))
        self.register_buffer("cross", torch.zeros(teacher_width, student_width))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        # The weight of the hidden term, where it is measured once the fit is over (else NaN).
        self.register_buffer("term_weight", torch.tensor(torch.nan))

    def forward(self, teacher: Tensor) -> Tensor:
        """Teacher features float [..., teacher_width] -> [..., student_width]."""
        return teacher.float() @ self.weight.T

    @property
    def fitting(self) -> bool:
        """Whether the next batch still belongs to the least-squares start."""
        return int(self.batches) < FIT_BATCHES

    @torch.no_grad()
    def fit(self, teacher: Tensor, student: Tensor) -> None:
        """Add one batch of paired rows [M, teacher_width], [M, student_width] and solve.

        With several processes the rows of all of them count, so all hold the same map. A batch with
        a value that is not finite would stay in the sums for good: it does not count.
        """
        x, y = teacher.flatten(0, -2).float(), student.flatten(0, -2).float()
        gram, cross = x.T @ x, x.T @ y
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(gram)
            dist.all_reduce(cross)
        if not all_finite(gram) or not all_finite(cross):
            return
        self.gram += gram
        self.cross += cross
        self.batches += 1
        self.weight.copy_(self.least_squares())

    def least_squares(self) -> Tensor:
        """The map that the sums so far ask for, float64 [student_width, teacher_width]."""
        ridge = RIDGE * self.gram.diagonal().mean() * torch.eye(len(self.gram)).to(self.gram)
        return torch.linalg.solve((self.gram + ridge).double(), self.cross.double()).T
