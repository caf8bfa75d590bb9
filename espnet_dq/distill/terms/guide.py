"""The guided mode (`kdq`): the decoder's feed-forward weights learn from the teacher's."""

from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.distill.guide import WeightGuide
from espnet_dq.distill.matching import check_mode
from espnet_dq.distill.terms.hidden import LayerTerm
from espnet_dq.distill.terms.term import Step


class GuideTerm(LayerTerm):
    """See `espnet_dq.distill.guide`."""

    name, place, needs = "guide", "guide", ("first_linears",)

    def build(self, teacher: ModelDimensions, student: ModelDimensions) -> WeightGuide:
        """Its two maps."""
        check_mode(self.config.matching, student.n_text_layer, teacher.n_text_layer)
        return WeightGuide(teacher.n_text_state, student.n_text_state)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and which layers were chosen."""
        config, teacher = self.config, step.teacher.first_linears()
        loss, mapping = self.part(
            step.first_linears, teacher, config.matching, config.matching_normalization
        )
        return loss, self._stats("guide", mapping[None], step)
