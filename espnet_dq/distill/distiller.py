"""Distillation as a module: the loss of a batch, for ESPnet's training and for any other loop."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper
from whisper.tokenizer import Tokenizer

from espnet_dq.config import AugmentConfig, DistillConfig, WindowConfig
from espnet_dq.data.augment import Augment
from espnet_dq.distill.answers import TeacherPass
from espnet_dq.distill.teacher import Teacher
from espnet_dq.distill.terms import Step, check_speed, needs, places, total_loss, wanted_terms
from espnet_dq.errors import InputError, check_kind, named, shown
from espnet_dq.fetch.names import source_path
from espnet_dq.whisper.dims import language_token, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.forward import (
    SAMPLES_PER_POSITION,
    decode_hidden,
    encode,
    log_mel,
    output_logits,
    own_window,
    products,
    window_samples,
)
from espnet_dq.whisper.sequences import build_sequences
from espnet_dq.whisper.taps import Taps
from espnet_dq.whisper.weights import all_finite


class Distilling(nn.Module):
    """What learns from a teacher: the terms of the loss, and the way from a batch to it.

    Attributes:
        settings: how it learns (no `config`: that name is of transformers' own to its Trainer).
        teacher: who answers; None with an `alpha` of 0.
        tokenizer: the student's.
        terms: of the loss; the trained part of each stands at its place in this module.
        needs: what they need of a pass.
    """

    settings: DistillConfig
    teacher: Teacher | None
    tokenizer: Tokenizer

    def build_terms(self, teacher: ModelDimensions, student: ModelDimensions) -> None:
        """Make the terms that `settings` want, and know what the teacher hears at a time."""
        self.teacher_window = own_window(teacher)
        self.terms = [term(self.settings, teacher, student) for term in wanted_terms(self.settings)]
        self.needs = needs(self.terms)
        parts = {term.place: term.part for term in self.terms}
        for place in places():
            self.register_module(place, parts.get(place))

    def freeze_encoder(self, encoder: AudioEncoder, more: Sequence[str]) -> None:
        """Leave of it what `settings.train_encoder` says; `more` also needs it to be trained."""
        trained, blocks = self.settings.train_encoder, len(encoder.blocks)
        if trained == "all":
            return
        if trained == "none":
            trained = 0
        if trained > blocks:
            raise InputError(f"train_encoder '{trained}': all, none, or up to {blocks} blocks")
        learning = [f"the {t.name} term" for t in self.terms if "encoder_states" in t.needs]
        learning += more
        if trained == 0 and learning:
            raise InputError(f"{learning[0]} needs an encoder that is trained")
        encoder.requires_grad_(False)
        for block in encoder.blocks[blocks - trained :]:
            block.requires_grad_(True)
        encoder.ln_post.requires_grad_(trained > 0)

    def encoder_taps(self, encoder: AudioEncoder) -> Taps:
        """Of its blocks, if a term needs them."""
        return Taps(encoder, "block" if "encoder_states" in self.needs else None)

    def learn(
        self,
        net: TextDecoder,
        hidden_of: Callable[[Tensor, Tensor], Tensor],
        audio: Tensor,
        encoder_states: list[Tensor],
        batch: Mapping[str, Tensor],
        names: Sequence[str],
        cached: dict[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        """Loss, statistics and count of counted positions of a batch that the encoder has heard.

        Args:
            net: the student's decoder.
            hidden_of: its last hidden states (B, T, D) of `audio` and tokens (B, T).
            audio: encoder output (B, P, D).
            encoder_states: what `encoder_taps` took.
            batch: `speech` (B, L), `speech_lengths` (B,), `text` (B, T), `text_lengths` (B,) and
                `language` (B,), tokens.
            names: of the utterances, by which some are trained with timestamps.
            cached: what stage 4 has kept of the batch.
        """
        config, lengths, language = self.settings, batch["speech_lengths"], batch["language"]
        tap = config.tap if "states" in self.needs else None
        window = audio.shape[1] * SAMPLES_PER_POSITION
        if config.teacher_window != "student":
            longest = int(lengths.max())
            window = window_samples(longest, config.teacher_window, self.teacher_window)
        teacher = TeacherPass(
            self.teacher, batch["speech"], lengths, window, config.precision, tap,
            "encoder_states" in self.needs, cached,
        )  # fmt: skip
        text = batch["text"], batch["text_lengths"]
        end = teacher.ends(names, config.timestamp_share, *text, language, self.tokenizer)
        seq = build_sequences(*text, language, end, self.tokenizer)
        with Taps(net, tap) as taps:
            hidden = hidden_of(audio, seq.inputs)
        logits = output_logits(net, seq.select(hidden))
        linears = []
        if "first_linears" in self.needs:
            linears = [block.mlp[0].weight for block in net.blocks]
        step = Step(
            seq, language, lengths, self.tokenizer, self.training, net, logits,
            taps.states, encoder_states, linears, teacher,
        )  # fmt: skip
        return *total_loss(config, self.terms, step), step.count


class Distiller(Distilling):
    """A student that learns from a teacher, for any training loop.

    Its parameters are the student's, which is trained in place, and those of the terms; the teacher
    is none of its modules. Quantization-aware if the student was prepared (`espnet_dq.prepare`).

    Args:
        student: openai-whisper's model, weights loaded.
        teacher: a file or folder of any format, `openai:base` and the like, or `hf:USER/NAME`;
            None needs an `alpha` of 0.
        config: how it learns.
        window: what the student hears in training.
        augment: how its clips are changed in training, drawn from NumPy's global generator; the
            teacher hears them as they are.

    Raises:
        InputError: a value that does not fit, or no teacher.

    Example usage::

        distiller = Distiller(net, "openai:base", DistillConfig(matching="dynamic_monotonic"))
        optimizer = torch.optim.AdamW(distiller.parameters(), lr=1e-5)
        for examples in loader:  # lists of (audio, text, language)
            loss, stats = distiller(distiller.batch(examples))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """

    def __init__(
        self,
        student: Whisper,
        teacher: str | Path | None,
        config: DistillConfig | None = None,
        window: WindowConfig | None = None,
        augment: AugmentConfig | None = None,
    ):
        super().__init__()
        if not isinstance(student, Whisper):
            raise InputError(f"a {type(student).__name__} is no model of openai-whisper")
        for key, given, kind in (
            ("config", config, DistillConfig),
            ("window", window, WindowConfig),
            ("augment", augment, AugmentConfig),
        ):
            check_kind(key, given, kind | None, f"a {kind.__name__}")
        self.student = student
        # Sparse, which DistributedDataParallel cannot broadcast; it is the same everywhere.
        self._ddp_params_and_buffers_to_ignore = ["student.alignment_heads"]
        self.settings, self.window = config or DistillConfig(), window or WindowConfig()
        if teacher is None and self.settings.alpha > 0:
            raise InputError("alpha above 0 needs a teacher")
        self.tokenizer = vocabulary_tokenizer(student.dims)
        self.teacher = None
        theirs = student.dims
        if teacher is not None:
            self.teacher = Teacher(source_path(teacher), student.dims)
            theirs = self.teacher.model().dims
        if own_window(theirs) < own_window(student.dims):
            raise InputError(f"{teacher}: hears shorter windows than its student")
        self.build_terms(theirs, student.dims)
        self.augment = None
        if augment:
            self.augment = Augment(augment, own_window(student.dims))
            if augment.speed:
                check_speed(self.settings)
        self.freeze_encoder(student.encoder, ["augment"] * bool(augment))
        self.to(student.device)

    def batch(
        self, examples: Sequence[tuple[np.ndarray | Tensor, str, str]]
    ) -> dict[str, Tensor | list[str]]:
        """A batch of (audio, text, language): (samples,) float at 16 kHz, and Whisper's code.

        The names of its utterances, by which `timestamp_share` chooses, are their texts. Tensors
        are on the CPU, where loaders pin them; `forward` takes them to the student. With `augment`
        all clips are changed, too (`heard`): loaders make batches of training and of dev whatever
        mode the module is in just then, so `forward` is who knows which to hear.

        Raises:
            InputError: no examples, or one, which is named by its place from 0 on, whose clip is
                not one channel of finite floats, without a text, or in no language of the student.
        """
        if not examples:
            raise InputError("a batch of no examples")
        rows = []
        for place, example in enumerate(examples):
            with named(f"example {place}"):
                rows.append(self._example(example))
        audio, text, language = zip(*rows, strict=True)
        tensors = {
            "speech": pad_sequence(audio, batch_first=True),
            "speech_lengths": torch.tensor([len(a) for a in audio]),
            "text": pad_sequence(text, batch_first=True, padding_value=-1),
            "text_lengths": torch.tensor([len(t) for t in text]),
            "language": torch.tensor(language),
        }
        if self.augment is not None:
            random = np.random.default_rng(np.random.randint(2**31))
            clips = [a.detach().cpu().numpy() for a in audio]
            heard = [torch.from_numpy(self.augment(clip, random)) for clip in clips]
            tensors["heard"] = pad_sequence(heard, batch_first=True)
            tensors["heard_lengths"] = torch.tensor([len(a) for a in heard])
        return tensors | {"names": [t for _, t, _ in examples]}

    def _example(self, example: Sequence) -> tuple[Tensor, Tensor, int]:
        """Clip, tokens of the text and language token."""
        if not isinstance(example, list | tuple) or len(example) != 3:
            raise InputError(f"{shown(example)} is not (audio, text, language)")
        audio, text, language = example
        check_kind("text", text, str, "a text")
        check_kind("language", language, str, "one of Whisper's codes")
        if not text.strip():
            raise InputError("text: is empty")
        try:
            clip = torch.as_tensor(audio, device="cpu")
        except (TypeError, ValueError, RuntimeError) as e:
            raise InputError(f"audio: {shown(audio)} is not (samples,)") from e
        if clip.ndim != 1 or not len(clip) or not clip.is_floating_point():
            kind = str(clip.dtype).removeprefix("torch.")
            raise InputError(f"audio: {kind} {tuple(clip.shape)} is not (samples,) of floats")
        if not all_finite(clip := clip.float()):
            raise InputError("audio: not all samples are finite")
        tokens = torch.tensor(encode_text(self.tokenizer, text, language))
        return clip, tokens, language_token(self.tokenizer, language)

    def forward(
        self, batch: Mapping[str, Tensor | Sequence[str]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (a scalar) and statistics of a batch, as `batch` makes it.

        Changed clips are heard in training mode alone.

        Raises:
            InputError: in `torch.nn.DataParallel`, whose replicas would share the teacher; in
                training, a batch without the changed clips that `augment` asks for.
        """
        student, dims = self.student, self.student.dims
        if getattr(self, "_is_replica", False):
            raise InputError("not in nn.DataParallel: start a process for each GPU, with torchrun")
        device = student.device
        batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        if self.training and self.augment is not None and "heard" not in batch:
            raise InputError("augment: the batch has no changed clips: make it with `batch`")
        heard = "heard" if self.training and "heard" in batch else "speech"
        speech, lengths = batch[heard], batch[f"{heard}_lengths"]
        window = self.window.window if self.training else "full"
        samples = window_samples(int(lengths.max()), window, own_window(dims))
        with parametrize.cached(), products(speech.device, self.settings.precision):
            mel = log_mel(speech, lengths, dims.n_mels, samples, self.window.padding)
            with self.encoder_taps(student.encoder) as taps:
                audio = encode(student.encoder, mel)
            loss, stats, _ = self.learn(
                student.decoder,
                lambda audio, tokens: decode_hidden(student.decoder, tokens, audio),
                audio, taps.states, batch, batch["names"], {},
            )  # fmt: skip
        return loss, stats
