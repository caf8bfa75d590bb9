"""The ESPnet model: a Whisper student that learns from a teacher, on a grid if asked."""

import logging
from collections.abc import Mapping
from inspect import Parameter, signature

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor
from torch.nn.utils import parametrize

from espnet_dq.config import DistillConfig, QuantConfig
from espnet_dq.distill.answers import encoder_kind
from espnet_dq.distill.distiller import Distilling
from espnet_dq.distill.teacher import Teacher
from espnet_dq.distill.terms import check_speed, places
from espnet_dq.errors import InputError
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.prepare import assign_grids, prepare, start_ranges
from espnet_dq.whisper.dims import espnet_name, model_dims
from espnet_dq.whisper.forward import (
    SAMPLE_RATE,
    SAMPLES_PER_POSITION,
    own_window,
    products,
)


class DQWhisperModel(ESPnetASRModel, Distilling):
    """DQ-Whisper's training model (arXiv 2305.10788).

    Args:
        specaug: ESPnet's masks (Park et al., arXiv 1904.08779), on the features that the student
            hears in training, that of the encoders' hidden term included. The teacher hears all.
            Only with an encoder that is trained.
        teacher: openai-whisper `.pt` file; null trains on cross-entropy alone (alpha must be 0).
        teacher_dims: the teacher's size, or its dimensions by name; the file is loaded only when
            the first batch needs it, but what is trained of the terms must be built before.
        conf: the keys of `DistillConfig` and `QuantConfig` (`espnet_dq.config`).

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
        **conf,
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
        self.settings, self.quant = DistillConfig.from_mapping(conf), QuantConfig.from_mapping(conf)
        if teacher is None and self.settings.alpha > 0:
            raise InputError("alpha above 0 needs a teacher")
        self._check_auto(decoder.checkpointing)
        decoder.set_tokens(token_list)
        self.tokenizer = decoder.tokenizer
        self.teacher = None if teacher is None else Teacher(teacher, decoder.dims)
        self.build_terms(model_dims(teacher_dims), decoder.dims)
        self._prepare()
        self.freeze_encoder(encoder.net, ["specaug"] * (specaug is not None))
        # Whisper is never trained from random weights: what no checkpoint fills stays NaN and
        # is found in the first pass, since ESPnet itself loads with strict=False.
        with torch.no_grad():
            for part in (encoder, decoder):
                for parameter in part.parameters():
                    parameter.fill_(torch.nan)
        self._loaded = False

    def _check_auto(self, checkpointing: bool) -> None:
        """Stop where a weight would be measured that cannot be.

        That is while weights on the grid are kept, so blocks that are computed again there do not
        find what they have kept of learned ranges.
        """
        auto = self.settings.lambda_hidden == "auto" and self.settings.matching != "logits"
        if auto and checkpointing and self.quant.ranges != "max":
            raise InputError(
                "lambda_hidden: auto cannot be measured with decoder_conf.checkpointing and ranges "
                f"{self.quant.ranges}: say a number"
            )

    def _prepare(self) -> None:
        """Put the weights on their grids, and what they are multiplied with."""
        # Before `prepare`, whose own hook renames keys on their way in.
        self.register_load_state_dict_pre_hook(start_ranges)
        self.register_load_state_dict_pre_hook(_leave_other_terms)
        self.register_load_state_dict_pre_hook(_refuse_other_keys)
        quant = self.quant
        grids = assign_grids(self.decoder.dims, quant.grid, quant.preset)
        prepare(self, {espnet_name(name): grid for name, grid in grids.items()}, quant.ranges)
        nets = torch.nn.ModuleDict({"encoder": self.encoder.net, "decoder": self.decoder.net})
        prepare_activations(nets, grids, quant.activations, quant.activation_ranges)

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
        heard: Tensor | None = None,
        heard_lengths: Tensor | None = None,
        **cached,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, statistics and weight (the number of counted positions) of one batch.

        `speech` (B, L), `text` (B, T) token ids, `lang` (B, 1) language tokens. `heard` (B, L'):
        what the student hears in the place of `speech`, which the teacher hears.
        """
        self._check_loaded()
        self._check_cached(encoder_out)
        if heard is None:
            heard, heard_lengths = speech, speech_lengths
        else:
            self._check_heard(encoder_out, speech_lengths, heard_lengths)
        batch = {
            "speech": speech, "speech_lengths": speech_lengths, "text": text,
            "text_lengths": text_lengths, "language": lang[:, 0],
        }  # fmt: skip
        with parametrize.cached(), products(speech.device, self.settings.precision):
            audio, encoder_states = self._hear(heard, heard_lengths, encoder_out, cached)
            loss, stats, count = self.learn(
                self.decoder.net, self.decoder.hidden, audio, encoder_states, batch, utt_id, cached
            )
        return force_gatherable((loss, stats, count), loss.device)

    def _check_cached(self, encoder_out: Tensor | None) -> None:
        """Stop when an encoder's output was kept that would now be another one."""
        if encoder_out is None:
            return
        if any(p.requires_grad for p in self.encoder.parameters()):
            raise InputError("encoder_out is cached, but the encoder is trained: freeze it")
        if self.quant.activations != "none":
            raise InputError(
                "encoder_out is cached without activations on a grid: set them to none"
            )
        if self.quant.ranges != "max" and self.quant.preset in ("full", "encoder"):
            raise InputError("encoder_out is cached on the grid's own ranges: set ranges to max")

    def _check_heard(self, encoder_out: Tensor | None, lengths: Tensor, heard: Tensor) -> None:
        """Stop where the student cannot hear other speech than the teacher."""
        if encoder_out is not None:
            raise InputError("encoder_out is cached of other speech: leave out preprocessor_conf")
        if not torch.equal(lengths, heard):
            check_speed(self.settings, "preprocessor_conf: ")

    def _hear(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        encoder_out: Tensor | None,
        cached: dict[str, Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The student encoder's output (B, P, D), and each block's if a term needs them."""
        if encoder_out is not None and "encoder_states" not in self.needs:
            kept = {"encoder_out": encoder_out, **cached}
            return self._encoded(int(speech_lengths.max()), kept), []
        specaug = self.specaug if self.training else None
        with self.encoder_taps(self.encoder.net) as taps:
            audio, _, _ = self.encoder(speech, speech_lengths, specaug=specaug)
        return audio, taps.states

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
    for place in places():
        keys = [key for key in state_dict if key.startswith(f"{prefix}{place}.")]
        if all(key in own and own[key].shape == state_dict[key].shape for key in keys):
            continue
        for key in keys:
            del state_dict[key]
        new = {key: value for key, value in own.items() if key.startswith(f"{prefix}{place}.")}
        state_dict |= new
        logging.warning(f"{place} of the loaded state: {'begins anew' if new else 'not needed'}")


def _refuse_other_keys(module, state_dict, prefix, metadata, strict, missing, unexpected, errors):
    """Make loading strict whatever the caller asked for: errors stop `load_state_dict`."""
    expected = set(module.state_dict(prefix=prefix))
    found = {key for key in state_dict if key.startswith(prefix)}
    for problem, keys in (("missing", expected - found), ("unexpected", found - expected)):
        if keys:
            errors.append(f"{len(keys)} {problem} keys, {min(keys)} among them")


def _with_defaults(cls: type) -> None:
    """Show the configurations' defaults in the class's signature.

    ESPnet reads them there, for the `config.yaml` that it leaves of every training.
    """
    own = signature(cls)
    keys = [
        Parameter(key, Parameter.KEYWORD_ONLY, default=value)
        for config in (DistillConfig(), QuantConfig())
        for key, value in vars(config).items()
    ]
    *given, _ = own.parameters.values()  # all but `conf`
    cls.__signature__ = own.replace(parameters=[*given, *keys])


_with_defaults(DQWhisperModel)
