"""Hugging Face folders in transformers."""

from pathlib import Path

import numpy as np

from espnet_dq.decode.runtimes.interface import Segment, first_line, log_mel, whole, window
from espnet_dq.errors import InputError

_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
# whisper.transcribe's thresholds; its limit on repetition (2.4, on text) has another scale on ids.
_NO_SPEECH, _LOGPROB, _COMPRESSION = 0.6, -1.0, 1.35
_LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # its temperatures
_FRAMES = 100  # log-mel frames a second


class Transformers:
    """`WhisperForConditionalGeneration` on the CPU in float32."""

    workers = 1
    compute_type = "float32"

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        # A name that is no folder would be looked up on the model hub.
        for name in _FILES:
            if not (path / name).is_file():
                raise InputError(f"{path}: not a Hugging Face folder, {name} is missing")
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperTokenizer
        from transformers.utils import logging

        torch.set_num_threads(threads)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.threads, self.batch = threads, nj
        local = {"local_files_only": True}
        try:
            self.model, found = WhisperForConditionalGeneration.from_pretrained(
                path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
            )
            self.tokenizer = WhisperTokenizer.from_pretrained(path, **local)
        except Exception as e:  # what damaged files make safetensors, tokenizers and others raise
            raise InputError(f"{path}: transformers cannot load it: {first_line(e)}") from e
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if found[kind]:  # transformers would go on with random numbers
                key = min(map(str, found[kind]))
                raise InputError(f"{path}: {key} is among transformers' {kind}")
        self.model.eval()
        config = self.model.config
        # The window: 3000 log-mel frames, of a short-window student fewer.
        self.n_mels, self.frames = config.num_mel_bins, 2 * config.max_source_positions
        self.window = self.frames / _FRAMES
        settings = self.model.generation_config
        self.multilingual = bool(getattr(settings, "is_multilingual", False))
        tokens = getattr(settings, "lang_to_id", None) if self.multilingual else {"<|en|>": None}
        if not isinstance(tokens, dict) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f"{path / 'generation_config.json'}: lang_to_id is no table of tokens")
        for key in ("decoder_start_token_id", "no_timestamps_token_id", "eos_token_id"):
            number = getattr(settings, key, None)
            if type(number) is not int or not 0 <= number < config.vocab_size:
                raise InputError(f"{path / 'generation_config.json'}: {key} is no token's number")
        self.languages = frozenset(token.strip("<|>") for token in tokens)
        self.options = {
            "task": "transcribe",
            "num_beams": beam_size,
            "do_sample": False,
            "return_timestamps": False,
            "max_new_tokens": config.max_target_positions // 2,  # openai-whisper's
        }

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        import torch

        if not clips:
            return []
        mels = torch.stack([window(clip, self.n_mels, self.frames) for clip in clips])
        return self._decode(mels, language)

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        import torch

        if language is None:
            language = self._detect(window(audio, self.n_mels, self.frames))
        if not timestamps:
            return language, whole(audio, *self.decode([audio], language))
        options = self.options | {"return_timestamps": True}
        del options["do_sample"]
        with torch.inference_mode():
            found = self.model.generate(
                log_mel(audio, self.n_mels)[None],
                temperature=_LADDER,
                no_speech_threshold=_NO_SPEECH,
                logprob_threshold=_LOGPROB,
                compression_ratio_threshold=_COMPRESSION,
                condition_on_prev_tokens=False,
                return_segments=True,
                **self._prompt(options, language),
            )
        segments = found["segments"][0]
        return language, [
            Segment(float(s["start"]), float(s["end"]), self._text(s["tokens"])) for s in segments
        ]

    def _decode(self, mels, language: str) -> list[str]:
        """Text of each window, (B, n_mels, frames) float32; "" where nobody speaks."""
        import torch

        settings = self.model.generation_config
        with torch.inference_mode():
            encoded = self.model.get_encoder()(mels)
            # whisper.transcribe's rule for a window without speech. transformers has it too,
            # but runs the encoder once more for it.
            start = torch.full((len(mels), 1), settings.decoder_start_token_id)
            first = self.model(encoder_outputs=encoded, decoder_input_ids=start).logits[:, 0]
            no_speech = first.softmax(-1)[:, settings.no_timestamps_token_id - 1] > _NO_SPEECH
            found = self.model.generate(
                encoder_outputs=encoded,
                force_unique_generate_call=True,
                return_dict_in_generate=True,
                output_scores=True,
                **self._prompt(self.options, language),
            )
            scores = self.model.compute_transition_scores(
                found.sequences, found.scores, found.get("beam_indices"), normalize_logits=True
            )
        texts = []
        tokens = found.sequences[:, -scores.shape[1] :]
        for ids, score, silent in zip(tokens, scores, no_speech, strict=True):
            ended = (ids == settings.eos_token_id).nonzero()
            length = int(ended[0]) if len(ended) else len(ids)
            mean = float(score[: length + 1].sum()) / (length + 1)
            texts.append("" if silent and mean <= _LOGPROB else self._text(ids[:length]))
        return texts

    def _prompt(self, options: dict, language: str) -> dict:
        """`options` for `generate`: English-only models take neither language nor task."""
        if self.multilingual:
            return options | {"language": language}
        return {key: value for key, value in options.items() if key != "task"}

    def _detect(self, mel) -> str:
        if not self.multilingual:
            return "en"
        (token,) = self.model.detect_language(mel[None])
        return self.tokenizer.convert_ids_to_tokens(int(token)).strip("<|>")

    def _text(self, ids) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()
