"""Loss terms as objects: one from outside, and what ESPnet is told of the configuration."""

import pytest
import torch

from espnet_dq.config import DistillConfig, QuantConfig
from espnet_dq.distill.cache_settings import wanted
from espnet_dq.distill.terms import TERMS
from espnet_dq.distill.terms.term import Term
from espnet_dq.errors import InputError


class LastLayer(Term):
    """What somebody else might write: the last layers' states, through a linear of its own."""

    name, place, needs = "last_layer", "last_layer_map", ("states",)

    def build(self, teacher, student):
        """A linear."""
        self.layers = teacher.n_text_layer
        return torch.nn.Linear(teacher.n_text_state, student.n_text_state)

    def __call__(self, step):
        """Mean squared distance, and how large the teacher's states are."""
        student = step.seq.select(step.states[-1])[step.seq.counted]
        teacher = step.answers.hidden(step.seq, self.layers)[-1]
        loss = (self.part(teacher) - student).square().sum() / step.count
        return loss, {"last_layer_size": teacher.norm()}


@pytest.fixture
def last_layer(monkeypatch):
    monkeypatch.setitem(TERMS, "last_layer", LastLayer)


@pytest.mark.slow
def test_a_term_from_outside_trains_and_is_saved(last_layer, build, batch):
    torch.manual_seed(0)
    model = build(matching="logits", terms={"last_layer": 0.5}, alpha=0.8).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss, stats, _ = model(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected = stats["loss_kl"] + 0.5 * stats["loss_last_layer"]
        torch.testing.assert_close(loss, 0.2 * stats["loss_ce"] + 0.8 * expected)
        losses.append(float(stats["loss_last_layer"].detach()))
    assert losses[0] > losses[1] > losses[2] and stats["last_layer_size"] > 0
    state = model.state_dict()
    assert state["last_layer_map.weight"].shape == (64, 32) and "projector.weight" not in state
    # A training without the term goes on from it, and one with it resumes.
    build(matching="logits", load=False).load_state_dict(state)
    again = build(matching="logits", terms={"last_layer": 0.5}, load=False)
    again.load_state_dict(state)
    assert torch.equal(again.last_layer_map.weight, model.last_layer_map.weight)


def test_its_teacher_states_are_cached(last_layer, tmp_path):
    path = tmp_path / "train.yaml"
    for terms, tap in (("{}", None), ("{last_layer: 0}", None), ("{last_layer: 1}", "ffn")):
        path.write_text(f"model_conf: {{matching: logits, tap: ffn, terms: {terms}}}\n")
        assert wanted(path, "zeros").tap == tap


def test_an_unknown_term_is_refused(build):
    for name in ("last_layer", "kl"):
        with pytest.raises(InputError, match=f"terms: '{name}' is no further term"):
            build(terms={name: 1.0})


def test_espnet_learns_of_every_default_and_of_no_other_key(build):
    """Its `config.yaml` names all of them, so an export knows them whatever becomes of defaults."""
    from espnet2.utils.get_default_kwargs import get_default_kwargs

    from espnet_dq.task.model import DQWhisperModel

    told = get_default_kwargs(DQWhisperModel)
    for config in (DistillConfig(), QuantConfig()):
        assert vars(config).items() <= told.items()
    with pytest.raises(InputError, match="unknown key 'lamda_hidden'"):
        build(lamda_hidden=1.0)
