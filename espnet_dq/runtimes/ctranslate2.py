"""CTranslate2 folders in faster-whisper."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np

from espnet_dq.data.texts import join
from espnet_dq.errors import InputError, first_line
from espnet_dq.formats import json_file
from espnet_dq.formats.ct2.binary import read_variables
from espnet_dq.runtimes.interface import (
    SEED,
    TEMPERATURES,
    Hypothesis,
    Segment,
    Word,
    check_files,
    short_frames,
    sounding_frames,
    windows_cut,
    worst,
    written,
)
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.room import most_tokens


def compute_type(file: Path) -> str:
    """What CTranslate2 has to compute in, to compute with the weights that a file holds.

    `default`: the file's own type. But of a file with some int8 matrices CTranslate2 rounds the
    others to int8, too, when it loads it. In `float32` it takes all of them as they are.
    """
    variables = read_variables(file)
    weights = [v for name, v in variables.items() if name.endswith("/weight") and v.ndim > 1]
    return "float32" if len({weight.dtype == np.int8 for weight in weights}) > 1 else "default"


def suppressed(file: Path, rows: int) -> list[int] | None:
    """The model's own list, where faster-whisper would take OpenAI's; None if it has none."""
    content = json_file.read(file)
    found = content.get("suppress_ids") if isinstance(content, dict) else "nothing"
    if found is not None and not (
        isinstance(found, list) and all(type(i) is int and 0 <= i < rows for i in found)
    ):
        raise InputError(f"{file}: suppress_ids is not a list of ids below {rows}")
    return found


class Wrapped:
    """A CTranslate2 model, of which a subclass changes something; all else is the model's own."""

    def __init__(self, model) -> None:
        self._model = model

    def __getattr__(self, name: str):
        return getattr(self._model, name)


class Seeded(Wrapped):
    """A model that draws the same for the same audio, whatever was drawn before.

    CTranslate2 seeds each of its threads but once, so each draw is of a copy with new threads.
    """

    def __init__(self, model, copy: Callable) -> None:
        super().__init__(model)
        self._copy = copy

    def generate(self, *args, **options) -> list:
        """As the model's."""
        model = self._copy() if options.get("sampling_temperature") else self._model
        return model.generate(*args, **options)


class AllPositions(Wrapped):
    """A model that writes to the end of its decoder, which faster-whisper takes for 448 long.

    CTranslate2 writes half of `max_length`, and not more than that has behind the prompt.
    """

    def __init__(self, model, positions: int) -> None:
        super().__init__(model)
        self._positions = positions
        self.room = most_tokens(positions)  # behind the longest prompt so far: all have the same

    def generate(self, features, prompts: list[list[int]], *, max_length: int, **options) -> list:
        """As the model's, whatever `max_length` is."""
        before = len(prompts[0])  # text from before included
        room = min(most_tokens(self._positions), self._positions - before)
        self.room = min(self.room, room)
        max_length = max(2 * room, before - 1 + room)
        return self._model.generate(features, prompts, max_length=max_length, **options)


class FasterWhisper:
    """faster-whisper on the CPU, one worker of CTranslate2 for each clip at a time."""

    batch = 1
    short = False
    task = "transcribe"
    words = False
    prompt = ""

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        # A name that is no folder would be looked up on the model hub, a missing tokenizer too.
        if not (path / "model.bin").is_file():
            raise InputError(f"{path}: not a CTranslate2 folder, model.bin is missing")
        check_files(path, ("config.json", "tokenizer.json"), "ct2")
        from ctranslate2 import set_log_level, set_random_seed
        from ctranslate2.models import Whisper
        from faster_whisper import WhisperModel

        set_log_level(40)  # errors: what is computed in is in our records anyway
        set_random_seed(SEED)
        nj = nj or threads
        self.threads, self.workers = threads, nj
        try:
            how = {"device": "cpu", "compute_type": compute_type(path / "model.bin")}
            self.model = WhisperModel(
                str(path), cpu_threads=max(1, threads // nj), num_workers=nj, **how
            )
        except Exception as e:  # tokenizers raises bare Exception
            raise InputError(f"{path}: faster-whisper cannot load it: {first_line(e)}") from e
        variables = read_variables(path / "model.bin")  # a model's, since it could be loaded
        rows = len(variables["decoder/embeddings/weight"])
        positions = len(variables["decoder/position_encodings/encodings"])
        self.most_tokens = most_tokens(positions)
        self.whisper = self.model.model
        self.compute_type = self.whisper.compute_type
        seeded = Seeded(
            self.whisper, lambda: Whisper(str(path), intra_threads=max(1, threads // nj), **how)
        )
        self.model.model = AllPositions(seeded, positions)
        self._match_spectrogram(path)
        self.window = float(self.model.feature_extractor.chunk_length)
        self.any_window = read_any_window(
            json_file.read(path / "config.json"), path / "config.json"
        )
        self._hear_own_windows()
        self._prompt_each_window()
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
        if (own := suppressed(path / "config.json", rows)) is not None:
            self.options["suppress_tokens"] = own

    def _match_spectrogram(self, path: Path) -> None:
        """What preprocessor_config.json does not say is the model's: CTranslate2 writes none."""
        from faster_whisper.feature_extractor import FeatureExtractor

        file, n_mels = path / "preprocessor_config.json", self.model.model.n_mels
        found = len(self.model.feature_extractor.mel_filters)
        if not file.is_file():
            self.model.feature_extractor = FeatureExtractor(feature_size=n_mels)
        elif found != n_mels:
            raise InputError(f"{file}: feature_size is {found}, but the model hears {n_mels} bands")

    def _hear_own_windows(self) -> None:
        """faster-whisper cuts the audio as the model wants it, but then pads it to 30 s."""
        most, encode = self.model.feature_extractor.nb_max_frames, self.model.encode

        def heard(features: np.ndarray):
            frames = short_frames(sounding_frames(features), most) if self.short else most
            return encode(features[..., :frames])

        self.model.encode = heard

    def _prompt_each_window(self) -> None:
        """faster-whisper's own `initial_prompt` stands before the first window only."""
        get_prompt = self.model.get_prompt

        def prompted(tokenizer, before: list[int], **options) -> list[int]:
            before = tokenizer.encode(f" {self.prompt.strip()}") if self.prompt else before
            return get_prompt(tokenizer, before, **options)

        self.model.get_prompt = prompted

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        said = []
        for clip in clips:
            segments = self._transcribe(clip, language, self.options)
            limit = worst(s.limit for s in segments)
            text = join((s.text for s in segments), written(self, language))
            said.append(Hypothesis(text, limit))
        return said

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        from faster_whisper.audio import pad_or_trim

        features = self.model.feature_extractor(audio)
        features = features[..., : self.model.feature_extractor.nb_max_frames]
        encoded = self.model.encode(pad_or_trim(features))
        token, probability = self.whisper.detect_language(encoded)[0][0]  # of the languages
        prompt = ("<|startoftranscript|>", token, "<|transcribe|>", "<|notimestamps|>")
        (found,) = self.whisper.generate(
            encoded,
            [[self.model.hf_tokenizer.token_to_id(each) for each in prompt]],
            max_length=len(prompt),
            return_no_speech_prob=True,
        )
        return token.strip("<|>"), probability * (1 - found.no_speech_prob)

    def transcribe(
        self,
        audio: np.ndarray,
        language: str,
        timestamps: bool,
        temperatures: tuple[float, ...] = TEMPERATURES,
    ) -> list[Segment]:
        options = self.options | {"temperature": temperatures}  # its own way out of loops
        options["without_timestamps"] = not timestamps
        return self._transcribe(audio, language, options)

    def _transcribe(self, audio: np.ndarray, language: str, options: dict) -> list[Segment]:
        # A copy: faster-whisper adds to the list of suppressed tokens that it is given.
        options = deepcopy(options) | {"task": self.task, "word_timestamps": self.words}
        found, _ = self.model.transcribe(audio, language=language, **options)
        segments = list(found)
        lengths = ((s.seek, len(s.tokens)) for s in segments)
        cut = windows_cut(lengths, self.model.model.room)
        return [
            Segment(s.start, s.end, s.text, "cut" if s.seek in cut else "",
                    words=tuple(Word(w.start, w.end, w.word, w.probability)
                                for w in s.words or ()))
            for s in segments
        ]  # fmt: skip
