"""The decoder's hidden states: student layers learn from the teacher layers chosen for them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.config import DistillConfig
from espnet_dq.distill.hidden import LayerLoss, distributed, gradient_ratio
from espnet_dq.distill.matching import check_mode
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.terms.term import Step, Term
from espnet_dq.errors import InputError


class LayerTerm(Term):
    """A term whose teacher layers are chosen: there is none with `matching: logits`."""

    @classmethod
    def wanted(cls, config: DistillConfig) -> bool:
        """Whether a training has this term."""
        return config.matching != "logits" and super().wanted(config)

    def _stats(
        self, prefix: str, mapping: Tensor, step: Step, keys: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Of mappings [G, Ls]: the mean over groups, and in one process each language's own."""
        named = [("", mapping.float().mean(dim=0))]
        # The keys of all processes must be the same, and their languages are not.
        if self.config.matching_scope == "language" and not distributed():
            codes = (step.tokenizer.decode([key])[2:-2] for key in keys)
            named += [(f"{code}_", row.float()) for code, row in zip(codes, mapping, strict=False)]
        return {f"{prefix}_{name}l{i}": j for name, row in named for i, j in enumerate(row)}


class HiddenTerm(LayerTerm):
    """The states that `tap` names, at the counted positions, through one projector."""

    name, place, needs = "hidden", "projector", ("states",)

    def build(self, teacher: ModelDimensions, student: ModelDimensions) -> Projector:
        """From a teacher's layer to a student's."""
        check_mode(self.config.matching, student.n_text_layer, teacher.n_text_layer)
        self.layers = teacher.n_text_layer
        factor = 4 if self.config.tap == "ffn" else 1
        return Projector(factor * teacher.n_text_state, factor * student.n_text_state)

    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and which layers were chosen."""
        student = torch.stack([step.seq.select(s)[step.seq.counted] for s in step.states])
        teacher = step.answers.hidden(step.seq, self.layers)
        loss, mapping, keys = LayerLoss(self.config)(
            self.part, student, teacher, step.rows, step.language, step.count, step.training
        )
        return loss, self._stats("match", mapping, step, keys.tolist())

    def weight(self, step: Step) -> float | Tensor:
        """As configured; with `auto`, 0 until it can be measured, then saved."""
        if self.config.lambda_hidden != "auto":
            return self.config.lambda_hidden
        weight = self.part.term_weight
        if step.training and weight.isnan() and not self.part.fitting:
            learning = [p for p in step.decoder.parameters() if p.requires_grad]
            if not learning:
                raise InputError("lambda_hidden: auto: nothing of the decoder learns: say a number")
            losses = step.losses[self.name], step.losses["kl"]
            weight.copy_(gradient_ratio(*losses, step.count, learning))
        return weight.nan_to_num(nan=0.0).clone()
