"""Checkpoints and experiment folders in openai-whisper's own decoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.runtimes.interface import (
    BATCH,
    FRAMES,
    TEMPERATURES,
    WINDOW,
    Attempt,
    Hypothesis,
    Segment,
    Word,
    in_windows,
    seeded,
    settle,
    short_frames,
    sounding_frames,
    whole,
    window,
    window_frames,
    windows_cut,
)
from espnet_dq.whisper.room import most_tokens


class Torch:
    """openai-whisper's decoder, with its key/value cache, on the CPU in float32."""

    workers = 1
    compute_type = "float32"
    padding = "zeros"  # of the windows; an experiment's are padded as it was trained
    any_window = False
    short = False
    task = "transcribe"
    words: bool | None = False
    prompt = ""
    generation = None  # the model's own settings of decoding, if it has any

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        import torch
        from whisper.tokenizer import LANGUAGES

        from espnet_dq.whisper.vocabulary import OwnVocabulary, added_tokens

        torch.set_num_threads(threads)
        # openai-whisper's beam search takes one clip.
        self.threads, self.batch = threads, (nj or BATCH) if beam_size == 1 else 1
        self.model = self._load(path)
        if more := added_tokens(self.model.dims):
            raise InputError(
                f"{path}: openai-whisper's decoder has no token {more[0]!r}: use faster-whisper or "
                "transformers"
            )
        self.vocabulary = self.model.dims  # of which `speak_whole` shows the whole one
        if isinstance(self.vocabulary, OwnVocabulary):
            speak_whole(self.model)
        # The model's window: 3000 log-mel frames, of a short-window student fewer.
        self.frames = 2 * self.model.dims.n_audio_ctx
        self.window = self.frames / FRAMES
        self._align()
        if self.frames < WINDOW * FRAMES:
            self.words = None  # they come with openai-whisper's timestamps
        known = list(LANGUAGES)[: self.model.num_languages]
        self.languages = frozenset(known if self.model.is_multilingual else ["en"])
        self.most_tokens = most_tokens(self.model.dims.n_text_ctx)
        self.options = {
            "task": "transcribe",
            "beam_size": beam_size if beam_size > 1 else None,  # None: greedy, the same as 1
            "temperature": 0.0,
            "without_timestamps": True,
            "sample_len": self.most_tokens,
            "fp16": False,
        }

    def _align(self) -> None:
        """Let it tell times of words from its heads for that, or those of OpenAI's of its shape."""
        import torch

        from espnet_dq.whisper.generation import openais

        dims = self.model.dims
        heads = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
        for layer, head in (self.generation or openais(dims)).alignment_heads:
            heads[layer, head] = True
        self.model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)

    def _load(self, path: Path):
        """What is decoded: a `whisper.model.Whisper`, or what behaves like one, strictly loaded."""
        if path.is_dir() or path.suffix == ".pth":
            from espnet_dq.student.checkpoint import load_student

            student = load_student(path) if path.is_dir() else load_student(path.parent, path.name)
            self.padding, self.any_window = student.padding, student.any_window
            return student.prepared()
        from whisper.model import Whisper

        from espnet_dq.formats import detect

        weights = detect.load(path)
        model, self.any_window = Whisper(weights.dims), weights.any_window
        self.generation = weights.generation
        model.load_state_dict(weights.state)
        return model.eval()

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        import torch
        from torch.nn.utils import parametrize

        def attempt(part: list[np.ndarray], frames: int) -> list[Attempt]:
            return self._attempts(self._features(part, frames), language, 0.0)

        # cached: a fake-quantized weight is rounded once, not in every step of the decoder.
        with torch.inference_mode(), parametrize.cached():
            return in_windows(clips, self.frames, self.short, attempt)

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        import torch
        from torch.nn.utils import parametrize
        from whisper.tokenizer import get_tokenizer

        tokenizer = get_tokenizer(True, num_languages=self.model.num_languages)
        # whisper.transcribe hears silence in the window's rest when it detects the language.
        mel = window(audio, self.model.dims.n_mels, self.frames, "silence")
        with torch.inference_mode(), parametrize.cached():
            features = self.model.encoder(mel[None])
            logits = self.model.logits(torch.tensor([[tokenizer.sot]]), features)[0, 0]
        probabilities = logits.softmax(-1)[list(tokenizer.all_language_tokens)]
        best = int(probabilities.argmax())
        return tokenizer.all_language_codes[best], float(probabilities[best])

    def transcribe(
        self,
        audio: np.ndarray,
        language: str,
        timestamps: bool,
        temperatures: tuple[float, ...] = TEMPERATURES,
    ) -> list[Segment]:
        import torch
        import whisper
        from torch.nn.utils import parametrize

        if timestamps and self.frames != whisper.audio.N_FRAMES:
            raise InputError(f"timestamps need a window of 30 s, this model's is {self.window:g}")
        with torch.inference_mode(), parametrize.cached(), seeded():
            if not timestamps:
                frames = window_frames(audio, self.frames, self.short)
                features = self._features([audio], frames)
                said = settle(lambda t: self._attempts(features, language, t)[0], temperatures)
                return whole(audio, said)
            options = self.options | {"temperature": temperatures}
            options |= {"without_timestamps": False, "condition_on_previous_text": False}
            options |= {"task": self.task, "word_timestamps": bool(self.words)}
            self.model.decode = self._decode_window
            found = whisper.transcribe(
                self.model, audio, language=language, verbose=None, **options
            )
        segments = found["segments"]
        lengths = ((s["seek"], len(s["tokens"])) for s in segments)
        cut = windows_cut(lengths, self._room())
        return [
            Segment(s["start"], s["end"], s["text"], "cut" if s["seek"] in cut else "",
                    words=tuple(Word(float(w["start"]), float(w["end"]), w["word"],
                                     float(w["probability"])) for w in s.get("words", ())))
            for s in segments
        ]  # fmt: skip

    def _room(self) -> int:
        """How many tokens a text can have behind the prompt: more of them is cut."""
        if not self.prompt:
            return self.most_tokens
        # As whisper.decoding puts it together: the end of the prompt behind a token of its own.
        positions, own, words = self.model.dims.n_text_ctx, 4, len(self._prompt())
        return min(self.most_tokens, positions - own - 1 - min(words, positions // 2 - 1))

    def _prompt(self) -> list[int]:
        """The prompt in tokens that the model has, by their ids in the whole vocabulary."""
        from espnet_dq.whisper.dims import any_tokenizer
        from espnet_dq.whisper.vocabulary import ids_in_whole

        if not self.prompt:
            return []
        tokens = any_tokenizer(self.vocabulary).encode(f" {self.prompt.strip()}")
        return ids_in_whole(self.vocabulary, tokens)

    def _features(self, clips: list[np.ndarray], frames: int):
        """What the encoder makes of clips, in windows of so many frames."""
        import torch

        n_mels = self.model.dims.n_mels
        mels = [window(clip, n_mels, frames, self.padding) for clip in clips]
        return self._encode(torch.stack(mels))

    def _encode(self, mels):
        """openai-whisper's encoder, for any number of frames."""
        from espnet_dq.whisper.forward import encode

        return encode(self.model.encoder, mels)

    def _decode_window(self, mel, options):
        """What `whisper.transcribe` asks of one window, which it has filled with zeros."""
        if self.short:
            mel = mel[..., : short_frames(sounding_frames(mel), self.frames)]
        return self._decode(self._encode(mel[None]), options)[0]

    def _decode(self, features, options):
        """openai-whisper's search, which takes features of the model's own window only.

        Behind the prompt in each window: `whisper.transcribe` has its own in the first one only.
        """
        from whisper import decode

        own = self.model.dims
        self.model.dims = replace(own, n_audio_ctx=features.shape[-2])
        try:
            return decode(self.model, features, replace(options, prompt=self._prompt()))
        finally:
            self.model.dims = own

    def _attempts(self, features, language: str, temperature: float) -> list[Attempt]:
        """What is said in windows, in what the encoder made of them."""
        from whisper import DecodingOptions

        options = self.options | {"temperature": temperature, "task": self.task}
        if temperature:
            del options["beam_size"]
        found, room = (
            self._decode(features, DecodingOptions(language=language, **options)),
            self._room(),
        )
        return [
            Attempt(
                r.text,
                r.avg_logprob,
                r.no_speech_prob,
                "cut" if len(r.tokens) >= room else "",
            )
            for r in found
        ]


def speak_whole(model) -> None:
    """Let openai-whisper's search, which only knows whole vocabularies, run a trimmed model.

    From then on its decoder takes and gives the whole vocabulary's ids. What was left out of it is
    never likely, and a ValueError where it is given. `model` is a `whisper.model.Whisper` or
    behaves like one.
    """
    import torch
    from whisper.model import ModelDimensions

    from espnet_dq.whisper.vocabulary import numbers, whole_size

    size, device = whole_size(model.dims), model.device
    kept = torch.tensor(model.dims.kept, device=device)
    places = torch.full((size,), -1, dtype=torch.long, device=device)
    places[kept] = torch.arange(len(kept), device=device)

    def widen(_, args, logits):
        wide = logits.new_full((*logits.shape[:-1], size), -torch.inf)
        wide[..., kept] = logits
        return wide

    def narrow(_, args):
        found = places[args[0]]
        if (found < 0).any():
            raise ValueError(f"token {int(args[0][found < 0][0])} is not in the model's vocabulary")
        return found, *args[1:]

    model.decoder.register_forward_pre_hook(narrow)
    model.decoder.register_forward_hook(widen)
    model.dims = ModelDimensions(**numbers(model.dims) | {"n_vocab": size})
