"""What a teacher's cache must hold for the trainings that will read it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_dq.config import (
    PADDINGS,
    PRECISIONS,
    DistillConfig,
    QuantConfig,
    WindowConfig,
    known,
    read_config,
)
from espnet_dq.distill.terms import needs, wanted_terms
from espnet_dq.errors import InputError, named

TOP_K = 64  # teacher tokens that are kept of a position


@dataclass(frozen=True)
class CacheSettings:
    """All that decides what a cache holds, besides the data."""

    tap: str | None
    temperature: float
    top_k: int
    teacher_window: str | float
    timestamp_share: float
    encoder: bool
    windows: tuple[float, ...] = ()  # seconds; of the student encoder, besides its own window
    padding: str = WindowConfig.padding  # of the student encoder's; the teacher hears zeros
    # Of the teacher's matrix products; the encoder's are in float32.
    precision: str = DistillConfig.precision

    def __post_init__(self):
        known("padding", self.padding, PADDINGS)
        known("precision", self.precision, PRECISIONS)
        if self.teacher_window == "student" and not self.encoder:
            raise InputError(
                "teacher_window: student cannot be cached while the encoder is trained, "
                "since its window changes from batch to batch"
            )
        if self.teacher_window == "student" and self.windows:
            raise InputError("teacher_window: student cannot be cached for several windows")


def encoder_preset(path: Path) -> str:
    """Which weights of a frozen encoder a training has on its grid: the preset of these alone."""
    frozen = DistillConfig.from_yaml(path).encoder_frozen
    on_grid = frozen and QuantConfig.from_yaml(path).preset in ("full", "encoder")
    return "encoder" if on_grid else "none"


def wanted(path: Path, padding: str) -> CacheSettings:
    """What a training configuration wants of the cache."""
    distill, quant = DistillConfig.from_yaml(path), QuantConfig.from_yaml(path)
    window = WindowConfig.from_yaml(path).window
    if "encoder" in (read_config(path).get("freeze_param") or []):
        raise InputError(f"{path}: freeze_param: encoder: say train_encoder: none in model_conf")
    # On the grid of its inputs an encoder's output changes with the batch, and learned ranges start
    # elsewhere than the grid's own rule (`DQWhisperModel`).
    learned = quant.ranges != "max" and encoder_preset(path) == "encoder"
    cached = distill.encoder_frozen and quant.activations == "none" and not learned
    if cached and not isinstance(window, list) and window != "full":
        raise InputError(
            f"{path}: encoder_conf.window is {window}: the output of a frozen encoder is cached in "
            "full windows or in lengths that are known: say full, or a list of seconds"
        )
    with named(path):
        return CacheSettings(
            tap=distill.tap if "states" in needs(wanted_terms(distill)) else None,
            temperature=distill.temperature,
            top_k=TOP_K,
            teacher_window=distill.teacher_window,
            timestamp_share=distill.timestamp_share,
            encoder=cached,
            windows=tuple(window) if cached and isinstance(window, list) else (),
            padding=padding,
            precision=distill.precision,
        )


def wanted_by_all(paths: Sequence[Path], padding: str) -> tuple[CacheSettings, str]:
    """What several trainings want of one cache, and their `encoder_preset`.

    Raises `InputError` that names the key in which one teacher pass cannot serve two of them.
    """
    each = [wanted(path, padding) for path in paths]
    # A training without a hidden term does not mind states in its cache, and one in float32 does
    # not mind a teacher in bfloat16: what is cached of the student is in float32 anyway. Nor does
    # one in full windows mind that there are shorter ones, too.
    tap = next((w.tap for w in each if w.tap), None)
    precision = max((w.precision for w in each), key=PRECISIONS.index)
    windows = next((w.windows for w in each if w.windows), ())
    each = [
        replace(w, tap=w.tap or tap, precision=precision, windows=w.windows or windows)
        for w in each
    ]
    presets = [encoder_preset(path) for path in paths]
    first = vars(each[0]) | {"preset": presets[0]}
    for path, settings, preset in zip(paths, each, presets, strict=True):
        for key, value in (vars(settings) | {"preset": preset}).items():
            if value != first[key]:
                raise InputError(
                    f"{path}: {key} is {value}, but {first[key]} in {paths[0]}: "
                    "one teacher pass cannot serve both"
                )
    return each[0], presets[0]
