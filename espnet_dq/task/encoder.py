"""Whisper's encoder as an ESPnet encoder."""

from collections.abc import Mapping, Sequence

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from torch import Tensor
from whisper.model import AudioEncoder

from espnet_dq.config import WindowConfig
from espnet_dq.whisper.dims import model_dims
from espnet_dq.whisper.forward import encode, log_mel, own_window, window_samples


class DQWhisperEncoder(AbsEncoder):
    """Raw 16 kHz speech in, encoder output of openai-whisper's layers out.

    Args:
        input_size: ignored (ESPnet passes 1, for raw speech).
        dims: a size ("tiny") or all of openai-whisper's dimensions by name.
        window, padding: of training batches, see `espnet_dq.config.WindowConfig`. Outside training
            the window is always the full one, as in the runtimes.
        checkpointing: compute blocks again in the backward pass, for less memory.

    ESPnet recognises a Whisper encoder by "Whisper" in the class name.
    """

    def __init__(
        self,
        input_size: int = 1,
        dims: str | Mapping[str, int] = "tiny",
        window: str | float | Sequence[float] = WindowConfig.window,
        padding: str = WindowConfig.padding,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.dims = d = model_dims(dims)
        WindowConfig(window, padding)  # refuses an unknown one now, not in the first batch
        self.window = window
        self.padding = padding
        self.checkpointing = checkpointing
        self.net = AudioEncoder(
            d.n_mels, d.n_audio_ctx, d.n_audio_state, d.n_audio_head, d.n_audio_layer
        )

    def output_size(self) -> int:
        """Width of the encoder output."""
        return self.dims.n_audio_state

    def samples(self, longest: int) -> int:
        """Samples that a batch whose longest utterance has `longest` is padded to."""
        window = self.window if self.training else "full"
        return window_samples(longest, window, own_window(self.dims))

    def forward(
        self,
        xs_pad: Tensor,
        ilens: Tensor,
        prev_states: Tensor | None = None,
        specaug: AbsSpecAug | None = None,
    ) -> tuple[Tensor, Tensor, None]:
        """Speech (B, L) and lengths (B,) -> output (B, P, D), lengths (B,), all P.

        Whisper attends to the padding as well, so every position of the window is valid, and so
        `specaug`, if any, may mask each.
        """
        longest = int(ilens.max())
        mel = log_mel(xs_pad, ilens, self.dims.n_mels, self.samples(longest), self.padding)
        if specaug is not None:
            mel = specaug(mel.transpose(1, 2))[0].transpose(1, 2)
        out = encode(self.net, mel, self.checkpointing)
        return out, torch.full_like(ilens, out.shape[1]), None
