"""What makes large batches fit: checkpointing, bfloat16, gradients of several batches."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import espnet_dq.distill.answers as answers
import espnet_dq.distill.hidden as hidden
import espnet_dq.distill.terms as terms
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.task.trainer import DQTrainer
from espnet_dq.whisper.forward import log_mel


@pytest.fixture
def batch():
    torch.manual_seed(0)
    lengths = torch.tensor([16000, 9600])
    return {
        "speech": torch.randn(2, 16000) * 0.05 * (torch.arange(16000) < lengths[:, None]),
        "speech_lengths": lengths,
        "text": torch.tensor([[50, 60, 70, 80], [30, 40, -1, -1]]),
        "text_lengths": torch.tensor([4, 2]),
        "lang": torch.tensor([[50259], [50263]]),
        "utt_id": ["a", "b"],
    }


class Kept:
    """Elements that autograd keeps for the backward pass, weights apart."""

    def __init__(self):
        self.storages = {}

    def __enter__(self):
        def pack(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)
        self.bytes = sum(storage.nbytes() for storage in self.storages.values())


@pytest.mark.slow
@pytest.mark.parametrize("conf", [
    {"preset": "none", "matching": "logits"},
    {"preset": "full", "matching": "dynamic", "ranges": "lsq", "tap": "ffn", "lambda_encoder": 1.0},
    {"preset": "full", "matching": "static", "lambda_hidden": "auto", "lambda_guide": 1.0,
     "activations": "int8_per_token"},
    {"preset": "paper", "matching": "static", "train_encoder": 1},
])  # fmt: skip
def test_checkpointing_changes_memory_and_no_gradient(build, batch, conf):
    """With hooks that take hidden states, and weights that are put on the grid once a pass."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)  # what is built beside the toys begins at random
        model = build(checkpointing=checkpointing, **conf)
        if model.projector is not None:  # `auto` measures gradients once the fit is over
            model.projector.batches.fill_(100)
            torch.nn.init.normal_(model.projector.weight, std=0.1)
        model.train()
        torch.manual_seed(1)
        with Kept() as kept:
            loss, stats, _ = model(**batch)
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients, kept.bytes, stats))
    (loss, plain, more, stats), (again, saving, less, _) = found
    assert loss == again and less < more
    assert plain.keys() == saving.keys() and len(plain) > 20
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
    assert conf.get("lambda_hidden") != "auto" or stats["lambda_hidden"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False], ids=["precision", "autocast"])
@pytest.mark.parametrize("conf", [
    {"preset": "none"},
    {"preset": "full", "matching": "optimal_monotonic", "lambda_encoder": 1.0, "lambda_guide": 1.0,
     "checkpointing": True},
])  # fmt: skip
def test_bf16_trains(build, batch, conf, own, monkeypatch):
    """Two steps: products in bf16, losses, matching, features and the grid's scales in float32.

    By our own option, and by autocast around the model, as ESPnet's `use_amp` has it on GPUs.
    """
    seen = {}

    def spy(module, name):
        function = getattr(module, name)

        def wrapped(*args, **kwargs):
            result = function(*args, **kwargs)
            seen.setdefault(name, set()).add(result.dtype)
            return result

        monkeypatch.setattr(module, name, wrapped)

    for module, name in ((terms, "cross_entropy"), (answers, "kl_divergence"),
                         (hidden, "prepare_features"), (hidden, "pair_sums"),
                         (hidden, "hidden_loss")):  # fmt: skip
        spy(module, name)
    model = build(**conf, precision="bfloat16" if own else "float32")
    expected = build(**conf)
    model.train(), expected.train()
    heard, said = [], []
    model.encoder.register_forward_hook(lambda *args: heard.append(args[2][0].dtype))
    for module in (model.decoder.net.ln, model.teacher.model().decoder.ln):
        module.register_forward_hook(lambda *args: said.append(args[2].dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        around = contextlib.nullcontext() if own else torch.autocast("cpu", torch.bfloat16)
        with around:
            torch.manual_seed(1)
            loss, stats, _ = model(**batch)
        assert loss.dtype == torch.float32 and loss.isfinite()
        assert all(v.isfinite().all() for v in stats.values() if isinstance(v, torch.Tensor))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] != losses[1] and all(p.isfinite().all() for p in model.parameters())
    assert set(heard) == set(said) == {torch.bfloat16} and len(said) == 4
    assert set(seen) == {"cross_entropy", "kl_divergence", "prepare_features", "pair_sums",
                         "hidden_loss"}  # fmt: skip
    assert all(types == {torch.float32} for types in seen.values())
    torch.manual_seed(1)
    assert losses[0] == pytest.approx(expected(**batch)[0].item(), rel=0.02)


@pytest.mark.slow
def test_the_teacher_hears_in_the_asked_precision_with_cached_answers(build, batch):
    """Regression: what nobody had asked for before the losses was heard in float32."""
    model = build(preset="none", matching="static", lambda_hidden=0.0, lambda_encoder=1.0,
                  precision="bfloat16")  # fmt: skip
    heard = []
    teacher = model.teacher.model()
    teacher.encoder.ln_post.register_forward_hook(lambda *args: heard.append(args[2].dtype))
    rows = 6  # more than the texts' positions: what is beyond is padding
    ids = torch.arange(4.0).expand(2, rows, 4)
    lengths = torch.tensor([6, 4])  # the language, the text and its end
    cached = {"teacher_end": torch.full((2, 1), -1)}
    for name, value in (("teacher_ids", ids), ("teacher_log_probs", -3 - ids)):
        cached |= {name: value.clone(), f"{name}_lengths": lengths}
    loss, _, _ = model(**batch, **cached)
    assert loss.isfinite() and heard == [torch.bfloat16]


def test_use_amp_on_a_cpu_is_refused():
    """ESPnet's would train in float32 there, and not say so."""
    with pytest.raises(InputError, match=r"use_amp is for GPUs .* precision: bfloat16"):
        DQTrainer.run(trainer_options=SimpleNamespace(use_amp=True, ngpu=0))


@pytest.mark.slow
def test_autocast_changes_neither_features_nor_the_grid(build, batch):
    model = build(preset="full")
    speech, lengths = batch["speech"], batch["speech_lengths"]
    linear = model.decoder.net.blocks[0].mlp[0]
    expected = log_mel(speech, lengths, 80, 32000), linear.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(speech, lengths, 80, 32000), expected[0])
        assert torch.equal(linear.weight, expected[1])


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_gradients_of_two_half_batches_are_one_batchs(train, tmp_path):
    """ESPnet's `accum_grad`, which takes a mean of means: texts of one length, as many in each."""
    data, random = KaldiDir(), np.random.default_rng(0)
    for i, text in enumerate(("one two", "two one", "one one", "two two")):
        wav = tmp_path / f"u{i}.wav"
        save_wav(wav, random.normal(0, 0.05, 8000).astype(np.float32))
        data.add(f"u{i}", wav, text, f"u{i}", "en", utt2num_samples=8000)
    data.save(tmp_path / "data")

    def run(size: int) -> Path:
        return train(
            tmp_path / f"of{size}", "--batch_size", str(size), "--accum_grad", str(4 // size),
            "--max_epoch", "2", "--optim", "sgd", "--optim_conf", "lr=0.01", "--grad_clip", "1000",
            data=tmp_path / "data", matching="logits",
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        whole, halves = pool.map(run, (4, 2))
    first, one, two = (
        torch.load(path, weights_only=True)
        for path in (whole / "1epoch.pth", whole / "2epoch.pth", halves / "2epoch.pth")
    )
    moved = 0
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-5, msg=name)
        if name.startswith(("encoder", "decoder")):
            way = (one[name] - first[name]).norm()
            # Room for each value to be rounded the other way once, where a sum was next to a tie.
            rounding = 2**-24 * one[name].norm()
            assert (one[name] - two[name]).norm() < 0.01 * way + rounding, name
            moved += int(way > 4 * rounding)
    assert moved > 50


def test_a_weight_that_cannot_be_measured_is_refused(build):
    conf = {"preset": "full", "matching": "static", "lambda_hidden": "auto", "ranges": "lsq"}
    with pytest.raises(InputError, match=r"checkpointing and ranges lsq: say a number"):
        build(checkpointing=True, **conf)
    for changed in ({"lambda_hidden": 0.1}, {"matching": "logits"}, {"ranges": "max"}):
        build(checkpointing=True, **conf | changed)
    build(**conf)
