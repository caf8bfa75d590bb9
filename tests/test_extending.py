"""A grid, a format, a runtime and a loss term from outside, each through the front door.

Nothing in the package names them: what CONTRIBUTING.md says is enough is all that is done here.
"""

import io
import json

import numpy as np
import pytest
import torch
import whisper
from whisper.model import ModelDimensions

import espnet_dq as dq
from espnet_dq.data.audio import save_wav
from espnet_dq.distill.terms import TERMS
from espnet_dq.distill.terms.term import Term
from espnet_dq.errors import InputError
from espnet_dq.files import Folder, atomic
from espnet_dq.formats import detect
from espnet_dq.formats.format import Format
from espnet_dq.formats.logits import of_model
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.report import ON_GRID, Report, Row, differing_values, float_kind
from espnet_dq.quant.grids import GRIDS, Grid, Quantized, get_grid
from espnet_dq.runtimes import RUNTIMES
from espnet_dq.runtimes.interface import Hypothesis
from espnet_dq.runtimes.torch import Torch
from espnet_dq.student.checkpoint import check_written
from espnet_dq.whisper.vocabulary import numbers
from espnet_dq.whisper.weights import Weights


class Powers(Grid):
    """4 bits, and one power of two a row."""

    name, bits, bottom = "powers", 4, -7

    def scale_like(self, shape):
        return torch.float32, (shape[0], 1)

    def quantize(self, weight, clip=None):
        matrix = weight.detach().float().reshape(len(weight), -1)
        top = matrix.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
        scale = torch.exp2(torch.ceil(torch.log2(top / 7)))
        integers = (matrix / scale).round().to(torch.int8).reshape(weight.shape)
        return Quantized(self.name, integers, scale)

    def dequantize(self, q):
        return (q.integers.flatten(1).float() * q.scale).reshape(q.integers.shape)


class Toy(Format):
    """NumPy's archive of float32 behind four bytes."""

    name, known_by, exported, runtime = "toy", "a toy", "student.toy", "torch"
    engine = "NumPy's reader and torch"
    magic = b"TOY1"

    def recognizes(self, path, start):
        return start[:4] == self.magic

    def load(self, path):
        with np.load(io.BytesIO(path.read_bytes()[4:]), allow_pickle=False) as held:
            state = {name: torch.from_numpy(held[name]) for name in held if name != "dims"}
            dims = ModelDimensions(**json.loads(str(held["dims"])))
        return Weights(dims, state).check(str(path))

    def save(self, path, weights, quantized, float_dtype):
        on_grid = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
        state = {n: t.float().numpy() for n, t in (weights.state | on_grid).items()}
        content = io.BytesIO()
        np.savez(content, dims=json.dumps(numbers(weights.dims)), **state)
        with atomic(path) as tmp:
            tmp.write_bytes(self.magic + content.getvalue())

    def compare(self, path, reference):
        rows = []
        for name, values in self.load(path).state.items():
            wrong = differing_values(values.numpy(), reference.weights[name].float().numpy())
            kind = ON_GRID if name in reference.grids else float_kind(name)
            rows.append(Row(name, tuple(values.shape), "float32", 32, values.nbytes, kind,
                            integers=wrong))  # fmt: skip
        return Report(rows)

    def logits(self, path, probe):
        weights = self.load(path)
        model = whisper.model.Whisper(weights.dims).eval()
        model.load_state_dict(weights.state)
        return of_model(model, probe, probe.mels)


class Loud(Torch):
    """A runtime that shouts."""

    def decode(self, clips, language):
        return [Hypothesis(f"LOUD {language}!") for _ in clips]

    def transcribe(self, audio, language, timestamps, temperatures=()):
        from espnet_dq.runtimes.interface import whole

        return whole(audio, *self.decode([audio], language))


class Norms(Term):
    """The student's states are to be as long as the teacher's."""

    name, needs = "norms", ("states",)

    def build(self, teacher, student):
        self.layers = teacher.n_text_layer

    def __call__(self, step):
        ours = step.seq.select(step.states[-1])[step.seq.counted].norm(dim=-1)
        theirs = step.answers.hidden(step.seq, self.layers)[-1].norm(dim=-1)
        return (ours - theirs).square().sum() / step.count, {"norms_longest": theirs.max()}


@pytest.fixture
def model(save_toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return dq.load(save_toy(text_ctx=64))


@pytest.mark.slow
def test_a_grid(model, monkeypatch):
    monkeypatch.setitem(GRIDS, "powers", Powers())
    small = dq.quantize(model, "powers")
    path = dq.save(small, "small.safetensors")
    report = dq.verify(path, against=model, grid="powers").check()
    assert [row.bits for row in report.rows if row.kind == ON_GRID] == [4] * len(small.grids)
    back = dq.load(path)
    assert {*back.grids.values()} == {"powers"} and back.grids.keys() == small.grids.keys()
    name = min(small.grids)
    assert torch.equal(back.quantized[name].integers, small.quantized[name].integers)
    # It is trained on, too, and what trained is what is written.
    net = whisper.load_model(str(model.path))
    dq.prepare(net, "powers")
    dq.save(net, "trained.safetensors")
    dq.verify("trained.safetensors", against=net).check()
    dq.verify(path, against=net).check()
    for ranges in ("lsq", "pact"):
        with pytest.raises(InputError, match="powers takes no learned range"):
            dq.prepare(whisper.load_model(str(model.path)), "powers", ranges=ranges)
    wrong = {n: q.integers.clone() for n, q in small.quantized.items()}
    wrong[name].view(-1)[0] ^= 1
    odd = {n: Quantized(q.grid, wrong[n], q.scale) for n, q in small.quantized.items()}
    with monkeypatch.context() as patch:
        patch.setattr("espnet_dq.api.models.on_grids", lambda *_: odd)
        dq.save(dq.quantize(model, "powers"), "odd.safetensors")
    assert dq.verify("odd.safetensors", against=model, grid="powers").mismatched == 1


@pytest.mark.slow
def test_a_format(model, monkeypatch):
    monkeypatch.setitem(FORMATS, "toy", Toy())
    path = dq.save(dq.quantize(model, "uniform4"), "x", to="toy")
    report = dq.verify(path, against=model, grid="uniform4").check()
    assert report.rows[-1].name == "logits in NumPy's reader and torch"
    again = dq.save(dq.load(path), "again.toy")  # its suffix says it
    assert detect.detect(again) == "toy"
    weights = dq.load(again).weights
    weights.state["decoder.ln.weight"][3] += 1
    FORMATS["toy"].save(path, weights, {}, "float32")
    assert dq.verify(path, against=model, grid="uniform4").mismatched == 1


def test_nothing_is_written_by_names_of_its_files(tmp_path):
    toy = Toy()
    toy.folder = Folder("toy", ("weights.toy",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FORMATS, "toy", toy)
        with pytest.raises(InputError, match=r"weights\.toy: would be a part of what is read"):
            check_written(tmp_path / "weights.toy", tmp_path)
    check_written(tmp_path / "weights.toy", tmp_path)


def test_a_runtime(model, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "loud", Loud)
    save_wav("noise.wav", np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
    said = [*dq.transcribe("noise.wav", model.path, language="german", runtime="loud")]
    assert [segment.text for segment in said] == ["LOUD de!"]


@pytest.mark.slow
def test_a_loss_term(save_toy, monkeypatch):
    monkeypatch.setitem(TERMS, "norms", Norms)
    student, teacher = whisper.load_model(str(save_toy(seed=0))), save_toy(seed=1, layers=3)
    config = dq.DistillConfig(matching="logits", terms={"norms": 0.5}, alpha=1.0)
    distiller = dq.Distiller(student, teacher, config).train()
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 16000))
    loss, stats = distiller(distiller.batch([(noise[0], "a b", "en"), (noise[1], "c", "de")]))
    assert stats["norms_longest"] > 0
    torch.testing.assert_close(loss.detach(), stats["loss_kl"] + 0.5 * stats["loss_norms"])
    loss.backward()
    assert student.decoder.ln.weight.grad is not None
