"""The encoder's hidden states, where there is speech."""

import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.distill.hidden import LayerLoss
from espnet_dq.distill.matching import check_mode
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.terms.hidden import LayerTerm
from espnet_dq.distill.terms.term import Step
from espnet_dq.whisper.forward import SAMPLES_PER_POSITION


class EncoderTerm(LayerTerm):
    """The outputs of the encoders' blocks, through a projector of their own.

    Both windows start with the utterance, so positions stand for the same 20 ms. An utterance
    weighs as much as its text does in the other terms.
    """

    name, place, needs = "encoder", "encoder_projector", ("encoder_states",)

    def build(self, teacher: ModelDimensions, student: ModelDimensions) -> Projector:
        """From a teacher's block to a student's."""
        check_mode(self.config.matching, student.n_audio_layer, teacher.n_audio_layer)
        return Projector(teacher.n_audio_state, student.n_audio_state)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and which layers were chosen."""
        counts = torch.bincount(step.rows, minlength=len(step.language))
        spoken = -(-step.speech_lengths // SAMPLES_PER_POSITION)
        places = torch.arange(int(spoken.max()), device=spoken.device)
        valid = places < spoken[:, None]
        student, teacher = (
            torch.stack([s[:, : len(places)][valid] for s in states])
            for states in (step.encoder_states, step.teacher.heard[1])
        )
        rows = valid.nonzero()[:, 0]
        loss, mapping, keys = LayerLoss(self.config)(
            self.part, student, teacher, rows, step.language, step.count, step.training,
            weights=(counts / spoken)[rows],
        )  # fmt: skip
        return loss, self._stats("match_encoder", mapping, step, keys.tolist())
