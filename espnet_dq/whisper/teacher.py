"""The frozen teacher: loaded when first used, and never part of the student.

It is a plain object, not a sub-module: `model.train()`, optimizers, state dicts, averaging and
DDP all walk the module tree, and none of them may reach it.
"""

from pathlib import Path

import torch
import whisper
from torch import Tensor
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer

from espnet_dq.distill.taps import Taps
from espnet_dq.errors import InputError
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits


class Teacher:
    """A Whisper that only answers. `path` is an openai-whisper `.pt` file."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._model: Whisper | None = None

    def model(self, device: torch.device | str = "cpu") -> Whisper:
        """The model in eval mode on `device`; loaded strictly on the first call."""
        if self._model is None:
            if not self.path.is_file():
                raise InputError(f"{self.path}: no such teacher file")
            self._model = whisper.load_model(str(self.path), device="cpu").float().eval()
            self._model.requires_grad_(False)
        return self._model.to(device)

    @torch.no_grad()
    def hear(
        self, speech: Tensor, lengths: Tensor, samples: int, tapped: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Encoder output (B, P, D) and, if `tapped`, each layer's output, (B, P, D) (else []).

        `speech` (B, L) float at 16 kHz, `lengths` (B,), heard in a window of `samples`.
        """
        encoder = self.model(speech.device).encoder
        mel = log_mel(speech, lengths, self._model.dims.n_mels, samples)
        if not tapped:
            return encode(encoder, mel), []
        with Taps(encoder, "block") as taps:
            audio = encode(encoder, mel)
        return audio, taps.states

    @torch.no_grad()
    def __call__(
        self, audio: Tensor, tokens: Tensor, tap: str | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Last hidden states (B, T, D) and tapped states, one (B, T, W) a layer (none: []).

        `audio` (B, P, D) from `hear`; `tokens` (B, T) int64.
        """
        decoder = self.model(audio.device).decoder
        if tap is None:
            return decode_hidden(decoder, tokens, audio), []
        with Taps(decoder, tap) as taps:
            hidden = decode_hidden(decoder, tokens, audio)
        return hidden, taps.states

    @torch.no_grad()
    def end_timestamps(
        self,
        audio: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        language: Tensor,
        tokenizer: Tokenizer,
    ) -> Tensor:
        """The timestamp tokens (B,) that the teacher puts after the text, opened at 0.00 s.

        `audio` (B, P, D) from `hear`; text tokens (B, T) with lengths (B,); language tokens (B,).
        """
        decoder = self.model(audio.device).decoder
        first = tokenizer.timestamp_begin
        opening = text.new_tensor([tokenizer.sot, 0, tokenizer.transcribe, first])
        opening = opening.repeat(len(text), 1)
        opening[:, 1] = language
        tokens = torch.cat([opening, text.clamp(min=0)], dim=1)
        hidden = decode_hidden(decoder, tokens, audio)
        last = hidden[torch.arange(len(text)), text_lengths + opening.shape[1] - 1]
        return self.logits(last)[:, first + 1 :].argmax(dim=1) + first + 1

    def first_linears(self, device: torch.device | str = "cpu") -> list[Tensor]:
        """The first feed-forward weight, (4 D, D), of each decoder layer."""
        return [block.mlp[0].weight for block in self.model(device).decoder.blocks]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (N, V) of hidden states (N, D)."""
        with torch.no_grad():
            return output_logits(self.model(hidden.device).decoder, hidden)
