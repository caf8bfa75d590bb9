"""Checkpoints and experiment folders in openai-whisper's own decoder."""

from pathlib import Path

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.decode.runtimes.interface import WINDOW, Segment, join, windows


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
                mels = torch.stack([windows(clips[i], self.model.dims.n_mels)[0] for i in short])
                options = whisper.DecodingOptions(language=language, **self.options)
                for i, result in zip(short, self.model.decode(mels, options), strict=True):
                    # whisper.transcribe's rule for a window without speech, its thresholds
                    silent = result.no_speech_prob > 0.6 and result.avg_logprob <= -1.0
                    texts[i] = "" if silent else result.text.strip()
        for i in set(range(len(clips))) - set(short):
            texts[i] = join(s.text for s in self._long(clips[i], language, self.options)[1])
        return texts

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        options = dict(self.options)
        if timestamps or len(audio) > WINDOW * SAMPLE_RATE:
            options["without_timestamps"] = False
            del options["temperature"]
        return self._long(audio, language, options)

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
