"""Hugging Face folders in transformers."""

from copy import copy
from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError, first_line
from espnet_dq.formats.hf.quiet import quiet
from espnet_dq.runtimes.interface import (
    BATCH,
    FRAMES,
    LOGPROB,
    NO_SPEECH,
    TEMPERATURES,
    Attempt,
    Hypothesis,
    Segment,
    check_files,
    in_windows,
    log_mel,
    remedy,
    seeded,
    settle,
    short_frames,
    sounding_frames,
    whole,
    window,
    window_frames,
    windows_cut,
)
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.room import most_tokens

_FILES = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")
_COMPRESSION = 1.35  # whisper.transcribe's limit on repetition (2.4, on text), on ids


class Transformers:
    """`WhisperForConditionalGeneration` on the CPU in float32."""

    workers = 1
    compute_type = "float32"
    short = False
    task = "transcribe"

    def __init__(self, path: Path, threads: int, nj: int, beam_size: int) -> None:
        # A name that is no folder would be looked up on the model hub.
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: not a Hugging Face folder, config.json is missing")
        check_files(path, _FILES, "hf")
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperTokenizer

        torch.set_num_threads(threads)
        self.threads, self.batch = threads, nj or BATCH
        local = {"local_files_only": True}
        try:
            with quiet():
                self.model, found = WhisperForConditionalGeneration.from_pretrained(
                    path, dtype=torch.float32, use_safetensors=True, output_loading_info=True,
                    **local,
                )  # fmt: skip
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
        self.window = self.frames / FRAMES
        self.any_window = read_any_window(config.to_dict(), path / "config.json")
        self._take_any_window()
        settings = self.model.generation_config
        self.multilingual = bool(getattr(settings, "is_multilingual", False))
        tokens = getattr(settings, "lang_to_id", None) if self.multilingual else {"<|en|>": 0}
        if not isinstance(tokens, dict) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f"{path / 'generation_config.json'}: lang_to_id is no table of tokens")
        names = ("decoder_start_token_id", "no_timestamps_token_id", "eos_token_id")
        for key, number in (
            tokens | {name: getattr(settings, name, None) for name in names}
        ).items():
            if number is None:  # as in folders of before 2023
                lacks = f"{path / 'generation_config.json'}: {key} is missing"
                raise InputError(f"{lacks}: {remedy(path, 'hf')}")
            if type(number) is not int or not 0 <= number < config.vocab_size:
                raise InputError(f"{path / 'generation_config.json'}: {key} is no token's number")
        self.languages = frozenset(token.strip("<|>") for token in tokens)
        self.most_tokens = most_tokens(config.max_target_positions)
        self.options = {
            "task": "transcribe",
            "num_beams": beam_size,
            "do_sample": False,
            "return_timestamps": False,
            "max_new_tokens": self.most_tokens,
        }

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        def attempt(part: list[np.ndarray], frames: int) -> list[Attempt]:
            return self._attempts(self._encode(part, frames), language, 0.0)

        return in_windows(clips, self.frames, self.short, attempt)

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        tokens = self.model.generation_config.lang_to_id
        expected = self._first(self._encode([audio], self.frames))[0, list(tokens.values())]
        best = int(expected.argmax())
        return list(tokens)[best].strip("<|>"), float(expected[best])

    def transcribe(
        self,
        audio: np.ndarray,
        language: str,
        timestamps: bool,
        temperatures: tuple[float, ...] = TEMPERATURES,
    ) -> list[Segment]:
        import torch

        with seeded():
            if not timestamps:
                frames = window_frames(audio, self.frames, self.short)
                encoded = self._encode([audio], frames)
                said = settle(lambda t: self._attempts(encoded, language, t)[0], temperatures)
                return whole(audio, said)
            options = self.options | {"return_timestamps": True}
            del options["do_sample"]
            with quiet(), torch.inference_mode():
                found = self.model.generate(
                    log_mel(audio, self.n_mels)[None],
                    temperature=temperatures,
                    no_speech_threshold=NO_SPEECH,
                    logprob_threshold=LOGPROB,
                    compression_ratio_threshold=_COMPRESSION,
                    condition_on_prev_tokens=False,
                    return_segments=True,
                    **self._prompt(options, language),
                )
        segments = found["segments"][0]
        end = self.model.generation_config.eos_token_id
        # All segments of a window come with the same result.
        cut = windows_cut(
            ((id(s["result"]), int((s["tokens"] != end).sum())) for s in segments),
            self.most_tokens,
        )
        return [
            Segment(
                float(s["start"]),
                float(s["end"]),
                self._text(s["tokens"]),
                "cut" if id(s["result"]) in cut else "",
            )
            for s in segments
        ]

    def _take_any_window(self) -> None:
        """Let the encoder, which insists on the model's own window, take shorter ones.

        With them it gives what it would with as few positions. `generate` fills its windows with
        zeros, of which most are cut off where windows are to be short.
        """
        from torch.nn import Embedding

        encoder, config = self.model.get_encoder(), self.model.config
        own, table = encoder.forward, encoder.embed_positions

        def forward(input_features, *args, **options):
            frames = input_features.shape[-1]
            if self.short and frames == self.frames:
                frames = short_frames(sounding_frames(input_features), frames)
            if frames == self.frames:
                return own(input_features, *args, **options)
            config.max_source_positions = frames // 2
            encoder.embed_positions = Embedding.from_pretrained(table.weight[: frames // 2])
            try:
                return own(input_features[..., :frames], *args, **options)
            finally:
                config.max_source_positions = self.frames // 2
                encoder.embed_positions = table

        encoder.forward = forward

    def _encode(self, clips: list[np.ndarray], frames: int):
        import torch

        mels = torch.stack([window(clip, self.n_mels, frames) for clip in clips])
        with torch.inference_mode():
            return self.model.get_encoder()(mels)

    def _first(self, encoded):
        """How probable each token is as the first of a window, (B, n_vocab)."""
        import torch

        size, token = len(encoded[0]), self.model.generation_config.decoder_start_token_id
        with torch.inference_mode():
            start = torch.full((size, 1), token)
            logits = self.model(encoder_outputs=encoded, decoder_input_ids=start).logits
        return logits[:, 0].softmax(-1)

    def _attempts(self, encoded, language: str, temperature: float) -> list[Attempt]:
        """What is said in windows that the encoder has heard."""
        import torch

        settings = self.model.generation_config
        options = self._prompt(self.options, language)
        if temperature:  # top_k 0: from all tokens
            options |= {"do_sample": True, "temperature": temperature, "num_beams": 1, "top_k": 0}
        # transformers tells it, too, but runs the encoder once more for it.
        no_speech = self._first(encoded)[:, settings.no_timestamps_token_id - 1]
        with quiet(), torch.inference_mode():
            found = self.model.generate(
                encoder_outputs=copy(encoded),  # beams are made of it in its place
                force_unique_generate_call=True,
                return_dict_in_generate=True,
                output_scores=True,
                **options,
            )
            # Of several beams Whisper's `generate` leaves the scores of the one that it returns.
            scores = self.model.compute_transition_scores(
                found.sequences,
                tuple(step * (temperature or 1) for step in found.scores),  # as without it
                normalize_logits=True,
            )
        attempts = []
        tokens = found.sequences[:, -scores.shape[1] :]
        for ids, score, silence in zip(tokens, scores, no_speech, strict=True):
            ended = (ids == settings.eos_token_id).nonzero()
            length = int(ended[0]) if len(ended) else len(ids)
            mean = float(score[: length + 1].sum()) / (length + 1)
            limit = "cut" if length >= self.most_tokens else ""
            attempts.append(Attempt(self._text(ids[:length]), mean, float(silence), limit))
        return attempts

    def _prompt(self, options: dict, language: str) -> dict:
        """`options` for `generate`: English-only models take neither language nor task."""
        if self.multilingual:
            return options | {"language": language, "task": self.task}
        return {key: value for key, value in options.items() if key != "task"}

    def _text(self, ids) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)
