"""ggml files in whisper.cpp."""

from functools import cache
from pathlib import Path

import numpy as np

from espnet_dq.data.texts import join
from espnet_dq.errors import InputError, first_line
from espnet_dq.formats.registry import FORMATS
from espnet_dq.runtimes.interface import (
    FRAMES,
    TEMPERATURES,
    Attempt,
    Hypothesis,
    Segment,
    settle,
    whole,
    window_frames,
    worst,
    written,
)

MOST_BEAMS = 8  # WHISPER_MAX_DECODERS; beyond it says nothing of any audio
PADDED = 256  # positions, to a multiple of which whisper.cpp fills its keys and values
BINS = 201  # of a spectrum, of which the file's filters make mels


class WhisperCpp:
    """whisper.cpp on the CPU, one clip at a time in all threads."""

    workers = 1
    batch = 1
    any_window = False  # the format has no place for it
    short = False
    task = "transcribe"
    prompt = ""
    # whisper.cpp's default. It attends to 36 positions of zeros behind the window's 1500, and
    # sums values in float16 (v1.8.5; known there): `benchmarks/parity.py` measures without, too.
    flash_attention = True

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        from espnet_dq.formats.ggml import read as ggml

        # Read by us first: native code is only given a file whose every size fits.
        content = ggml.read(path)
        if content.tensors["encoder.conv1.weight"].kind.name != "F16":
            raise InputError(f"{path}: whisper.cpp aborts on convolutions that are not float16")
        filters = content.filters
        if filters.shape != (content.dims.n_mels, BINS) or not np.isfinite(filters).all():
            raise InputError(f"{path}: its mel filters are none of {content.dims.n_mels} x {BINS}")
        from whisper.tokenizer import LANGUAGES

        self.threads, self.positions = threads, content.dims.n_audio_ctx
        self.window = 2 * self.positions / FRAMES
        self.compute_type = content.tensors["decoder.token_embedding.weight"].kind.name.lower()
        self.timed = not FORMATS["ggml"].untimed(content.dims)
        vocabulary = content.dims.n_vocab  # 99 languages in 51865; 51864 is English-only
        known = list(LANGUAGES)[: vocabulary - 51766] if vocabulary >= 51865 else ["en"]
        self.languages = frozenset(known)
        self.most_tokens = content.dims.n_text_ctx // 2 - 4  # whisper_full's, and no option
        self.options = {
            "temperature": 0.0,
            "temperature_inc": 0.0,
            "no_context": True,
            "no_timestamps": True,
            "suppress_nst": True,
        }
        if beam_size > MOST_BEAMS:
            raise InputError(f"--beam_size {beam_size}: whisper.cpp takes {MOST_BEAMS} at most")
        if beam_size > 1:
            self.options["beam_search"] = {"beam_size": beam_size, "patience": -1.0}
        self.path, self.beam_size = path, beam_size
        try:
            self.model = self._load()
        except Exception as e:
            raise InputError(f"{path}: whisper.cpp cannot load it: {first_line(e)}") from e

    def _load(self):
        from pywhispercpp.model import Model

        quiet = {"print_progress": False, "print_realtime": False}
        return Model(
            str(self.path),
            params_sampling_strategy=int(self.beam_size > 1),
            redirect_whispercpp_logs_to=None,
            context_params={"flash_attn": self.flash_attention},
            n_threads=self.threads,
            **quiet,
            **self.options,
        )

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        found = (self._attempt(self.model, clip, language, False, 0.0) for clip in clips)
        return [said.said for _, said in found]

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        # It hears as much as the model's last clip needed, so in short windows a new one is asked.
        model = self._load() if self.short else self.model
        (language, probability), _ = model.auto_detect_language(audio)
        # How probable speech is pywhispercpp does not tell: what is no speech has no good text.
        _, said = self._attempt(self.model, audio, language, timestamps=False, temperature=0.0)
        sure = float(np.exp(said.logprob)) if said.text and not said.circling else 0.0
        return language, float(probability) * sure

    def transcribe(
        self,
        audio: np.ndarray,
        language: str,
        timestamps: bool,
        temperatures: tuple[float, ...] = TEMPERATURES,
    ) -> list[Segment]:
        # What a model draws depends on what it drew before, so what draws is new each time.
        drawing = cache(self._load)
        found = {}

        def attempt(temperature: float) -> Attempt:
            model = drawing() if temperature else self.model
            segments, said = self._attempt(model, audio, language, timestamps, temperature)
            found[said.text] = segments
            return said

        # Not whisper.cpp's own temperatures: it lets pass what goes round for up to 32 tokens.
        said = settle(attempt, temperatures)
        return found[said.text] if timestamps else whole(audio, said)

    def _positions(self, audio: np.ndarray) -> int:
        """Of the encoder, for a clip in a short window.

        Flash attention attends to zeros behind them, up to a multiple of 256: there are none then.
        """
        wanted = window_frames(audio, 2 * self.positions, short=True) // 2
        return min(-(-wanted // PADDED) * PADDED, self.positions)

    def _attempt(
        self, model, audio: np.ndarray, language: str, timestamps: bool, temperature: float
    ) -> tuple[list[Segment], Attempt]:
        """The segments of a decoding, and how good they are; none where nobody speaks."""
        # What one call asks for, the next would go on to ask for: all is said each time.
        parts = model.transcribe(
            audio,
            language=language,
            no_timestamps=not timestamps,
            temperature=temperature,
            extract_probability=True,
            translate=self.task == "translate",
            initial_prompt=self.prompt,
            audio_ctx=self._positions(audio) if self.short else 0,  # 0: all
        )
        # Times are in hundredths of a second.
        segments = [
            Segment(s.t0 / 100, s.t1 / 100, s.text, "cut" if _cut(model, number) else "")
            for number, s in enumerate(parts)
        ]
        sure = [part.probability for part in parts if part.probability > 0]  # not of no token
        mean = float(np.log(sure).mean()) if sure else 0.0
        text = join((s.text for s in segments), written(self, language))
        limit = worst(s.limit for s in segments)
        return segments, Attempt(text, mean, no_speech=0.0, limit=limit)


def _cut(model, segment: int) -> bool:
    """Whether the last token of a segment of a model's last text ends nothing.

    Others are <|endoftext|> or a timestamp, which have higher numbers than all of text.
    """
    import _pywhispercpp as cpp

    context = model._ctx  # the package's own class does not ask for tokens
    last = cpp.whisper_full_n_tokens(context, segment) - 1
    token = cpp.whisper_full_get_token_id(context, segment, last)
    return token < cpp.whisper_token_eot(context)
