"""ggml files in whisper.cpp."""

from pathlib import Path

import numpy as np

from espnet_dq.decode.runtimes.interface import WINDOW, Segment, first_line, join
from espnet_dq.errors import InputError

BINS = 201  # of a spectrum, of which the file's filters make mels


class WhisperCpp:
    """whisper.cpp on the CPU, one clip at a time in all threads."""

    workers = 1
    batch = 1
    window = WINDOW
    # whisper.cpp's default. It attends to 36 positions of zeros behind the window's 1500, and
    # sums values in float16 (v1.8.5; known there): `benchmarks/parity.py` measures without, too.
    flash_attention = True

    def __init__(self, path: Path, threads: int, beam_size: int) -> None:
        from espnet_dq.formats import ggml

        # Read by us first: native code is only given a file whose every size fits.
        content = ggml.read(path)
        if content.tensors["encoder.conv1.weight"].kind.name != "F16":
            raise InputError(f"{path}: whisper.cpp aborts on convolutions that are not float16")
        filters = content.filters
        if filters.shape != (content.dims.n_mels, BINS) or not np.isfinite(filters).all():
            raise InputError(f"{path}: its mel filters are none of {content.dims.n_mels} x {BINS}")
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
                context_params={"flash_attn": self.flash_attention},
                n_threads=threads,
                **quiet,
                **self.options,
            )
        except Exception as e:
            raise InputError(f"{path}: whisper.cpp cannot load it: {first_line(e)}") from e

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        return [
            join(part.text for part in self.model.transcribe(clip, language=language))
            for clip in clips
        ]

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        if language is None:
            (language, _), _ = self.model.auto_detect_language(audio)
        parts = self.model.transcribe(
            audio,
            language=language,
            no_timestamps=not timestamps,
            temperature_inc=0.2 if timestamps else 0.0,  # whisper.cpp's way out of loops
        )
        # Times are in hundredths of a second.
        return language, [Segment(s.t0 / 100, s.t1 / 100, s.text.strip()) for s in parts]
