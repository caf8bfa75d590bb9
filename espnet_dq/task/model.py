"""The ESPnet model: a Whisper student that learns from a teacher, on a grid if asked."""

import logging
from collections.abc import Mapping
from functools import cache

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor
from torch.nn.utils import parametrize
from whisper.model import ModelDimensions

from espnet_dq.distill.answers import CachedAnswers, LiveAnswers, encoder_kind
from espnet_dq.distill.guide import WeightGuide
from espnet_dq.distill.hidden import HiddenTerm, distributed, gradient_ratio
from espnet_dq.distill.losses import (
    DISTANCES,
    IGNORED,
    cross_entropy,
)
from espnet_dq.distill.matching import MODES, NORMALIZATIONS, SCOPES, check_mode
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.sequences import build_sequences, has_timestamps
from espnet_dq.distill.taps import TAPS, Taps
from espnet_dq.errors import InputError
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.prepare import assign_grids, prepare, start_ranges
from espnet_dq.whisper.dims import model_dims
from espnet_dq.whisper.forward import (
    SAMPLE_RATE,
    SAMPLES_PER_POSITION,
    check_precision,
    output_logits,
    own_window,
    products,
    window_samples,
)
from espnet_dq.whisper.teacher import Teacher

TERMS = ("projector", "encoder_projector", "guide")  # parts with weights that only training has


class DQWhisperModel(ESPnetASRModel):
    """DQ-Whisper's training model (arXiv 2305.10788).

        L = (1 - alpha) * CE + alpha * (T^2 * KL + lambda_hidden * L_hidden)

    Args:
        specaug: ESPnet's masks (Park et al., arXiv 1904.08779), on the features that the student
            hears in training, that of the encoders' hidden term included. The teacher hears all.
            Only with an encoder that is trained.
        teacher: openai-whisper `.pt` file; null trains on cross-entropy alone (alpha must be 0).
        teacher_dims: the teacher's size, or its dimensions by name; the file is loaded only when
            the first batch needs it, but the projector must be built before.
        alpha: weight of distillation against cross-entropy.
        temperature: T of the KL term, and of `softmax_mse`.
        matching: `logits` (no hidden term), `static`, `dynamic`, `dynamic_monotonic`,
            `optimal_monotonic` or `optimal_increasing` (see `espnet_dq.distill.matching`).
        matching_scope: what shares one choice of layers: `batch`, `language` or `utterance`.
        matching_normalization: of the distances before the choice: `none`, `student` (each
            student layer's by their mean) or `teacher` (each teacher layer's).
        tap: hidden states of the decoder's `block` outputs or of its `ffn` activations.
        distance: `mse`, `softmax_mse` or `cosine`.
        lambda_hidden: weight of the hidden term against the KL term, 0 for none; `auto` sets it
            once, after the projector's start, so that its gradient is 0.3 of the KL term's.
        lambda_encoder: weight, against the KL term, of the same term on the outputs of the
            encoders' blocks where there is speech; the encoder must be trained.
        lambda_guide: weight, against the KL term, of `espnet_dq.distill.guide` (the paper's `kdq`):
            beside the hidden term, or in its place with `lambda_hidden: 0`.
        train_encoder: `all`, `none`, or N for the last N blocks and the closing LayerNorm.
        teacher_window: what the teacher hears: the `student`'s window, or a window of its own
            (`full`, or seconds of silence after the batch's longest utterance).
        timestamp_share: share of the utterances (chosen by their names) that are trained with
            timestamps, the last one the teacher's.
        grid: weight grid (`ct2_int8`, `uniform4`, ...), or a table of weights to grids.
        ranges: `max`, or learned ranges: `lsq`, `pact` (see `espnet_dq.quant.fake_quant`).
        preset: which weights are on it: `full`, `paper` (decoder), `encoder` or `none`.
        activations: grid of what these weights are multiplied with: `none`, `int8_per_token`,
            `q8_0_blocks` or `int8_static` (see `espnet_dq.quant.activations`).
        activation_ranges: of `int8_static`: the file that `espnet_dq.bin.calibrate` wrote.
        precision: of matrix products and what comes out of them, the teacher's too: `float32`, or
            `bfloat16`, which is faster on processors and GPUs that have it. Weights on a grid and
            what they are multiplied with are then rounded to it, too, which no runtime does: for
            training in float.

    Cached batches may bring `encoder_out` (frozen encoder; with others of shorter windows, see
    `distill.cache`) and the teacher's `teacher_ids`, `teacher_log_probs`, `teacher_hidden` and
    `teacher_end`; then neither is computed.
    Configuration mistakes raise `InputError`.
    """

    def __init__(
        self,
        vocab_size: int,
        token_list: tuple[str, ...] | list[str],
        frontend,
        specaug,
        normalize,
        preencoder,
        encoder,
        postencoder,
        decoder,
        ctc,
        joint_network,
        teacher: str | None = None,
        teacher_dims: str | Mapping[str, int] = "base",
        alpha: float = 0.9,
        temperature: float = 1.0,
        matching: str = "dynamic_monotonic",
        matching_scope: str = "batch",
        matching_normalization: str = "none",
        tap: str = "block",
        distance: str = "mse",
        lambda_hidden: float | str = 1.0,
        lambda_encoder: float = 0.0,
        lambda_guide: float = 0.0,
        train_encoder: str | int = "all",
        teacher_window: str | float = "full",
        timestamp_share: float = 0.0,
        grid: str | Mapping[str, str] = "ct2_int8",
        ranges: str = "max",
        preset: str = "full",
        activations: str = "none",
        activation_ranges: str | None = None,
        precision: str = "float32",
    ):
        for name, part in dict(frontend=frontend, normalize=normalize,
                               preencoder=preencoder, postencoder=postencoder,
                               joint_network=joint_network).items():  # fmt: skip
            if part is not None:
                raise InputError(f"model dq_whisper takes no {name}: set it to null")
        super().__init__(
            vocab_size=vocab_size,
            token_list=token_list,
            frontend=None,
            specaug=specaug,
            normalize=None,
            preencoder=None,
            encoder=encoder,
            postencoder=None,
            decoder=decoder,
            ctc=ctc,
            joint_network=None,
            ctc_weight=0.0,
            report_cer=False,
            report_wer=False,
            sym_sos="<|startoftranscript|>",
            sym_eos="<|endoftext|>",
        )
        for key, value, known in (
            ("matching", matching, MODES),
            ("matching_scope", matching_scope, SCOPES),
            ("matching_normalization", matching_normalization, NORMALIZATIONS),
            ("distance", distance, DISTANCES),
            ("tap", tap, TAPS),
        ):
            if value not in known:
                raise InputError(f"unknown {key} '{value}': known are {', '.join(known)}")
        if lambda_hidden != "auto" and not isinstance(lambda_hidden, int | float):
            raise InputError(f"lambda_hidden: {lambda_hidden!r} is neither a number nor auto")
        if teacher_window != "student":
            window_samples(0, teacher_window)
        if teacher is None and alpha > 0:
            raise InputError("alpha above 0 needs a teacher")
        decoder.set_tokens(token_list)
        self.tokenizer = decoder.tokenizer
        self.alpha = alpha
        self.temperature = temperature
        self.tap = tap
        self.lambda_hidden = lambda_hidden
        self.lambda_encoder = lambda_encoder
        self.lambda_guide = lambda_guide
        self.teacher_window = teacher_window
        self.timestamp_share = timestamp_share
        self.activations = activations
        self.precision = check_precision(precision)
        self.teacher = None if teacher is None else Teacher(teacher, decoder.dims)
        self.term = HiddenTerm(
            matching, matching_scope, matching_normalization, distance, temperature
        )
        self.projector = self.encoder_projector = self.guide = None  # TERMS
        if alpha > 0 and matching != "logits":
            self._build_terms(model_dims(teacher_dims), decoder.dims)
        # Before `prepare`, whose own hook renames keys on their way in.
        self.register_load_state_dict_pre_hook(start_ranges)
        self.register_load_state_dict_pre_hook(_leave_other_terms)
        self.register_load_state_dict_pre_hook(_refuse_other_keys)
        grids = assign_grids(decoder.dims, grid, preset)
        prepare(self, {n.replace(".", ".net.", 1): g for n, g in grids.items()}, ranges)
        nets = torch.nn.ModuleDict({"encoder": encoder.net, "decoder": decoder.net})
        prepare_activations(nets, grids, activations, activation_ranges)
        # Whisper is never trained from random weights: what no checkpoint fills stays NaN and
        # is found in the first pass, since ESPnet itself loads with strict=False.
        with torch.no_grad():
            for part in (encoder, decoder):
                for parameter in part.parameters():
                    parameter.fill_(torch.nan)
        self._loaded = False
        self._freeze_encoder(train_encoder)

    def _build_terms(self, teacher: ModelDimensions, student: ModelDimensions) -> None:
        """The trained parts of the hidden terms, for the teacher's and the student's dimensions."""
        self.teacher_layers = teacher.n_text_layer
        if self.lambda_hidden == "auto" or self.lambda_hidden > 0:
            check_mode(self.term.matching, student.n_text_layer, teacher.n_text_layer)
            factor = 4 if self.tap == "ffn" else 1
            self.projector = Projector(factor * teacher.n_text_state, factor * student.n_text_state)
        if self.lambda_encoder > 0:
            check_mode(self.term.matching, student.n_audio_layer, teacher.n_audio_layer)
            self.encoder_projector = Projector(teacher.n_audio_state, student.n_audio_state)
        if self.lambda_guide > 0:
            check_mode(self.term.matching, student.n_text_layer, teacher.n_text_layer)
            self.guide = WeightGuide(teacher.n_text_state, student.n_text_state)

    def _freeze_encoder(self, trained: str | int) -> None:
        """Leave `trained` of the encoder: `all`, `none` or the last N blocks."""
        blocks = self.encoder.dims.n_audio_layer
        if trained == "all":
            return
        if trained == "none":
            trained = 0
        if not isinstance(trained, int) or not 0 <= trained <= blocks:
            raise InputError(f"train_encoder '{trained}': all, none, or up to {blocks} blocks")
        for name, part in (("lambda_encoder above 0", self.encoder_projector),
                           ("specaug", self.specaug)):  # fmt: skip
            if trained == 0 and part is not None:
                raise InputError(f"{name} needs an encoder that is trained")
        self.encoder.requires_grad_(False)
        for block in self.encoder.net.blocks[blocks - trained :]:
            block.requires_grad_(True)
        self.encoder.net.ln_post.requires_grad_(trained > 0)

    def encode(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Speech (B, L) at 16 kHz, lengths (B,) -> encoder output (B, P, D), lengths (B,)."""
        self._check_loaded()
        with parametrize.cached():
            out, lengths, _ = self.encoder(speech, speech_lengths)
        return out, lengths

    def collect_feats(self, speech, speech_lengths, text, text_lengths, **kwargs):
        """For ESPnet's collect-stats stage: there are no features to normalise."""
        return {"feats": speech, "feats_lengths": speech_lengths}

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        lang: Tensor,
        utt_id: list[str],
        encoder_out: Tensor | None = None,
        **cached,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, statistics and weight (the number of counted positions) of one batch.

        `speech` (B, L), `text` (B, T) token ids, `lang` (B, 1) language tokens.
        """
        self._check_loaded()
        longest = int(speech_lengths.max())
        answers = CachedAnswers.of(cached) if self.alpha > 0 else None
        if encoder_out is not None and any(p.requires_grad for p in self.encoder.parameters()):
            raise InputError("encoder_out is cached, but the encoder is trained: freeze it")
        if encoder_out is not None and self.activations != "none":
            raise InputError(
                "encoder_out is cached without activations on a grid: set them to none"
            )
        listened: list[Tensor] = []
        with parametrize.cached(), products(speech.device, self.precision):
            specaug = self.specaug if self.training else None
            if self.encoder_projector is not None:
                with Taps(self.encoder.net, "block") as taps:
                    encoder_out, _, _ = self.encoder(speech, speech_lengths, specaug=specaug)
                listened = taps.states
            elif encoder_out is None:
                encoder_out, _, _ = self.encoder(speech, speech_lengths, specaug=specaug)
            else:
                encoder_out = self._encoded(longest, {"encoder_out": encoder_out, **cached})
            window = encoder_out.shape[1] * SAMPLES_PER_POSITION
            if self.teacher_window != "student":
                window = window_samples(longest, self.teacher_window)

            @cache
            def heard() -> tuple[Tensor, list[Tensor]]:
                tapped = self.encoder_projector is not None
                with products(speech.device, self.precision):  # whoever asks, and when
                    return self.teacher.hear(speech, speech_lengths, window, tapped)

            end = self._ends(utt_id, cached, heard, text, text_lengths, lang)
            seq = build_sequences(text, text_lengths, lang[:, 0], end, self.tokenizer)
            with Taps(self.decoder.net, self.tap) as taps:
                hidden = self.decoder.hidden(encoder_out, seq.inputs)
            logits = output_logits(self.decoder.net, seq.select(hidden))
            guided = None
            if self.guide is not None:
                guided = [block.mlp[0].weight for block in self.decoder.net.blocks]
        counted = seq.counted
        count = int(counted.sum())
        # Not logits[counted]: that would be a copy of them all, and of their gradients.
        loss_ce = cross_entropy(logits, seq.targets.masked_fill(~counted, IGNORED), count)
        hits = (logits.argmax(-1) == seq.targets)[counted]
        stats = {"loss_ce": loss_ce.detach(), "acc": hits.float().mean()}
        loss = (1 - self.alpha) * loss_ce
        if self.alpha > 0:
            if answers is None:
                tap = self.tap if self.projector is not None else None
                with products(speech.device, self.precision):
                    hidden, states = self.teacher(heard()[0], seq.inputs, tap)
                    answers = LiveAnswers(self.teacher.logits(seq.select(hidden)), states)
            loss_kl = answers.kl(logits, self.temperature, count)
            stats["loss_kl"] = loss_kl.detach()
            loss = loss + self.alpha * loss_kl
        rows = seq.rows[counted]
        if self.projector is not None:
            student = torch.stack([seq.select(s)[counted] for s in taps.states])
            teacher = answers.hidden(seq, self.teacher_layers)
            found = self.term(
                self.projector, student, teacher, rows, lang[:, 0], count, self.training
            )
            self._log(stats, "hidden", "match", *found)
            weight = self._hidden_weight(found[0], loss_kl, count, stats)
            loss = loss + self.alpha * weight * found[0]
        if self.encoder_projector is not None:
            counts = torch.bincount(rows, minlength=len(lang))
            found = self._encoder_term(listened, heard()[1], speech_lengths, counts, lang[:, 0])
            self._log(stats, "encoder", "match_encoder", *found)
            loss = loss + self.alpha * self.lambda_encoder * found[0]
        if guided is not None:
            teacher = self.teacher.first_linears(speech.device)
            term = self.term
            loss_guide, mapping = self.guide(guided, teacher, term.matching, term.normalization)
            self._log(stats, "guide", "guide", loss_guide, mapping[None], None)
            loss = loss + self.alpha * self.lambda_guide * loss_guide
        stats["loss"] = loss.detach()
        return force_gatherable((loss, stats, count), loss.device)

    def _hidden_weight(
        self, loss: Tensor, loss_kl: Tensor, count: int, stats: dict
    ) -> Tensor | float:
        """The hidden term's weight; with `auto`, 0 until it can be measured, then saved."""
        if self.lambda_hidden != "auto":
            return self.lambda_hidden
        weight = self.projector.term_weight
        if self.training and weight.isnan() and not self.projector.fitting:
            learning = [p for p in self.decoder.parameters() if p.requires_grad]
            weight.copy_(gradient_ratio(loss, loss_kl, count, learning))
        stats["lambda_hidden"] = weight.nan_to_num(nan=0.0).clone()
        return stats["lambda_hidden"]

    def _encoder_term(
        self,
        student: list[Tensor],
        teacher: list[Tensor],
        speech_lengths: Tensor,
        counts: Tensor,
        language: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The hidden term over the encoders' blocks, at the positions that hear speech.

        Both windows start with the utterance, so positions stand for the same 20 ms. An utterance
        weighs as much as its text does in the other terms, `counts` (B,) positions.
        """
        spoken = -(-speech_lengths // SAMPLES_PER_POSITION)
        places = torch.arange(int(spoken.max()), device=spoken.device)
        valid = places < spoken[:, None]
        ours, theirs = (
            torch.stack([s[:, : len(places)][valid] for s in states])
            for states in (student, teacher)
        )
        rows = valid.nonzero()[:, 0]
        weights = (counts / spoken)[rows]
        count = int(counts.sum())
        return self.term(
            self.encoder_projector, ours, theirs, rows, language, count, self.training, weights
        )

    def _log(
        self, stats: dict, term: str, prefix: str, loss: Tensor, mapping: Tensor, keys
    ) -> None:
        """A term and its mapping: the mean over groups, and in one process each language's own."""
        stats[f"loss_{term}"] = loss.detach()
        named = [("", mapping.float().mean(dim=0))]
        # The keys of all processes must be the same, and their languages are not.
        if keys is not None and self.term.scope == "language" and not distributed():
            codes = [self.tokenizer.decode([k])[2:-2] for k in keys.tolist()]
            named += [(f"{code}_", row.float()) for code, row in zip(codes, mapping, strict=True)]
        for name, row in named:
            for i, j in enumerate(row):
                stats[f"{prefix}_{name}l{i}"] = j

    def _encoded(self, longest: int, cached: dict[str, Tensor]) -> Tensor:
        """The frozen encoder's output (B, P, D) in a window drawn as if it ran now."""
        samples = self.encoder.samples(longest)
        kind = encoder_kind(samples, own_window(self.encoder.dims))
        if kind not in cached:
            raise InputError(
                f"nothing is cached of windows of {samples / SAMPLE_RATE:g} s: encoder_conf.window "
                f"is {self.encoder.window}, the cache is of another"
            )
        return cached[kind][:, : samples // SAMPLES_PER_POSITION]

    def _ends(self, utt_id, cached, heard, text, text_lengths, lang) -> Tensor:
        """Closing timestamp tokens (B,), -1 where an utterance has none."""
        if "teacher_end" in cached:
            return cached["teacher_end"][:, 0]
        timed = torch.tensor([has_timestamps(u, self.timestamp_share) for u in utt_id])
        end = torch.full((len(utt_id),), -1, device=text.device)
        if not timed.any() or self.teacher is None:
            return end
        timed = timed.to(text.device)
        asked = self.teacher.end_timestamps(
            heard()[0][timed], text[timed], text_lengths[timed], lang[timed, 0], self.tokenizer
        )
        return end.masked_scatter(timed, asked)

    def _check_loaded(self) -> None:
        """Stop when a weight was never loaded."""
        if self._loaded:
            return
        for part, module in (("encoder", self.encoder), ("decoder", self.decoder)):
            for name, parameter in module.named_parameters():
                if parameter.isnan().any():
                    raise InputError(
                        f"{part}.{name} was not loaded: start from a student (--init_param)"
                    )
        self._loaded = True


def _leave_other_terms(module, state_dict, prefix, *_):
    """Take from a training with other terms (kd before qat) no more than this one has a use for.

    Its terms' own parts, which no student is made of, are left where this model has no such term,
    and begin anew where they have other shapes, as another `tap` gives them.
    """
    own = module.state_dict(prefix=prefix)
    for term in TERMS:
        keys = [key for key in state_dict if key.startswith(f"{prefix}{term}.")]
        if all(key in own and own[key].shape == state_dict[key].shape for key in keys):
            continue
        for key in keys:
            del state_dict[key]
        new = {key: value for key, value in own.items() if key.startswith(f"{prefix}{term}.")}
        state_dict |= new
        logging.warning(f"{term} of the loaded state: {'begins anew' if new else 'not needed'}")


def _refuse_other_keys(module, state_dict, prefix, metadata, strict, missing, unexpected, errors):
    """Make loading strict whatever the caller asked for: errors stop `load_state_dict`."""
    expected = set(module.state_dict(prefix=prefix))
    found = {key for key in state_dict if key.startswith(prefix)}
    for problem, keys in (("missing", expected - found), ("unexpected", found - expected)):
        if keys:
            errors.append(f"{len(keys)} {problem} keys, {min(keys)} among them")
