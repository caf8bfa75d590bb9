"""The student's distribution over tokens against the teacher's (Hinton et al., 1503.02531)."""

from torch import Tensor

from espnet_dq.config import DistillConfig
from espnet_dq.distill.terms.term import Step, Term


class KLTerm(Term):
    """T^2 * KL, against which all other terms are weighed."""

    name = "kl"

    @classmethod
    def wanted(cls, config: DistillConfig) -> bool:
        """Wherever there is distillation."""
        return True

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `espnet_dq.distill.losses`."""
        return step.answers.kl(step.logits, self.config.temperature, step.count), {}

    def weight(self, step: Step) -> float:
        """One."""
        return 1.0
