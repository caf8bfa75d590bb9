"""The guided mode (`kdq`): the decoder's feed-forward weights learn from the teacher's."""

from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.config import DistillConfig
from espnet_dq.distill.guide import WeightGuide
from espnet_dq.distill.matching import check_mode
from espnet_dq.distill.terms.hidden import LayerTerm
from espnet_dq.distill.terms.term import Step, mapping_stats


class GuideTerm(LayerTerm):
    """See `espnet_dq.distill.guide`."""

    name, place, needs = "guide", "guide", ("first_linears",)

    def __init__(
        self, config: DistillConfig, teacher: ModelDimensions, student: ModelDimensions
    ) -> None:
        super().__init__(config, teacher, student)
        check_mode(config.matching, student.n_text_layer, teacher.n_text_layer)
        self.part = WeightGuide(teacher.n_text_state, student.n_text_state)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and which layers were chosen."""
        teacher = step.teacher.first_linears()
        loss, mapping = self.part(
            step.first_linears,
            teacher,
            self.config.matching,
            self.config.matching_normalization,
        )
        return loss, mapping_stats("guide", mapping[None])
