"""Whisper's decoder as an ESPnet decoder and beam-search scorer."""

from collections.abc import Mapping, Sequence

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from torch import Tensor
from torch.nn.utils import parametrize
from whisper.model import TextDecoder

from espnet_dq.errors import InputError
from espnet_dq.whisper.dims import language_token, model_dims, vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, output_logits
from espnet_dq.whisper.vocabulary import with_tokens

# Language, task and <|notimestamps|>, which a prefix of ESPnet's does not have.
PROMPT_TAIL = 3


class DQWhisperDecoder(AbsDecoder, BatchScorerInterface):
    """openai-whisper's text decoder.

    Args:
        vocab_size: length of the token list; must be `n_vocab` of `dims`. Which tokens they are
            the model tells (`set_tokens`): ESPnet gives no decoder the list.
        encoder_output_size: must be the width of `dims`.
        dims: a size ("tiny") or all of openai-whisper's dimensions by name.
        language: for stock `asr_inference`, which has no languages: a Whisper code, or null to
            detect it for each utterance. Training takes languages from the data.
        checkpointing: compute blocks again in the backward pass, for less memory.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        dims: str | Mapping[str, int] = "tiny",
        language: str | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.dims = d = model_dims(dims)
        if vocab_size != d.n_vocab:
            raise InputError(f"token_list has {vocab_size} tokens; the decoder has {d.n_vocab}")
        if encoder_output_size != d.n_text_state:
            raise InputError(
                f"the encoder is {encoder_output_size} wide; the decoder expects {d.n_text_state}"
            )
        self.net = TextDecoder(
            d.n_vocab, d.n_text_ctx, d.n_text_state, d.n_text_head, d.n_text_layer
        )
        self.given_language = language
        self.checkpointing = checkpointing

    def set_tokens(self, tokens: Sequence[str]) -> None:
        """Take the tokenizer from the token list, before anything is decoded.

        Raises `InputError` when the list is no Whisper's, or lacks the given language.
        """
        self.dims = with_tokens(self.dims, tokens, "token_list")
        self.tokenizer = vocabulary_tokenizer(self.dims)
        language = self.given_language
        self.language = None if language is None else language_token(self.tokenizer, language)
        special = set(self.tokenizer.special_tokens.values()) - {self.tokenizer.eot}
        suppressed = sorted(special | set(self.tokenizer.non_speech_tokens))
        self.register_buffer("suppressed", torch.tensor(suppressed), persistent=False)

    def forward(
        self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encoder output (B, P, D) and tokens (B, T) -> logits (B, T, V), lengths (B,)."""
        return output_logits(self.net, self.hidden(hs_pad, ys_in_pad)), ys_in_lens

    def hidden(self, audio: Tensor, tokens: Tensor) -> Tensor:
        """Encoder output (B, P, D) and tokens (B, T) -> last hidden states (B, T, D)."""
        return decode_hidden(self.net, tokens, audio, self.checkpointing)

    def batch_score(
        self, ys: Tensor, states: list, xs: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, list]:
        """Log-probabilities (B, V) of the token after the prefixes `ys` (B, T).

        A prefix starts with `<|startoftranscript|>` only; the language, the task and
        `<|notimestamps|>` are put behind it here. Special tokens cannot be chosen.
        """
        if ys.shape[1] + PROMPT_TAIL > self.dims.n_text_ctx:  # a loop: end it
            scores = torch.full((len(ys), self.dims.n_vocab), -torch.inf, device=ys.device)
            scores[:, self.tokenizer.eot] = 0.0
            return scores, states
        with parametrize.cached():
            languages = torch.stack([self._language(x, s) for x, s in zip(xs, states, strict=True)])
            tail = ys.new_tensor([self.tokenizer.transcribe, self.tokenizer.no_timestamps])
            prompt = torch.cat([ys[:, :1], languages[:, None], tail.expand(len(ys), 2)], dim=1)
            hidden = decode_hidden(self.net, torch.cat([prompt, ys[:, 1:]], dim=1), xs)
            logits = output_logits(self.net, hidden[:, -1])
        logits[:, self.suppressed] = -torch.inf
        if ys.shape[1] == 1:  # no empty transcript, as in openai-whisper's SuppressBlank
            logits[:, [*self.tokenizer.encode(" "), self.tokenizer.eot]] = -torch.inf
        return logits.log_softmax(dim=-1), list(languages)

    def score(self, ys: Tensor, state, x: Tensor) -> tuple[Tensor, Tensor]:
        """`batch_score` for one prefix (T,) and one utterance (P, D)."""
        scores, states = self.batch_score(ys[None], [state], x[None])
        return scores[0], states[0]

    def _language(self, audio: Tensor, state: Tensor | None) -> Tensor:
        """The language token: the configured one, or the likeliest, kept as the scorer's state."""
        if state is not None:
            return state
        if self.language is not None:
            return torch.tensor(self.language, device=audio.device)
        start = torch.tensor([[self.tokenizer.sot]], device=audio.device)
        logits = output_logits(self.net, decode_hidden(self.net, start, audio[None]))[0, 0]
        ids = torch.tensor(self.tokenizer.all_language_tokens, device=audio.device)
        return ids[logits[ids].argmax()]
