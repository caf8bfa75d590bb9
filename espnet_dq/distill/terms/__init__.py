"""The loss of a training: cross-entropy, and the terms in which the student learns from a teacher.

    L = (1 - alpha) * CE + alpha * (T^2 * KL + weight * term + ...)

A new term is a subclass of `Term` in a file of its own, and its line in `TERMS`.
"""

from torch import Tensor

from espnet_dq.config import DistillConfig
from espnet_dq.distill.losses import IGNORED, cross_entropy
from espnet_dq.distill.terms.encoder import EncoderTerm
from espnet_dq.distill.terms.guide import GuideTerm
from espnet_dq.distill.terms.hidden import HiddenTerm
from espnet_dq.distill.terms.kl import KLTerm
from espnet_dq.distill.terms.term import Step, Term
from espnet_dq.errors import InputError, shown

TERMS: dict[str, type[Term]] = {
    "kl": KLTerm,  # before all that are weighed against it
    "hidden": HiddenTerm,
    "encoder": EncoderTerm,
    "guide": GuideTerm,
}


def wanted_terms(config: DistillConfig) -> list[type[Term]]:
    """The terms that a training has. Raises `InputError` for a name in `terms` that is none."""
    for name in config.terms:
        if name not in TERMS or name == KLTerm.name:
            raise InputError(f"terms: {shown(name)} is no further term of espnet_dq.distill.terms")
    return [term for term in TERMS.values() if config.alpha > 0 and term.wanted(config)]


def places() -> list[str]:
    """Where in a model, and so in checkpoints, trained parts of terms may stand."""
    return [term.place for term in TERMS.values() if term.place]


def needs(terms: list[Term] | list[type[Term]]) -> set[str]:
    """What the terms need, of all that they may (`Term.needs`)."""
    return {need for term in terms for need in term.needs}


def check_speed(config: DistillConfig, source: str = "") -> None:
    """Raise an `InputError`, beginning with `source`, where no other speed than the teacher's fits.

    To terms that compare positions of the encoders, to times that the teacher has heard, and to a
    teacher that hears the student's window.
    """
    why = [f"the {t.name} term" for t in wanted_terms(config) if "encoder_states" in t.needs]
    why += ["timestamp_share"] * (config.timestamp_share > 0)
    why += ["teacher_window student"] * (config.teacher_window == "student")
    if why:
        raise InputError(
            f"{source}speed moves words away from where the teacher hears them, so it does not go "
            f"with {why[0]}"
        )


def total_loss(
    config: DistillConfig, terms: list[Term], step: Step
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its statistics."""
    counted = step.seq.counted
    # Not logits[counted]: that would be a copy of them all, and of their gradients.
    targets = step.seq.targets.masked_fill(~counted, IGNORED)
    loss_ce = cross_entropy(step.logits, targets, step.count)
    hits = (step.logits.argmax(-1) == step.seq.targets)[counted]
    stats = {"loss_ce": loss_ce.detach(), "acc": hits.float().mean()}
    loss = (1 - config.alpha) * loss_ce
    for term in terms:
        found, said = term(step)
        step.losses[term.name] = found
        stats |= {f"loss_{term.name}": found.detach(), **said}
        weight = term.weight(step)
        if isinstance(weight, Tensor):  # measured
            stats[f"lambda_{term.name}"] = weight
        loss = loss + config.alpha * weight * found
    stats["loss"] = loss.detach()
    return loss, stats
