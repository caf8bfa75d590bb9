"""Clips of a Kaldi folder as a Whisper hears them, with their own texts for its decoder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from whisper.audio import SAMPLE_RATE
from whisper.model import ModelDimensions

from espnet_dq.config import WindowConfig, check_whole
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.languages import codes
from espnet_dq.data.noise import coloured
from espnet_dq.errors import InputError, named
from espnet_dq.whisper.dims import language_token, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.forward import log_mel, own_window, window_samples
from espnet_dq.whisper.room import most_text
from espnet_dq.whisper.sequences import prompt


def read_speech(data: KaldiDir, utt: str, dims: ModelDimensions) -> Tensor:
    """An utterance's clip (samples,); `InputError` names it if it is longer than the window."""
    speech = torch.from_numpy(load_audio(data.wav[utt]))
    check_length(utt, len(speech), dims)
    return speech


def check_length(utt: str, samples: int, dims: ModelDimensions) -> None:
    """Raise `InputError` if an utterance of so many samples is longer than the model's window."""
    if samples > (full := own_window(dims)):
        seconds = f"{samples / SAMPLE_RATE:.1f} s; the model hears {full / SAMPLE_RATE:g} s"
        raise InputError(f"{utt}: {seconds}")


def read_text(data: KaldiDir, utt: str, dims: ModelDimensions) -> tuple[list[int], int]:
    """The tokens of an utterance's text, and of its language.

    Raises `InputError`, which names the utterance, for an unknown language, a text that is none, or
    one that the decoder has no room for.
    """
    tokenizer, most = vocabulary_tokenizer(dims), most_text(dims.n_text_ctx)
    with named(utt):
        language = language_token(tokenizer, data.utt2lang[utt])
        text = encode_text(tokenizer, data.text[utt], data.utt2lang[utt])
    if len(text) > most:
        raise InputError(f"{utt}: {len(text)} tokens of text; the decoder has room for {most}")
    return text, language


class PromptedClips:
    """Up to `count` clips, spread evenly over the folder's names.

    Each is log-mel features (1, n_mels, F) of a window (as `window_samples`, filled as `log_mel`
    says of `padding`), and tokens (1, T) int64: the prompt and the text, without timestamps.

    Raises `InputError` for a `count` below 1, a folder without utterances or whose tables have
    other ones, and, when it comes to it, for an utterance in a language that the model does not
    know, longer than its window or than its decoder has room for; the line names the folder.
    """

    def __init__(
        self,
        folder: Path | str,
        count: int,
        dims: ModelDimensions,
        window: str | float,
        padding: str = WindowConfig.padding,
    ) -> None:
        check_whole("clips", count, 1)
        self.folder, self.data, self.dims = folder, KaldiDir.load(folder), dims
        self.data.utt2lang = codes(self.data.utt2lang, Path(folder, "utt2lang"))
        self.window, self.padding = window, padding
        names = sorted(self.data.wav)
        if not names:
            raise InputError(f"{folder}: no utterances")
        count = min(count, len(names))
        self.names = [names[i * len(names) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(self._clip, self.names)

    def _clip(self, utt: str) -> tuple[Tensor, Tensor]:
        with named(self.folder):
            speech = read_speech(self.data, utt, self.dims)[None]
            text, language = read_text(self.data, utt, self.dims)
        tokens = torch.tensor([[*prompt(vocabulary_tokenizer(self.dims), language), *text]])
        samples = window_samples(speech.shape[1], self.window, own_window(self.dims))
        return self._mel(speech, samples), tokens

    def _mel(self, speech: Tensor, samples: int) -> Tensor:
        lengths = torch.tensor([speech.shape[1]])
        return log_mel(speech, lengths, self.dims.n_mels, samples, self.padding)


class RoundingClips(PromptedClips):
    """Those in full windows, and four windows in which nobody speaks, with prompts alone.

    By clips of speech alone a model is rounded to one that speaks where nobody does. Windows are
    filled as `padding` says: as in its training, or by the runtime of its grids (`padding_of`).
    """

    def __init__(self, folder: Path | str, count: int, dims: ModelDimensions, padding: str) -> None:
        super().__init__(folder, count, dims, "full", padding)
        self._sounds = _no_speech(own_window(dims))

    def __len__(self) -> int:
        return len(self.names) + len(self._sounds)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().__iter__()
        tokenizer = vocabulary_tokenizer(self.dims)
        languages = sorted({*self.data.utt2lang.values()})
        for i, sound in enumerate(self._sounds):
            language = language_token(tokenizer, languages[i % len(languages)])
            tokens = torch.tensor([prompt(tokenizer, language)])
            yield self._mel(torch.from_numpy(sound)[None], len(sound)), tokens


def _no_speech(samples: int) -> list[np.ndarray]:
    """Silence, faint brown and loud white noise, and a tone that rises by 100 Hz a second."""
    random, seconds = np.random.default_rng(0), np.arange(samples) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * (200 * seconds + 50 * seconds**2))
    loud = (0.0 * tone, 0.02 * coloured(samples, 2, random), 0.1 * coloured(samples, 0, random))
    return [sound.astype(np.float32) for sound in (*loud, 0.1 * tone)]
