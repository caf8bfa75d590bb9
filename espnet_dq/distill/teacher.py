"""The frozen teacher: loaded when first used, and never part of the student.

It is a plain object, not a sub-module: `model.train()`, optimizers, state dicts, averaging and
DDP all walk the module tree, and none of them may reach it.

It takes and gives the student's token ids. Where its own vocabulary is another one (a larger
Whisper's, or the whole one of a trimmed student) each token stands for the one of the same string:
of its logits those remain that the student has a token for, so that whoever takes their softmax
shares the probability of the others out among these. A trimmed student cuts some words into
smaller tokens than the teacher would; the teacher is fed the student's, which it has, too.
"""

from pathlib import Path

import torch
from torch import Tensor
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import Tokenizer

from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits
from espnet_dq.whisper.sequences import prompt
from espnet_dq.whisper.taps import Taps
from espnet_dq.whisper.vocabulary import partners, token_strings

# Logit of a token that the teacher lacks: no probability, and yet finite, since in a KL
# divergence zero times infinity is no number.
LACKING = -1e30


class Teacher:
    """A Whisper that only answers.

    `path` is a file or folder of any format, `student` the dimensions of who asks.
    """

    def __init__(self, path: str | Path, student: ModelDimensions):
        self.path = Path(path)
        self.student = student
        self._model: Whisper | None = None
        self._partners: Tensor | None = None

    def model(self, device: torch.device | str = "cpu") -> Whisper:
        """The model in eval mode on `device`; loaded strictly on the first call."""
        if self._model is None:
            if not self.path.exists():
                raise InputError(f"{self.path}: no such teacher file")
            weights = detect.load(self.path)
            model = Whisper(weights.dims)
            model.load_state_dict(weights.state)
            ours, theirs = (vocabulary_tokenizer(d).encoding for d in (self.student, weights.dims))
            if (ids := partners(ours, theirs)) is not None:
                self._partners = torch.tensor(ids)
            self._model = model.eval().requires_grad_(False)
        return self._model.to(device)

    @torch.no_grad()
    def hear(
        self, speech: Tensor, lengths: Tensor, samples: int, tapped: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Encoder output (B, P, D) and, if `tapped`, each layer's output, (B, P, D) (else []).

        `speech` (B, L) float at 16 kHz, `lengths` (B,), heard in a window of `samples`.
        """
        encoder = self.model(speech.device).encoder
        mel = log_mel(speech, lengths, self._model.dims.n_mels, samples, "zeros")
        with Taps(encoder, "block" if tapped else None) as taps:
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
        with Taps(decoder, tap) as taps:
            hidden = decode_hidden(decoder, self._own(tokens), audio)
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
        opening = text.new_tensor([*prompt(tokenizer, 0, timed=True), first])
        opening = opening.repeat(len(text), 1)
        opening[:, 1] = language
        tokens = torch.cat([opening, text.clamp(min=0)], dim=1)
        hidden = decode_hidden(decoder, self._own(tokens), audio)
        last = hidden[torch.arange(len(text)), text_lengths + opening.shape[1] - 1]
        return self.logits(last)[:, first + 1 :].argmax(dim=1) + first + 1

    def first_linears(self, device: torch.device | str = "cpu") -> list[Tensor]:
        """The first feed-forward weight, (4 D, D), of each decoder layer."""
        return [block.mlp[0].weight for block in self.model(device).decoder.blocks]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (N, V) of hidden states (N, D), V the student's tokens."""
        with torch.no_grad():
            logits = output_logits(self.model(hidden.device).decoder, hidden)
            if self._partners is None:
                return logits
            ids = self._partners.to(logits.device)
            return logits.float()[:, ids.clamp(min=0)].masked_fill(ids < 0, LACKING)

    def _own(self, tokens: Tensor) -> Tensor:
        """The teacher's ids of the student's tokens; `InputError` names one that it lacks."""
        if self._partners is None:
            return tokens
        own = self._partners.to(tokens.device)[tokens]
        if bool((own < 0).any()):
            tokens_of = token_strings(vocabulary_tokenizer(self.student).encoding)
            token = tokens_of[int(tokens[own < 0][0])]
            raise InputError(f"{self.path}: the teacher has no token {token}")
        return own
