"""The guided mode (`kdq`): the student's feed-forward weights learn from the teacher's.

L1 between softmaxed weight matrices of the first feed-forward linear: the student's as they are
quantized, the teacher's mapped by two trainable linears, layers chosen by the rules of the
hidden term on the distances of the weights. Source: DQ-Whisper (arXiv 2305.10788).
"""

import torch
from torch import Tensor, nn

from espnet_dq.distill.matching import match

# Relative to the mean of the diagonal; four layers are few rows for a fit.
RIDGE = 0.1


class WeightGuide(nn.Module):
    """Maps a teacher's [4 d_t, d_t] to a student's [4 d_s, d_s]: rows @ W @ columns.T."""

    def __init__(self, teacher_width: int, student_width: int):
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(4 * student_width, 4 * teacher_width))
        self.columns = nn.Parameter(torch.zeros(student_width, teacher_width))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(
        self, student: list[Tensor], teacher: list[Tensor], matching: str, normalization: str
    ) -> tuple[Tensor, Tensor]:
        """The loss and the mapping [Ls].

        The distance of a pair is the sum over a row's columns of |softmax - softmax|, in [0, 2],
        the mean over rows; the loss is the mean over student layers of their chosen pairs.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            if self.training and not self.fitted:
                self._fit(student, teacher)
            ours = torch.stack([w.float().softmax(dim=1) for w in student])
            theirs = torch.stack([self._map(w.float()).softmax(dim=1) for w in teacher])
            with torch.no_grad():
                # One student layer at a time: all pairs at once are large.
                rows = [(w - theirs).abs().sum(dim=2).mean(dim=1) for w in ours]
            mapping = match(matching, torch.stack(rows)[None], normalization)[0]
            loss = (ours - theirs[mapping]).abs().sum(dim=2).mean()
        return loss, mapping

    def _map(self, weight: Tensor) -> Tensor:
        return self.rows @ (weight @ self.columns.T)

    @torch.no_grad()
    def _fit(self, student: list[Tensor], teacher: list[Tensor]) -> None:
        """Start both maps: columns along the teacher's main directions, rows by least squares.

        All pairs weigh the same in it, so that the start does not decide who teaches whom.
        """
        taught = [w.double() for w in teacher]
        gram = sum(w.T @ w for w in taught)
        directions = torch.linalg.eigh(gram).eigenvectors.flip(1)
        mean = sum(w.double() for w in student) / len(student)
        aim = torch.linalg.eigh(mean.T @ mean).eigenvectors.flip(1)
        main = min(self.columns.shape)
        columns = aim[:, :main] @ directions[:, :main].T
        reduced = [w @ columns.T for w in taught]
        square = sum(w @ w.T for w in reduced)
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(square)
        cross = sum(w @ mean.T for w in reduced)
        self.columns.copy_(columns)
        self.rows.copy_(torch.linalg.solve(square + ridge, cross).T)
        self.fitted.fill_(True)
