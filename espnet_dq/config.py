"""What a training can be told: every key, its default and what it may say, once.

These are the keys of `model_conf`, `encoder_conf` and `preprocessor_conf` in a training
configuration. ESPnet's classes, the commands and the teacher's cache all take them from here.
Imports no torch.
"""

import re
import shlex
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from math import inf
from os import PathLike
from pathlib import Path
from sys import float_info
from typing import ClassVar, Self

from espnet_dq.errors import InputError, named, shown
from espnet_dq.reading import parse_yaml, read_yaml

MATCHINGS = (
    "logits",
    "static",
    "dynamic",
    "dynamic_monotonic",
    "optimal_monotonic",
    "optimal_increasing",
)
SCOPES = ("batch", "language", "utterance")
NORMALIZATIONS = ("none", "student", "teacher")
TAPS = ("block", "ffn")
DISTANCES = ("mse", "softmax_mse", "cosine")
PRECISIONS = ("float32", "bfloat16")  # the finest first
# preset -> the sides of the model whose weights are on the grid
PRESETS = {
    "full": ("encoder.", "decoder."),
    "paper": ("decoder.",),
    "encoder": ("encoder.",),
    "none": (),
}
MOST_RAMP = 0.75  # the rest of the training is on the grid
RANGES = ("max", "lsq", "pact", "gptq")
ACTIVATIONS = ("none", "int8_per_token", "int8_rows", "q8_0_blocks", "int8_blocks", "int8_static")
WINDOWS = ("full", "batch", "random")
PADDINGS = ("zeros", "silence")
TRAININGS = ("kd", "qat")  # of an experiment, in float and on the grid
# What a training leaves, and is exported and scored: the average of its best epochs on dev.
CHECKPOINT = "valid.loss.ave.pth"
_EXPONENT = re.compile(r"[+-]?[\d.]+e[+-]?\d+", re.I)  # 1e-5: to YAML a word
TOKENS = "tokens.txt"  # what it begins with, for ESPnet's --token_list


def known(key: str, value: object, names: Collection[str]) -> None:
    """Raise an `InputError` that names `key` unless `value` is one of `names`."""
    if not isinstance(value, str):
        raise InputError(f"{key}: {shown(value)} is not a name")
    if value not in names:
        raise InputError(f"unknown {key} {shown(value)}: known are {', '.join(names)}")


def check_whole(key: str, value: object, least: int, most: float = inf) -> None:
    """Raise an `InputError` that names `key` unless `value` is whole, from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        limits = f"of {least} or more" if most == inf else f"from {least} to {most}"
        raise InputError(f"{key}: {shown(value)} is not a whole number {limits}")


def check_number(key: str, value: object, most: float = inf) -> None:
    """Raise an `InputError` that names `key` unless `value` is a number from 0 to `most`."""
    if not _is_number(value) or value > most:
        limits = "0 or more" if most == inf else f"0 to {most:g}"
        raise InputError(f"{key}: {shown(value)} is not a number of {limits}")


def check_window(key: str, window: object) -> None:
    """Raise an `InputError` that names `key` unless `window_samples` knows the window."""
    if isinstance(window, list | tuple):
        right = len(window) > 0 and all(_is_number(seconds) and seconds > 0 for seconds in window)
    else:
        right = _is_number(window) or window in WINDOWS
    if not right:
        raise InputError(
            f"unknown {key} {shown(window)}: known are {', '.join(WINDOWS)}, seconds of silence, "
            "and a list of lengths in seconds"
        )


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # Exact, of integers that no float holds too.
    return _numeric(value) and 0 <= value <= float_info.max


class _Config:
    SECTION: ClassVar[str]  # of a training configuration

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Its keys, in order."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def pick(cls, values: Mapping[str, object]) -> Self:
        """From its own keys in a mapping that may hold others."""
        return cls(**{key: values[key] for key in cls.names() if key in values})

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """From its own keys of its section; raises `InputError` for an unknown key."""
        if odd := [key for key in values if key not in SECTIONS[cls.SECTION]]:
            names = ", ".join(SECTIONS[cls.SECTION])
            raise InputError(f"unknown key {shown(odd[0])}: known are {names}")
        return cls.pick(values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """From a training configuration; raises `InputError` that names the file and the key."""
        values = read_section(read_config(path), cls.SECTION, path)
        with named(f"{path}: {cls.SECTION}"):
            return cls.from_mapping(values)


@dataclass(frozen=True)
class DistillConfig(_Config):
    """How a student learns (DQ-Whisper, arXiv 2305.10788).

        L = (1 - alpha) * CE + alpha * (T^2 * KL + lambda_hidden * L_hidden + ...)

    Attributes:
        alpha: weight of distillation against cross-entropy, 0 to 1.
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
        terms: weights, against the KL term, of further terms by name (`espnet_dq.distill.terms`).
        train_encoder: `all`, `none`, or N for the last N blocks and the closing LayerNorm.
        teacher_window: what the teacher hears: the `student`'s window, or a window of its own
            (`full`, or seconds of silence after the batch's longest utterance).
        timestamp_share: share of the utterances (chosen by their names) that are trained with
            timestamps, the last one the teacher's.
        precision: of matrix products and what comes out of them, the teacher's too: `float32`, or
            `bfloat16`, which is faster on processors and GPUs that have it. Weights on a grid and
            what they are multiplied with are then rounded to it, too, which no runtime does: for
            training in float.

    Raises:
        InputError: a value that its key cannot have, in one line that names the key.
    """

    SECTION = "model_conf"

    alpha: float = 0.3
    temperature: float = 1.0
    matching: str = "dynamic_monotonic"
    matching_scope: str = "batch"
    matching_normalization: str = "none"
    tap: str = "block"
    distance: str = "mse"
    lambda_hidden: float | str = 0.1
    lambda_encoder: float = 0.0
    lambda_guide: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)
    train_encoder: str | int = "all"
    teacher_window: str | float = "full"
    timestamp_share: float = 0.0
    precision: str = "float32"

    def __post_init__(self):
        known("matching", self.matching, MATCHINGS)
        known("matching_scope", self.matching_scope, SCOPES)
        known("matching_normalization", self.matching_normalization, NORMALIZATIONS)
        known("tap", self.tap, TAPS)
        known("distance", self.distance, DISTANCES)
        known("precision", self.precision, PRECISIONS)
        check_number("alpha", self.alpha, 1)
        check_number("timestamp_share", self.timestamp_share, 1)
        check_number("temperature", self.temperature)
        if self.temperature == 0:
            raise InputError("temperature: 0 is not above 0")
        if self.lambda_hidden != "auto" and not _is_number(self.lambda_hidden):
            raise InputError(
                f"lambda_hidden: {shown(self.lambda_hidden)} is neither a number nor auto"
            )
        check_number("lambda_encoder", self.lambda_encoder)
        check_number("lambda_guide", self.lambda_guide)
        if not isinstance(self.terms, Mapping):
            raise InputError(f"terms: {shown(self.terms)} is no mapping of terms to weights")
        for name, weight in self.terms.items():
            check_number(f"terms: {shown(name)}", weight)
            if f"lambda_{name}" in self.names():
                raise InputError(f"terms: {name} has a key of its own, lambda_{name}")
        blocks = self.train_encoder
        if blocks not in ("all", "none") and not (_is_number(blocks) and isinstance(blocks, int)):
            raise InputError(
                f"train_encoder: {shown(blocks)} is not all, none or a number of blocks"
            )
        if self.teacher_window != "student":
            check_window("teacher_window", self.teacher_window)

    @property
    def encoder_frozen(self) -> bool:
        """Whether nothing of the encoder is trained."""
        return self.train_encoder in ("none", 0)

    def weight(self, term: str) -> float | str:
        """A term's weight against the KL term, 0 where it is not wanted."""
        return getattr(self, f"lambda_{term}", self.terms.get(term, 0.0))


@dataclass(frozen=True)
class QuantConfig(_Config):
    """Which weights are on which grid, and what they are multiplied with.

    Attributes:
        grid: weight grid (`ct2_int8`, `uniform4`, ...), or a table of weights to grids.
        ranges: `max`, or learned ranges: `lsq`, `pact`, `gptq` (see `espnet_dq.quant.fake_quant`).
        preset: which weights are on it: `full`, `paper` (the decoder's, as in DQ-Whisper),
            `encoder` (for a float decoder that learns from a quantized encoder) or `none`.
        activations: grid of what these weights are multiplied with, one of `ACTIVATIONS` (see
            `espnet_dq.quant.activations`).
        activation_ranges: of `int8_static`: the file that `espnet_dq.bin.calibrate` wrote.
        ramp: part of the training, up to `MOST_RAMP`, in which what is computed with moves from the
            float weights to those on the grid; 0: it is the latter from the first step. Dev always
            hears the latter.

    Raises:
        InputError: a value that its key cannot have, in one line that names the key. Names of
            grids, and the weights of a table, are looked up in `espnet_dq.quant.prepare`.
    """

    SECTION = "model_conf"

    grid: str | Mapping[str, str] = "ct2_int8"
    ranges: str = "max"
    preset: str = "full"
    activations: str = "none"
    activation_ranges: str | Path | None = None
    ramp: float = 0.0

    def __post_init__(self):
        check_number("ramp", self.ramp, MOST_RAMP)
        if self.ramp and self.ranges == "gptq":
            raise InputError("ramp begins with the float weights, ranges gptq with those on a grid")
        table = self.grid if isinstance(self.grid, Mapping) else {"grid": self.grid}
        for key, name in table.items():
            if not isinstance(key, str) or not isinstance(name, str):
                raise InputError(
                    f"{shown(key) if key != 'grid' else key}: {shown(name)} is not a name"
                )
        known("preset", self.preset, PRESETS)
        known("ranges", self.ranges, RANGES)
        known("activations", self.activations, ACTIVATIONS)
        file = self.activation_ranges
        if file is not None and not isinstance(file, str | PathLike):
            raise InputError(f"activation_ranges: {shown(file)} is no path")
        if (self.activations == "int8_static") != (file is not None):
            raise InputError(
                f"activations {self.activations}: activation_ranges names a file of calibrated "
                "ranges, for int8_static and for it alone"
            )


@dataclass(frozen=True)
class WindowConfig(_Config):
    """The windows that a student hears in training.

    Attributes:
        window: `full` (the model's own, 30 s unless its `n_audio_ctx` says less), `batch`,
            `random`, seconds of silence after the longest utterance, or a list of lengths in
            seconds (see `espnet_dq.whisper.forward.window_samples`).
        padding: what fills it: `zeros`, as in faster-whisper, or `silence`, as in whisper.cpp.

    Raises:
        InputError: a value that its key cannot have, in one line that names the key.
    """

    SECTION = "encoder_conf"

    window: str | float | list[float] | tuple[float, ...] = "full"
    padding: str = "zeros"

    def __post_init__(self):
        check_window("window", self.window)
        known("padding", self.padding, PADDINGS)

    @property
    def any_window(self) -> bool:
        """Whether every length can come, down to that of the utterances."""
        return self.window in ("random", "batch")


@dataclass(frozen=True)
class AugmentConfig(_Config):
    """How a student hears clips in training, which its teacher hears as they are.

    Each key is the share of the windows that one change is made to (`espnet_dq.data.augment`).

    Attributes:
        voice: another pitch and other formants.
        speed: faster, or as far as it fits into the model's window slower, and so another voice.
        room: reverberation.
        noise: stationary noise.
        line: a telephone's band and a codec.

    Raises:
        InputError: a value that its key cannot have, in one line that names the key.
    """

    SECTION = "preprocessor_conf"

    voice: float = 0.0
    speed: float = 0.0
    room: float = 0.0
    noise: float = 0.0
    line: float = 0.0

    def __post_init__(self):
        for key, share in vars(self).items():
            check_number(key, share, 1)

    def __bool__(self) -> bool:
        return any(vars(self).values())


# All keys of a training configuration's sections, those that are none of a configuration's too.
SECTIONS = {
    "model_conf": ("teacher", "teacher_dims", *DistillConfig.names(), *QuantConfig.names()),
    "encoder_conf": ("input_size", "dims", "checkpointing", *WindowConfig.names()),
    "preprocessor_conf": ("n_audio_ctx", *AugmentConfig.names()),
}


def read_config(path: str | Path) -> dict:
    """A training configuration. Raises `InputError` when it is no YAML mapping."""
    config = read_yaml(Path(path))
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a YAML mapping")
    return config


def read_section(config: Mapping, key: str, source: str | Path) -> dict:
    """The mapping at `key`, empty if there is none. Raises `InputError` when it is no mapping."""
    values = config.get(key) or {}
    if not isinstance(values, dict):
        raise InputError(f"{source}: {key} is not a mapping")
    return values


def parse_keys(text: str, source: str) -> dict:
    """Single keys of a training configuration, as `parse_keys("optim_conf.lr=1.0e-5", ...)`.

    Args:
        text: `KEY=VALUE` with spaces between, quoted as for a shell; a dot leads into a mapping; a
            value is YAML.
        source: what an error names.

    Raises:
        InputError: naming the key.
    """
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise InputError(f"{source}: {e}") from e
    found: dict = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(
                f"{source}: {shown(word)}: KEY=VALUE is needed, as optim_conf.lr=1.0e-5"
            )
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"{source}: {key}: {section} is set, too")
        if last in place:
            raise InputError(f"{source}: {key} is set twice")
        try:
            place[last] = parse_yaml(value)
        except InputError as e:
            raise InputError(f"{source}: {key}: {shown(value)} is no YAML") from e
    return found


def merge(config: dict, overrides: Mapping, prefix: str) -> None:
    """Put `overrides` into `config`, mappings into mappings.

    ESPnet does not look at the kinds of values: what was a number, or a mapping, must stay one.

    Raises:
        InputError: beginning with `prefix` and the key.
    """
    for key, value in overrides.items():
        old, name = config.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(value, dict):
            merge(old, value, f"{name}.")
            continue
        if isinstance(old, dict):
            raise InputError(f"{name}: {shown(value)} is no mapping")
        words = isinstance(value, str) and prefix.endswith(".")  # of a section, as optim_conf
        number = _numeric(old) or (words and _EXPONENT.fullmatch(value))
        if number and not _numeric(value) and value != "auto":  # `lambda_hidden: auto`
            raise InputError(f"{name}: {shown(value)} is no number (in YAML 1e-5 is 1.0e-5)")
        config[key] = deepcopy(value)
