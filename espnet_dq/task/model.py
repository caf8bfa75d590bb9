"""The ESPnet model: a Whisper student that learns from a teacher, on a grid if asked."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor
from torch.nn.utils import parametrize

from espnet_dq.distill.losses import (
    cross_entropy,
    hidden_loss,
    kl_divergence,
    pair_distances,
    prepare_features,
    topk_kl_divergence,
)
from espnet_dq.distill.matching import MODES, match, static
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.sequences import Sequences, build_sequences, has_timestamps
from espnet_dq.distill.taps import Taps
from espnet_dq.errors import InputError
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.prepare import assign_grids, prepare, start_ranges
from espnet_dq.whisper.dims import model_dims
from espnet_dq.whisper.forward import (
    SAMPLES_PER_POSITION,
    decode_hidden,
    output_logits,
    window_samples,
)
from espnet_dq.whisper.teacher import Teacher


class DQWhisperModel(ESPnetASRModel):
    """DQ-Whisper's training model (arXiv 2305.10788).

        L = (1 - alpha) * CE + alpha * (T^2 * KL + lambda_hidden * L_hidden)

    Args:
        teacher: openai-whisper `.pt` file; null trains on cross-entropy alone (alpha must be 0).
        teacher_dims: the teacher's size, or its dimensions by name; the file is loaded only when
            the first batch needs it, but the projector must be built before.
        alpha: weight of distillation against cross-entropy.
        temperature: T of the KL term, and of `softmax_mse`.
        matching: `logits` (no hidden term), `static`, `dynamic` or `dynamic_monotonic`.
        tap: hidden states of the decoder's `block` outputs or of its `ffn` activations.
        distance: `mse`, `softmax_mse` or `cosine`.
        lambda_hidden: weight of the hidden term against the KL term.
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

    Cached batches may bring `encoder_out` (frozen encoder) and the teacher's `teacher_ids`,
    `teacher_log_probs`, `teacher_hidden` and `teacher_end`; then neither is computed.
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
        tap: str = "block",
        distance: str = "mse",
        lambda_hidden: float = 1.0,
        teacher_window: str | float = "full",
        timestamp_share: float = 0.0,
        grid: str | Mapping[str, str] = "ct2_int8",
        ranges: str = "max",
        preset: str = "full",
        activations: str = "none",
        activation_ranges: str | None = None,
    ):
        for name, part in dict(frontend=frontend, specaug=specaug, normalize=normalize,
                               preencoder=preencoder, postencoder=postencoder,
                               joint_network=joint_network).items():  # fmt: skip
            if part is not None:
                raise InputError(f"model dq_whisper takes no {name}: set it to null")
        super().__init__(
            vocab_size=vocab_size,
            token_list=token_list,
            frontend=None,
            specaug=None,
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
        if matching not in MODES:
            raise InputError(f"unknown matching '{matching}': known are {', '.join(MODES)}")
        if teacher_window != "student":
            window_samples(0, teacher_window)
        if teacher is None and alpha > 0:
            raise InputError("alpha above 0 needs a teacher")
        decoder.set_tokens(token_list)
        self.tokenizer = decoder.tokenizer
        self.alpha = alpha
        self.temperature = temperature
        self.matching = matching
        self.tap = tap
        self.distance = distance
        self.lambda_hidden = lambda_hidden
        self.teacher_window = teacher_window
        self.timestamp_share = timestamp_share
        self.activations = activations
        self.teacher = None if teacher is None else Teacher(teacher, decoder.dims)
        self.projector = None
        if alpha > 0 and matching != "logits":
            factor = 4 if tap == "ffn" else 1
            d_t = model_dims(teacher_dims)
            self.teacher_layers = d_t.n_text_layer
            self.projector = Projector(
                factor * d_t.n_text_state, factor * decoder.dims.n_text_state
            )
            # The projector's start pairs layers as `static` does, whatever the matching.
            static(decoder.dims.n_text_layer, d_t.n_text_layer)
        # Before `prepare`, whose own hook renames keys on their way in.
        self.register_load_state_dict_pre_hook(start_ranges)
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
        answers = _Cached.of(cached) if self.alpha > 0 else None
        if encoder_out is not None and any(p.requires_grad for p in self.encoder.parameters()):
            raise InputError("encoder_out is cached, but the encoder is trained: freeze it")
        if encoder_out is not None and self.activations != "none":
            raise InputError(
                "encoder_out is cached without activations on a grid: set them to none"
            )
        with parametrize.cached():
            if encoder_out is None:
                encoder_out, _, _ = self.encoder(speech, speech_lengths)
            heard = encoder_out.shape[1] * SAMPLES_PER_POSITION
            if self.teacher_window != "student":
                heard = window_samples(longest, self.teacher_window)
            end = self._ends(
                utt_id, cached, speech, speech_lengths, text, text_lengths, lang, heard
            )
            seq = build_sequences(text, text_lengths, lang[:, 0], end, self.tokenizer)
            with Taps(self.decoder.net, self.tap) as taps:
                hidden = decode_hidden(self.decoder.net, seq.inputs, encoder_out)
            logits = output_logits(self.decoder.net, seq.select(hidden))
        count = int(seq.counted.sum())
        loss_ce = cross_entropy(logits[seq.counted], seq.targets[seq.counted], count)
        hits = logits[seq.counted].argmax(-1) == seq.targets[seq.counted]
        stats = {"loss_ce": loss_ce.detach(), "acc": hits.float().mean()}
        loss = (1 - self.alpha) * loss_ce
        if self.alpha > 0:
            if answers is None:
                answers = self._ask(speech, speech_lengths, heard, seq)
            loss_kl = answers.kl(logits, self.temperature, count)
            stats["loss_kl"] = loss_kl.detach()
            loss = loss + self.alpha * loss_kl
            if self.projector is not None:
                states = torch.stack([seq.select(s)[seq.counted] for s in taps.states])
                teacher = answers.hidden(seq, self.teacher_layers)
                loss_hidden = self._hidden(states, teacher, count, stats)
                loss = loss + self.alpha * self.lambda_hidden * loss_hidden
        stats["loss"] = loss.detach()
        return force_gatherable((loss, stats, count), loss.device)

    def _hidden(self, student: Tensor, teacher: Tensor, count: int, stats: dict) -> Tensor:
        """The hidden term for states [Ls, N, D] and [Lt, N, D']; logs the mapping."""
        raw = student.detach().float()
        student = prepare_features(student, self.distance, self.temperature)
        with torch.autocast(raw.device.type, enabled=False):
            if self.training and self.projector.fitting:
                # P maps to what the distance takes in: it normalises once more by itself.
                if self.distance != "softmax_mse":
                    raw = F.layer_norm(raw, raw.shape[-1:])
                self.projector.fit(teacher[static(len(student), len(teacher))], raw)
            teacher = prepare_features(self.projector(teacher), self.distance, self.temperature)
            with torch.no_grad():
                distances = pair_distances(student, teacher)
        mapping = match(self.matching, distances)
        loss = hidden_loss(student, teacher, mapping, count)
        stats["loss_hidden"] = loss.detach()
        for i, j in enumerate(mapping):
            stats[f"match_l{i}"] = loss.new_tensor(float(j))
        return loss

    def _ends(
        self, utt_id, cached, speech, speech_lengths, text, text_lengths, lang, heard
    ) -> Tensor:
        """Closing timestamp tokens (B,), -1 where an utterance has none."""
        if "teacher_end" in cached:
            return cached["teacher_end"][:, 0]
        timed = torch.tensor([has_timestamps(u, self.timestamp_share) for u in utt_id])
        end = torch.full((len(utt_id),), -1, device=text.device)
        if not timed.any() or self.teacher is None:
            return end
        timed = timed.to(text.device)
        asked = self.teacher.end_timestamps(
            speech[timed],
            speech_lengths[timed],
            heard,
            text[timed],
            text_lengths[timed],
            lang[timed, 0],
            self.tokenizer,
        )
        return end.masked_scatter(timed, asked)

    def _ask(self, speech: Tensor, lengths: Tensor, heard: int, seq: Sequences) -> "_Live":
        tap = self.tap if self.projector is not None else None
        hidden, states = self.teacher(speech, lengths, heard, seq.inputs, tap)
        return _Live(self.teacher.logits(seq.select(hidden)), states)

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


class _Live:
    """What the teacher says about this batch."""

    def __init__(self, logits: Tensor, states: list[Tensor]):
        self.logits, self.states = logits, states

    def kl(self, student: Tensor, temperature: float, count: int) -> Tensor:
        return kl_divergence(student, self.logits, temperature, count)

    def hidden(self, seq: Sequences, layers: int) -> Tensor:
        return torch.stack([seq.select(s)[seq.counted] for s in self.states])


class _Cached:
    """What the teacher said before, as stage 4 wrote it down."""

    @classmethod
    def of(cls, cached: dict[str, Tensor]) -> "_Cached | None":
        return cls(cached) if "teacher_ids" in cached else None

    def __init__(self, cached: dict[str, Tensor]):
        self.cached = cached

    def _flat(self, name: str) -> Tensor:
        values, lengths = self.cached[name], self.cached[f"{name}_lengths"]
        kept = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
        return values[kept]

    def kl(self, student: Tensor, temperature: float, count: int) -> Tensor:
        ids, log_p = self._flat("teacher_ids"), self._flat("teacher_log_probs")
        return topk_kl_divergence(student, ids.long(), log_p, temperature, count)

    def hidden(self, seq: Sequences, layers: int) -> Tensor:
        if "teacher_hidden" not in self.cached:
            raise InputError("the cache holds no hidden states: run stage 4 for this tap")
        states = self._flat("teacher_hidden")[seq.counted]
        return states.unflatten(1, (layers, -1)).transpose(0, 1)


def _refuse_other_keys(module, state_dict, prefix, metadata, strict, missing, unexpected, errors):
    """Make loading strict whatever the caller asked for: errors stop `load_state_dict`."""
    expected = set(module.state_dict(prefix=prefix))
    found = {key for key in state_dict if key.startswith(prefix)}
    for problem, keys in (("missing", expected - found), ("unexpected", found - expected)):
        if keys:
            errors.append(f"{len(keys)} {problem} keys, {min(keys)} among them")
