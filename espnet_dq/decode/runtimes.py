"""The runtimes that decode, behind one small interface.

Every runtime sees each clip padded to Whisper's 30 s window and decodes greedily by default:
temperature 0, no text from before, no timestamp tokens, no voice activity detection.

How the work is spread was measured (two cores, base, 60 clips): the encoder takes 5/6 of the time
and gains nothing from a batch in CTranslate2, so faster-whisper decodes one clip in each of
`nj` workers; PyTorch takes `nj` clips of one language as a batch.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.errors import InputError

WINDOW = 30.0  # seconds
RUNTIMES = ("torch", "faster-whisper", "whisper.cpp")


@dataclass(frozen=True)
class Segment:
    """A piece of a transcript; times in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str


class Runtime(Protocol):
    """What a runtime offers.

    Attributes:
        compute_type: the type that matrix products really run in (`float32`, `int8_float32`).
        options: all that decides the text, for the records.
        languages: codes that the model knows.
        threads: CPU threads in all.
        workers: how many threads may call `decode` at a time.
        batch: how many clips one call of `decode` takes at most.
    """

    compute_type: str
    options: dict
    languages: frozenset[str]
    threads: int
    workers: int
    batch: int

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        """Text of each clip, (samples,) float32 at 16 kHz, all in one language."""

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        """Language (detected if not given) and segments of audio of any length.

        With `timestamps`, or when the audio is longer than a window, the model's timestamp
        tokens cut it into segments; otherwise it is decoded as in `decode`.
        """


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def guess_runtime(path: Path | str) -> str:
    """`faster-whisper` for a CTranslate2 folder, `whisper.cpp` for .bin, else `torch`."""
    path = Path(path)
    if path.suffix == ".bin" and path.is_file():
        return "whisper.cpp"
    return "faster-whisper" if (path / "model.bin").is_file() else "torch"


def load_runtime(
    name: str, path: Path | str, threads: int = 0, nj: int = 0, beam_size: int = 1
) -> Runtime:
    """Load a model into a runtime.

    Args:
        name: one of `RUNTIMES`.
        path: `torch`: a `.pt` file, or an experiment folder whose model is decoded as it was
            trained, fake quantization included. `faster-whisper`: a CTranslate2 folder.
            `whisper.cpp`: a ggml file.
        threads: CPU threads in all; 0 takes every core.
        nj: clips at a time; 0 takes one for each thread (faster-whisper) or 8 (torch).
            whisper.cpp decodes one.
        beam_size: 1 is greedy.

    Raises:
        InputError: the path does not hold a model that this runtime reads.
    """
    threads = threads or cores()
    if name == "torch":
        return Torch(Path(path), threads, nj or 8, beam_size)
    if name == "faster-whisper":
        return FasterWhisper(Path(path), threads, nj or threads, beam_size)
    if name == "whisper.cpp":
        return WhisperCpp(Path(path), threads, beam_size)
    raise InputError(f"unknown runtime '{name}': known are {', '.join(RUNTIMES)}")


class FasterWhisper:
    """faster-whisper on the CPU, one worker of CTranslate2 for each clip at a time."""

    batch = 1

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        # A name that is no folder would be looked up on the model hub, a missing tokenizer too.
        for name in ("model.bin", "config.json", "tokenizer.json"):
            if not (path / name).is_file():
                raise InputError(f"{path}: not a CTranslate2 folder, {name} is missing")
        import ctranslate2
        from faster_whisper import WhisperModel

        ctranslate2.set_log_level(40)  # errors: what is computed in is in our records anyway
        self.threads, self.workers = threads, nj
        try:
            self.model = WhisperModel(
                str(path),
                device="cpu",
                compute_type="default",
                cpu_threads=max(1, threads // nj),
                num_workers=nj,
            )
        except Exception as e:  # tokenizers raises bare Exception
            raise InputError(f"{path}: faster-whisper cannot load it: {_line(e)}") from e
        self.compute_type = self.model.model.compute_type
        token = self.model.hf_tokenizer.token_to_id  # not every model knows every language
        self.languages = frozenset(
            code for code in self.model.supported_languages if token(f"<|{code}|>") is not None
        )
        self.options = {
            "task": "transcribe",
            "beam_size": beam_size,
            "temperature": 0.0,
            "condition_on_previous_text": False,
            "without_timestamps": True,
            "vad_filter": False,
        }

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        texts = []
        for clip in clips:
            segments, _ = self.model.transcribe(clip, language=language, **self.options)
            texts.append(_join(segment.text for segment in segments))
        return texts

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        options = dict(self.options)
        if timestamps or len(audio) > WINDOW * SAMPLE_RATE:
            options["without_timestamps"] = False
            del options["temperature"]  # faster-whisper's ladder of them gets it out of loops
        segments, info = self.model.transcribe(audio, language=language, **options)
        return info.language, [Segment(s.start, s.end, s.text.strip()) for s in segments]


class WhisperCpp:
    """whisper.cpp on the CPU, one clip at a time in all threads."""

    workers = 1
    batch = 1

    def __init__(self, path: Path, threads: int, beam_size: int) -> None:
        from espnet_dq.formats import ggml

        # Read by us first: native code is only given a file whose every size fits.
        content = ggml.read(path)
        from pywhispercpp.model import Model
        from whisper.tokenizer import LANGUAGES

        self.threads = threads
        self.compute_type = content.tensors["decoder.token_embedding.weight"].kind.name.lower()
        vocabulary = content.dims.n_vocab  # 99 languages in 51865; 51864 is English-only
        known = list(LANGUAGES)[: vocabulary - 51766] if vocabulary >= 51865 else ["en"]
        self.languages = frozenset(known)
        self.options = {
            "temperature": 0.0,
            "temperature_inc": 0.0,
            "no_context": True,
            "no_timestamps": True,
            "suppress_nst": True,
        }
        if beam_size > 1:
            self.options["beam_search"] = {"beam_size": beam_size, "patience": -1.0}
        quiet = {"print_progress": False, "print_realtime": False}
        try:
            self.model = Model(
                str(path),
                params_sampling_strategy=int(beam_size > 1),
                redirect_whispercpp_logs_to=None,
                n_threads=threads,
                **quiet,
                **self.options,
            )
        except Exception as e:
            raise InputError(f"{path}: whisper.cpp cannot load it: {_line(e)}") from e

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        return [
            _join(part.text for part in self.model.transcribe(clip, language=language))
            for clip in clips
        ]

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        if language is None:
            (language, _), _ = self.model.auto_detect_language(audio)
        plain = not timestamps and len(audio) <= WINDOW * SAMPLE_RATE
        parts = self.model.transcribe(
            audio,
            language=language,
            no_timestamps=plain,
            temperature_inc=0.0 if plain else 0.2,  # whisper.cpp's way out of loops
        )
        # Times are in hundredths of a second.
        return language, [Segment(s.t0 / 100, s.t1 / 100, s.text.strip()) for s in parts]


class Torch:
    """openai-whisper's decoder, with its key/value cache, on the CPU in float32."""

    workers = 1
    compute_type = "float32"

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        import torch
        from whisper.tokenizer import LANGUAGES

        torch.set_num_threads(threads)
        self.threads, self.batch = threads, nj
        self.model = _load_torch(path).eval()
        known = list(LANGUAGES)[: self.model.num_languages]
        self.languages = frozenset(known if self.model.is_multilingual else ["en"])
        self.options = {
            "task": "transcribe",
            "beam_size": beam_size if beam_size > 1 else None,  # None: greedy, the same as 1
            "temperature": 0.0,
            "without_timestamps": True,
            "fp16": False,
        }

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        import torch
        import whisper
        from torch.nn.utils import parametrize

        texts = [""] * len(clips)
        short = [i for i, clip in enumerate(clips) if len(clip) <= whisper.audio.N_SAMPLES]
        # cached: a fake-quantized weight is rounded once, not in every step of the decoder.
        with torch.inference_mode(), parametrize.cached():
            if short:
                mels = torch.stack([self._window(clips[i]) for i in short])
                options = whisper.DecodingOptions(language=language, **self.options)
                for i, result in zip(short, self.model.decode(mels, options), strict=True):
                    # whisper.transcribe's rule for a window without speech, its thresholds
                    silent = result.no_speech_prob > 0.6 and result.avg_logprob <= -1.0
                    texts[i] = "" if silent else result.text.strip()
        for i in set(range(len(clips))) - set(short):
            texts[i] = _join(s.text for s in self._long(clips[i], language, self.options)[1])
        return texts

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        options = dict(self.options)
        if timestamps or len(audio) > WINDOW * SAMPLE_RATE:
            options["without_timestamps"] = False
            del options["temperature"]
        return self._long(audio, language, options)

    def _window(self, clip: np.ndarray):
        """Log-mel features (n_mels, 3000) as whisper.transcribe and faster-whisper make them.

        The rest of the window is zeros after the logarithm, which is not what silence gives:
        models hear the difference.
        """
        import whisper
        from whisper.audio import N_FRAMES, N_SAMPLES

        mel = whisper.log_mel_spectrogram(clip, self.model.dims.n_mels, padding=N_SAMPLES)
        return whisper.pad_or_trim(mel[:, : mel.shape[-1] - N_FRAMES], N_FRAMES)

    def _long(self, audio, language, options) -> tuple[str, list[Segment]]:
        import whisper
        from torch.nn.utils import parametrize

        with parametrize.cached():
            result = whisper.transcribe(
                self.model,
                audio,
                language=language,
                condition_on_previous_text=False,
                verbose=None,
                **options,
            )
        segments = [Segment(s["start"], s["end"], s["text"].strip()) for s in result["segments"]]
        return result["language"], segments


def _load_torch(path: Path):
    """A `whisper.model.Whisper` from a `.pt` file or from an experiment folder, strictly."""
    if path.is_dir():
        from espnet_dq.quant.checkpoint import load_student

        return load_student(path).prepared()
    from whisper.model import Whisper

    from espnet_dq.formats import openai

    weights = openai.load(path)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    return model


def _join(texts) -> str:
    return " ".join(filter(None, (text.strip() for text in texts)))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
