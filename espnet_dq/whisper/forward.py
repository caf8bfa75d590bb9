"""Forward passes through openai-whisper's own layers, for any audio context.

openai-whisper's `AudioEncoder` insists on 30 s, and its `TextDecoder` computes the logits of
every position. Both are walked here layer by layer: the same modules and the same numbers, but
with the context that a batch needs, and with logits only where they count.

With `checkpointing` a block keeps nothing but its input for the backward pass, which computes the
block again (Chen et al., arXiv 1604.06174): less memory, more time, the same gradients.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from whisper.audio import HOP_LENGTH, N_FFT, N_SAMPLES, log_mel_spectrogram
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

from espnet_dq.config import PRECISIONS, WindowConfig, check_window, known
from espnet_dq.errors import InputError

SAMPLE_RATE = 16000
# Two hops of 160 samples make one encoder position (conv2 has stride 2).
SAMPLES_PER_POSITION = 320


def products(device: torch.device, precision: str) -> AbstractContextManager:
    """Within it, matrix products are in one of `PRECISIONS`; float32 leaves them as they are."""
    known("precision", precision, PRECISIONS)
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def log_mel(
    speech: Tensor,
    lengths: Tensor,
    n_mels: int,
    samples: int,
    padding: str = WindowConfig.padding,
) -> Tensor:
    """Log-mel features of a padded batch, (B, n_mels, F), for a window of `samples`.

    `speech` (B, L) float at 16 kHz, `lengths` (B,). Each utterance is normalised by itself. The
    rest of the window is filled as runtimes do, with `padding`: `zeros`, after the logarithm
    (openai-whisper's `transcribe`, faster-whisper), or `silence`, before it (whisper.cpp). A
    model hears the difference. In float32 under autocast, too: a logarithm makes much of little.
    """
    with torch.autocast(speech.device.type, enabled=False):
        return _log_mel(speech, lengths, n_mels, samples, padding)


def _log_mel(speech: Tensor, lengths: Tensor, n_mels: int, samples: int, padding: str) -> Tensor:
    frames = samples // HOP_LENGTH
    mels = []
    for audio, length in zip(speech, lengths.tolist(), strict=True):
        # Silence behind the speech gives its last frames the context that a long file gives.
        behind = N_FFT + (samples - length if padding == "silence" else 0)
        mel = log_mel_spectrogram(audio[:length], n_mels, padding=behind, device=speech.device)
        mel = mel[:, : frames if padding == "silence" else length // HOP_LENGTH]
        mels.append(F.pad(mel, (0, frames - mel.shape[1])))
    return torch.stack(mels)


def encode(encoder: AudioEncoder, mel: Tensor, checkpointing: bool = False) -> Tensor:
    """Encoder output (B, F / 2, D) for (B, n_mels, F) features of at most 30 s."""
    x = F.gelu(encoder.conv1(mel))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
    for block in encoder.blocks:
        x = _through(block, checkpointing, x)
    return encoder.ln_post(x)


def decode_hidden(
    decoder: TextDecoder, tokens: Tensor, audio: Tensor, checkpointing: bool = False
) -> Tensor:
    """Last hidden states (B, T, D), before the output projection; tokens (B, T) int64."""
    length, room = tokens.shape[1], len(decoder.positional_embedding)
    if length > room:
        raise InputError(f"a sequence of {length} tokens; the decoder has room for {room}")
    x = decoder.token_embedding(tokens) + decoder.positional_embedding[:length]
    x = x.to(audio.dtype)
    for block in decoder.blocks:
        x = _through(block, checkpointing, x, audio, mask=decoder.mask)
    return decoder.ln(x)


def _through(block: nn.Module, checkpointing: bool, *inputs: Tensor, **options: Tensor) -> Tensor:
    if not (checkpointing and torch.is_grad_enabled()):
        return block(*inputs, **options)
    # Whisper has no dropout, so there is no random state to keep.
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, **options)


def output_logits(decoder: TextDecoder, hidden: Tensor) -> Tensor:
    """Logits (..., V) float32 of hidden states (..., D), through the tied embedding."""
    return (hidden @ decoder.token_embedding.weight.to(hidden.dtype).T).float()


def positions(samples: int) -> int:
    """Encoder positions that `samples` need, rounded up."""
    return -(-samples // SAMPLES_PER_POSITION)


def own_window(dims: ModelDimensions) -> int:
    """Samples that a model of these dimensions hears at a time: 30 s, of some students less."""
    return dims.n_audio_ctx * SAMPLES_PER_POSITION


def window_samples(
    longest: int, window: str | float | Sequence[float], full: int = N_SAMPLES
) -> int:
    """Samples to which a batch is padded, given its longest utterance.

    `full`: the model's own window (`own_window`), what every runtime feeds. `batch`: the longest
    utterance. `random`: uniformly between the two, so that the model sees every length of silence
    after the speech. A number: the longest utterance and that many seconds of silence, the own
    window at most. Several numbers: one of these lengths in seconds that hold the longest utterance
    (the own window if none does), any as likely. Whole encoder positions. Raises `InputError` above
    the own window and for an unknown one.
    """
    check_window("window", window)
    if longest > full:
        raise InputError(
            f"an utterance of {longest / SAMPLE_RATE:.1f} s; the model hears "
            f"{full / SAMPLE_RATE:g} s"
        )
    shortest, most = positions(longest), positions(full)
    if window == "full":
        chosen = most
    elif window == "batch":
        chosen = shortest
    elif window == "random":
        chosen = int(torch.randint(shortest, most + 1, ()))
    elif isinstance(window, int | float):
        silence = min(window, full / SAMPLE_RATE)
        chosen = min(most, positions(longest + int(silence * SAMPLE_RATE)))
    else:
        lengths = (positions(int(min(s, full / SAMPLE_RATE) * SAMPLE_RATE)) for s in window)
        fitting = sorted({length for length in lengths if length >= shortest}) or [most]
        chosen = fitting[int(torch.randint(len(fitting), ()))]
    return chosen * SAMPLES_PER_POSITION
