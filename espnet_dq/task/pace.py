"""How long the teacher's answers and the trainings take on this machine, by a window of each."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from whisper.model import Whisper

from espnet_dq.config import DistillConfig
from espnet_dq.formats.openai import read as openai
from espnet_dq.task.plan import Length
from espnet_dq.whisper.forward import decode_hidden, encode, output_logits

TOKENS = 100  # of a window's text


@dataclass(frozen=True)
class Pace:
    """Seconds a window: of the teacher's answer, of a training step, of hearing dev."""

    answer: float
    step: float
    hearing: float

    def training(self, length: Length, dev: int) -> float:
        """Seconds of a training, `dev` windows being heard before it and after each interval."""
        looks = 1 + length.steps // length.interval
        heard = length.steps * length.windows / length.once
        return heard * self.step + looks * dev * self.hearing


def measure(teacher: Path, student: Path, config: Mapping) -> Pace:
    """One window through the teacher, and through the student forwards and back.

    Args:
        teacher, student: `.pt` files.
        config: the training configuration, for what of the encoder is trained.
    """
    frozen = DistillConfig.pick(config.get("model_conf") or {}).encoder_frozen
    model = _load(student)
    model.encoder.requires_grad_(not frozen)
    return Pace(_seconds(_load(teacher)), _seconds(model, True, frozen), _seconds(model))


def _load(path: Path) -> Whisper:
    weights = openai.load(path)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    return model


def _seconds(model: Whisper, learning: bool = False, encoded: bool = False) -> float:
    """Of the second of two windows; `encoded`: the encoder's output is kept from the first."""
    dims = model.dims
    mel = torch.zeros(1, dims.n_mels, 2 * dims.n_audio_ctx)
    tokens = torch.full((1, min(TOKENS, dims.n_text_ctx)), 220)
    audio = None
    with torch.set_grad_enabled(learning):
        for _ in range(2):
            started = time.perf_counter()
            if audio is None or not encoded:
                audio = encode(model.encoder, mel)
            hidden = decode_hidden(model.decoder, tokens, audio)
            loss = output_logits(model.decoder, hidden).logsumexp(-1).mean()
            if learning:
                loss.backward()
            elapsed = time.perf_counter() - started
    return elapsed
