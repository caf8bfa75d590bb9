"""The teacher pass of trainings that are yet to come: what their configurations want kept."""

from collections.abc import Sequence
from pathlib import Path

import torch

from espnet_dq.config import QuantConfig, WindowConfig
from espnet_dq.distill.cache import write_cache
from espnet_dq.distill.cache_settings import wanted_by_all
from espnet_dq.distill.teacher import Teacher
from espnet_dq.formats.openai import read as openai
from espnet_dq.jobs import Part
from espnet_dq.quant.table import read_grid
from espnet_dq.student.checkpoint import Student


def teacher_pass(
    data: Path,
    out: Path,
    teacher: Path,
    student: Path,
    grid: str,
    train_config: Sequence[Path],
    padding: str = WindowConfig.padding,
    shared: Path | None = None,
    part: Part | None = None,
) -> Path:
    """Cache what the frozen teacher, and a frozen encoder, say of a data folder.

    Args:
        data: a formatted Kaldi folder.
        out: folder of the cache.
        teacher: the teacher's `.pt`.
        student: the untouched student's `.pt`.
        grid: the student's weight grid, or a file with a table.
        train_config: the YAML files that training will use; they must want the same cache.
        padding: of the student's windows.
        shared: keep the cache there, for all that want the same answers.
        part: only this part of the work; the call without it finishes the cache.

    Returns:
        `out`.

    Raises:
        InputError: as `write_cache`, or trainings that want different caches.
    """
    settings, preset = wanted_by_all(train_config, padding)
    weights = openai.load(student)
    untouched = Student(
        dims=weights.dims,
        state={k: v.float() for k, v in weights.state.items()},
        quant=QuantConfig(read_grid(grid), preset=preset),
        path=student,
    )
    torch.manual_seed(0)
    answers = Teacher(teacher, untouched.dims)
    write_cache(data, out, answers, untouched, settings, shared, part)
    return out
