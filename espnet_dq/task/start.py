"""Where training starts: a student's weights, tokens, sizes and grid as ESPnet takes them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from whisper.audio import SAMPLE_RATE
from whisper.model import ModelDimensions

from espnet_dq.config import TOKENS, QuantConfig
from espnet_dq.data.prompted import RoundingClips
from espnet_dq.errors import InputError, WorkError, named
from espnet_dq.files import atomic, check_apart, check_replaceable, sha256, write_text
from espnet_dq.formats import torch_file
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.registry import home
from espnet_dq.formats.write import check_grids, get_format
from espnet_dq.quant import gptq
from espnet_dq.quant.fake_quant import RATE
from espnet_dq.quant.prepare import RANGE, assign_grids
from espnet_dq.quant.sensitivity import stored_bytes
from espnet_dq.quant.table import of_file, read_grid
from espnet_dq.reading import read_json, read_text, read_value
from espnet_dq.student.merge import mean
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.dims import espnet_name, model_dims, vocabulary_tokenizer, weight_shapes
from espnet_dq.whisper.forward import own_window
from espnet_dq.whisper.vocabulary import numbers, with_tokens
from espnet_dq.whisper.weights import Weights, all_finite

STUDENT = "student.pth"  # for --init_param
ROUNDED = "rounded.pth"  # in init/
_VALUES = ("student.dims", "teacher.dims", "student.grid")  # a line of YAML each


def init_student(
    source: Path,
    teacher: Path,
    grid: str,
    out: Path,
    export: tuple[str, Path] | None = None,
    also: Iterable[str] = (),
) -> Path:
    """Make an openai-whisper checkpoint the start of a student.

    Args:
        source: the student's `.pt`.
        teacher: the teacher's `.pt`.
        grid: the student's weight grid, or a file with a table.
        out: folder to write: `STUDENT`, `TOKENS`, and student.dims, teacher.dims and student.grid
            for `dims`, `teacher_dims` and `grid`.
        export: a format that is to hold the student in the end, and the training configuration
            that says the preset.
        also: other grids, to which the student is to be rounded in the end.

    Returns:
        The path of `STUDENT`.

    Raises:
        InputError: no Whisper, a grid that does not fit it, or a preset that the format does not
            hold.
    """
    for name in (STUDENT, TOKENS, *_VALUES):
        check_replaceable(out / name)
        for read in (source, teacher):
            check_apart(out / name, read)
    weights = openai.load(source)
    theirs = openai.load(teacher).dims
    for path, dims in ((source, weights.dims), (teacher, theirs)):
        vocabulary_tokenizer(dims, path)
    if own_window(theirs) < own_window(weights.dims):
        raise InputError(
            f"{teacher}: hears {own_window(theirs) / SAMPLE_RATE:g} s, less than its student"
        )
    table = read_grid(grid)
    for one, form in ((table, None), *((other, home(other).name) for other in also)):
        with of_file(grid if one is table else one):
            grids = assign_grids(weights.dims, one)
        for name, each in grids.items():
            with named(f"{source}: {name}"):
                stored_bytes(tuple(weights.state[name].shape), each)
        with named(f"{source}: {one}"):
            if form:
                check_grids(form, weights.dims, grids)
    if export:
        _check_export(*export, weights.dims, table)
    state = {espnet_name(name): w.float() for name, w in weights.state.items()}
    with atomic(out / STUDENT) as tmp, open(tmp, "wb") as f:
        torch.save(state, f)
    write_text(out / TOKENS, "\n".join(token_list(weights.dims)) + "\n")
    for name, value in zip(_VALUES, (numbers(weights.dims), numbers(theirs), table), strict=True):
        write_text(out / name, json.dumps(value) + "\n")
    return out / STUDENT


def start_dims(start: Path) -> ModelDimensions:
    """Sizes and vocabulary of the student that `init_student` wrote into a folder."""
    sizes = read_json(start / "student.dims")
    tokens = read_text(start / TOKENS).removesuffix("\n").split("\n")
    return with_tokens(model_dims(sizes), tokens, str(start / TOKENS))


def read_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of a start or of what was trained from it, by ESPnet's names.

    Args:
        shapes: of the tensors that it must have, at least.

    Raises:
        InputError: one of these is missing or of another shape.
        WorkError: one of them is not all finite.
    """
    found = torch_file.tensors(torch_file.read(path), path)
    for name, shape in shapes.items():
        if name not in found:
            raise InputError(f"{path}: has no {name}: it is of another student")
        if tuple(found[name].shape) != tuple(shape):
            has = f"has shape {tuple(found[name].shape)}, not {tuple(shape)}"
            raise InputError(f"{path}: {name} {has}: it is of another student")
        if not all_finite(found[name]):
            raise WorkError(f"{path}: {name} is not all finite: its training went astray")
    return found


def espnet_shapes(dims: ModelDimensions) -> dict[str, tuple[int, ...]]:
    """Shape of each of a student's weights, by ESPnet's name."""
    return {espnet_name(name): shape for name, shape in weight_shapes(dims).items()}


def merge_start(start: Path, trained: Path, share: float, out: Path) -> Path:
    """Write a student between what its training started from and what that made of it.

    Of each weight `share` is the trained one's; what only the training has, as its projector, stays
    (see `espnet_dq.student.merge`).

    Raises:
        InputError: a share that is not from 0 to 1, or the training is not one of that start.
        WorkError: weights that are no numbers.
    """
    if not 0 <= share <= 1:
        raise InputError(f"--merge {share}: from 0, the start, to 1, what was trained")
    before = torch_file.tensors(torch_file.read(start), start)
    after = read_checkpoint(trained, {name: tuple(w.shape) for name, w in before.items()})
    with atomic(out) as tmp, open(tmp, "wb") as f:
        torch.save(after | mean([before, after], [1 - share, share]), f)
    return out


def round_start(exp: Path, name: str, init: Path, out: Path, padding: str) -> Path:
    """The checkpoint that a training of an experiment begins with.

    That is `init`, or with `ranges: gptq` in conf/NAME.yaml `out`: what rounding it by clips of
    data/train leaves (`espnet_dq.quant.gptq.start`). It is made once for each `init`; OUT.json says
    of what. `padding` fills the clips' windows as the training does its own.

    Raises:
        InputError: a grid whose ranges are not learned, or clips that do not fit the student.
    """
    note = out.with_name(f"{out.name}.json")
    for file in (out, note):
        check_replaceable(file)
        check_apart(file, init)
    start, data = exp / "init", exp / "data/train"
    quant = QuantConfig.from_yaml(exp / "conf" / f"{name}.yaml")
    if quant.ranges != "gptq":
        return init
    grid = read_value(start / "student.grid")
    tables = ("utt2sha256", "text", "utt2lang")
    made_of = {"init": sha256(init), "grid": grid, "preset": quant.preset, "padding": padding}
    made_of |= {table: sha256(data / table) for table in tables}
    if out.is_file() and note.is_file() and read_json(note) == made_of:
        return out
    dims = start_dims(start)
    saved = read_checkpoint(init, espnet_shapes(dims))
    weights = Weights(dims, {name: saved[espnet_name(name)] for name in weight_shapes(dims)})
    grids = assign_grids(dims, grid, quant.preset)
    prompted = RoundingClips(data, gptq.CLIPS, dims, padding)
    floats, clips = gptq.start(weights, grids, prompted)
    for name, values in floats.items():
        saved[espnet_name(name)] = values
        saved[espnet_name(name) + RANGE] = clips[name] / RATE
    note.unlink(missing_ok=True)
    with atomic(out) as tmp, open(tmp, "wb") as f:
        torch.save(saved, f)
    write_text(note, json.dumps(made_of) + "\n")
    return out


def _check_export(
    form: str, config: str | Path, dims: ModelDimensions, grid: str | Mapping[str, str]
) -> None:
    """What stage 8 would find out after hours of training."""
    with named(f"--export {form}"):
        get_format(form)
    preset = QuantConfig.from_yaml(config).preset
    with named(f"{config}: preset {preset} does not fit {form}"):
        grids = assign_grids(dims, grid, preset)
        check_grids(form, dims, grids)
    if not grids:
        raise InputError(f"{config}: preset {preset} leaves no weight on the grid")
