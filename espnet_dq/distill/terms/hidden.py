"""The decoder's hidden states: student layers learn from the teacher layers chosen for them."""

import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.config import DistillConfig
from espnet_dq.distill.hidden import LayerLoss, distributed, gradient_ratio
from espnet_dq.distill.matching import check_mode
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.terms.term import Step, Term, mapping_stats


class LayerTerm(Term):
    """A term whose teacher layers are chosen: there is none with `matching: logits`."""

    @classmethod
    def wanted(cls, config: DistillConfig) -> bool:
        """Whether a training has this term."""
        return config.matching != "logits" and super().wanted(config)

    def _stats(self, prefix: str, mapping: Tensor, keys: Tensor, step: Step) -> dict[str, Tensor]:
        """Of mappings [G, Ls] and the groups' keys (G,)."""
        codes = []
        # The keys of all processes must be the same, and their languages are not.
        if self.config.matching_scope == "language" and not distributed():
            codes = [step.tokenizer.decode([key])[2:-2] for key in keys.tolist()]
        return mapping_stats(prefix, mapping, codes)


class HiddenTerm(LayerTerm):
    """The states that `tap` names, at the counted positions, through one projector."""

    name, place, needs = "hidden", "projector", ("states",)

    def __init__(
        self, config: DistillConfig, teacher: ModelDimensions, student: ModelDimensions
    ) -> None:
        super().__init__(config, teacher, student)
        check_mode(config.matching, student.n_text_layer, teacher.n_text_layer)
        factor = 4 if config.tap == "ffn" else 1
        self.part = Projector(factor * teacher.n_text_state, factor * student.n_text_state)
        self.layers, self.loss = teacher.n_text_layer, LayerLoss(config)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and which layers were chosen."""
        student = torch.stack([step.seq.select(s)[step.seq.counted] for s in step.states])
        teacher = step.answers.hidden(step.seq, self.layers)
        loss, mapping, keys = self.loss(
            self.part, student, teacher, step.rows, step.language, step.count, step.training
        )
        return loss, self._stats("match", mapping, keys, step)

    def weight(self, step: Step) -> float | Tensor:
        """As configured; with `auto`, 0 until it can be measured, then saved."""
        if self.config.lambda_hidden != "auto":
            return self.config.lambda_hidden
        weight = self.part.term_weight
        if step.training and weight.isnan() and not self.part.fitting:
            learning = [p for p in step.decoder.parameters() if p.requires_grad]
            losses = step.losses[self.name], step.losses["kl"]
            weight.copy_(gradient_ratio(*losses, step.count, learning))
        return weight.nan_to_num(nan=0.0).clone()
