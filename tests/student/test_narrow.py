"""A smaller model hidden in a larger one is found; otherwise the fit helps."""

import pytest
import torch
import torch.nn.functional as F
from whisper.model import ModelDimensions, Whisper

from espnet_dq.errors import InputError
from espnet_dq.student import width as module
from espnet_dq.student.width import narrow
from espnet_dq.whisper.weights import Weights


def dims(width: int) -> ModelDimensions:
    return ModelDimensions(20, 40, width, width // 64, 2, 300, 16, width, width // 64, 2)


def model(width: int) -> Whisper:
    torch.manual_seed(0)
    made = Whisper(dims(width)).eval()
    for name, tensor in made.state_dict().items():
        if name != "encoder.positional_embedding":
            noise = 0.1 * torch.randn(tensor.shape)
            tensor.copy_(noise + (1 if name.endswith(("ln.weight", "ln_post.weight")) else 0))
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(1)
    return [(torch.randn(1, 20, 80), torch.randint(300, (1, 16))) for _ in range(12)]


def hidden_in_a_larger_one(small: Whisper) -> dict[str, torch.Tensor]:
    """What 64 channels say in 128: written twice, which no LayerNorm notices, read once."""
    state = {name: torch.zeros_like(w) for name, w in Whisper(dims(128)).state_dict().items()}
    for name, w in small.state_dict().items():
        state[name][tuple(map(slice, w.shape))] = w
        if "embedding" in name:
            state[name][:, 64:] = w
        elif any(part in name for part in ("conv2.", ".out.", ".mlp.2.")):
            state[name][(slice(64, 128), *map(slice, w.shape[1:]))] = w
    return state


@pytest.mark.slow
def test_the_model_inside_is_found(clips):
    """Nothing is lost, so openai-whisper gives the same logits, channels and heads in order."""
    small = model(64)
    state = hidden_in_a_larger_one(small)
    large = Whisper(dims(128)).eval()
    large.load_state_dict(state)
    mel, tokens = torch.randn(1, 20, 80), torch.randint(300, (1, 16))
    with torch.no_grad():
        expected = small(mel, tokens)
        assert torch.allclose(large(mel, tokens), expected, atol=1e-4)
    found = narrow(Weights(dims(128), state), 64, clips)
    assert found.dims == dims(64)
    cut = Whisper(found.dims).eval()
    cut.load_state_dict(found.state)
    with torch.no_grad():
        assert torch.allclose(cut(mel, tokens), expected, atol=1e-3)


@pytest.mark.slow
def test_the_fit_is_nearer_than_the_weights_that_stay(clips, monkeypatch):
    source, (mel, _) = model(192), clips[-1]

    def error() -> float:
        found = narrow(Weights(source.dims, source.state_dict()), 128, clips[:-1])
        cut = Whisper(found.dims).eval()
        cut.load_state_dict(found.state)
        kept = [
            int((source.encoder.positional_embedding == column[:, None]).all(0).nonzero()[0])
            for column in cut.encoder.positional_embedding.T
        ]
        with torch.no_grad():
            wanted, got = source.encoder(mel)[..., kept], cut.encoder(mel)
        return float(F.mse_loss(got, wanted) / wanted.var())

    fitted = error()
    monkeypatch.setattr(module, "_fit", lambda *_: None)
    assert fitted < 0.9 * error()


def test_the_fit_is_the_least_squares(monkeypatch):
    monkeypatch.setattr(module, "_RIDGE", 1e-12)
    torch.manual_seed(0)
    x, y = torch.randn(50, 5), torch.randn(50, 3)
    layer = torch.nn.Linear(5, 3).requires_grad_(False)
    module._fit(layer, [x[:20], x[20:]], [y[:20], y[20:]])
    expected = torch.linalg.lstsq(torch.cat([x, torch.ones(50, 1)], 1), y).solution.T
    assert torch.allclose(torch.cat([layer.weight, layer.bias[:, None]], 1), expected, atol=1e-5)


def test_its_own_width_is_the_source_itself():
    weights = Weights(dims(128), {})
    assert narrow(weights, 128, []) is weights


@pytest.mark.parametrize("width", [0, -64, 65, 192, 256])
def test_widths_that_cannot_be(width):
    with pytest.raises(InputError, match=f"{width}: a multiple of 64, .* 128 at most"):
        narrow(Weights(dims(128), {}), width, [])
