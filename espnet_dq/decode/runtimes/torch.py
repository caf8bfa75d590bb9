"""Checkpoints and experiment folders in openai-whisper's own decoder."""

from pathlib import Path

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.decode.runtimes.interface import WINDOW, Segment, join, windows
from espnet_dq.errors import InputError


class Torch:
    """openai-whisper's decoder, with its key/value cache, on the CPU in float32."""

    workers = 1
    compute_type = "float32"
    padding = "zeros"  # of the windows; an experiment's are padded as it was trained

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        import torch
        from whisper.tokenizer import LANGUAGES

        from espnet_dq.whisper.vocabulary import TrimmedDimensions

        torch.set_num_threads(threads)
        # openai-whisper's beam search takes one clip.
        self.threads, self.batch = threads, nj if beam_size == 1 else 1
        self.model = self._load(path)
        if isinstance(self.model.dims, TrimmedDimensions):
            speak_whole(self.model)
        # The model's window: 3000 log-mel frames, of a short-window student fewer.
        self.frames = 2 * self.model.dims.n_audio_ctx
        known = list(LANGUAGES)[: self.model.num_languages]
        self.languages = frozenset(known if self.model.is_multilingual else ["en"])
        self.options = {
            "task": "transcribe",
            "beam_size": beam_size if beam_size > 1 else None,  # None: greedy, the same as 1
            "temperature": 0.0,
            "without_timestamps": True,
            "fp16": False,
        }

    def _load(self, path: Path):
        """What is decoded: a `whisper.model.Whisper`, or what behaves like one, strictly loaded."""
        if path.is_dir():
            from espnet_dq.quant.checkpoint import load_student

            student = load_student(path)
            self.padding = student.padding
            return student.prepared()
        from whisper.model import Whisper

        from espnet_dq.formats import detect

        weights = detect.load(path)
        model = Whisper(weights.dims)
        model.load_state_dict(weights.state)
        return model.eval()

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        import torch
        import whisper
        from torch.nn.utils import parametrize
        from whisper.audio import HOP_LENGTH

        texts = [""] * len(clips)
        short = [i for i, clip in enumerate(clips) if len(clip) <= self.frames * HOP_LENGTH]
        # cached: a fake-quantized weight is rounded once, not in every step of the decoder.
        with torch.inference_mode(), parametrize.cached():
            if short:
                n_mels = self.model.dims.n_mels
                mels = torch.stack(
                    [windows(clips[i], n_mels, self.frames, self.padding)[0] for i in short]
                )
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

        if self.frames != whisper.audio.N_FRAMES:
            seconds = self.frames / whisper.audio.FRAMES_PER_SECOND
            raise InputError(f"this model only hears {seconds:g} s at a time, this needs 30")
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


def speak_whole(model) -> None:
    """Let openai-whisper's search, which only knows whole vocabularies, run a trimmed model.

    From then on its decoder takes and gives the whole vocabulary's ids, and what was left out of
    it is never likely. `model` is a `whisper.model.Whisper` or behaves like one.
    """
    import torch
    from whisper.model import ModelDimensions

    from espnet_dq.whisper.vocabulary import numbers, whole_size

    size, kept = whole_size(model.dims), torch.tensor(model.dims.kept)
    places = torch.zeros(size, dtype=torch.long)
    places[kept] = torch.arange(len(kept))

    def widen(_, args, logits):
        wide = logits.new_full((*logits.shape[:-1], size), -torch.inf)
        wide[..., kept] = logits
        return wide

    model.decoder.register_forward_pre_hook(lambda _, args: (places[args[0]], *args[1:]))
    model.decoder.register_forward_hook(widen)
    model.dims = ModelDimensions(**numbers(model.dims) | {"n_vocab": size})
