"""Models in memory: loaded from any format, put on a grid, written to any format."""

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path

import torch
from torch import nn
from whisper.model import ModelDimensions

from espnet_dq.api import nets
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.data.prompted import RoundingClips
from espnet_dq.errors import PATH, InputError, check_kind, say, shown
from espnet_dq.fetch.names import source_path
from espnet_dq.fetch.sources import HUB_NAMES
from espnet_dq.files import check_apart
from espnet_dq.formats import adapter, detect, integers
from espnet_dq.formats.hf.vocabulary import in_order
from espnet_dq.formats.registry import FORMATS, form_of, padding_of, written
from espnet_dq.formats.write import check_grids, check_out, kind_of, write
from espnet_dq.quant import gptq
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import quantize as on_grids
from espnet_dq.quant.table import SUFFIX
from espnet_dq.student.checkpoint import CHECKPOINT, check_written, load_student, training_folder
from espnet_dq.student.merge import merge as merged
from espnet_dq.whisper.weights import Weights


@dataclass(frozen=True)
class Model:
    """A Whisper in memory, and its weights that are on a grid.

    Attributes:
        weights: dimensions, tensors under openai-whisper's names, own settings of decoding.
        quantized: name -> integers and scales; what a file gets of these weights, whatever
            `weights` holds.
        float_dtype: what a file stores the other tensors in: `float16` or `float32`; None: the
            smaller one if it changes no value.
        path: where it comes from, which nothing may be written over.
        others: what else it was made of, and no more may be: the base of adapters, all of a mean.
    """

    weights: Weights
    quantized: Mapping[str, Quantized] = field(default_factory=dict)
    float_dtype: str | None = None
    path: Path | None = None
    others: tuple[Path, ...] = ()

    def sources(self) -> tuple[Path, ...]:
        """All that it was made of."""
        return self.others if self.path is None else (self.path, *self.others)

    @property
    def dims(self) -> ModelDimensions:
        """openai-whisper's dimensions."""
        return self.weights.dims

    @property
    def grids(self) -> dict[str, str]:
        """Name -> grid of the weights that are on one."""
        return {name: q.grid for name, q in self.quantized.items()}


def load(source: str | Path, keep: bool = True, base: str | Path | None = None) -> Model:
    """Read a model from a file or a folder in any format that is read here.

    Args:
        source: a path, whose format is detected (`.pt`, ggml, packed safetensors; a folder of
            CTranslate2, Hugging Face, ONNX; peft's LoRA adapters; an experiment); `openai:tiny` and
            what else OpenAI publishes, fetched once, also without `openai:` where no file or folder
            has that name; or `hf:USER/NAME[@REVISION]`, of the Hugging Face Hub.
        keep: with the integers and scales of what lies on a grid; False: as floats only.
        base: of adapters: the model that they were trained on, and are merged into; None: as their
            folder names it, if that is a path or a model of OpenAI's (`openai/whisper-small`). A
            line says what was merged.

    Raises:
        InputError: nothing that is read here, or damaged.
        WorkError: `openai:` or `hf:` without a network.

    Example usage::

        model = load("openai:tiny")
        model.weights.state["decoder.ln.weight"].shape  # torch.Size([384])
    """
    path = source_path(source)
    if path.is_dir() and (file := detect.adapter(path)):
        return _merged(path, file, base)
    if base is not None:
        raise InputError(f"{path}: holds no adapter, so it has no base")
    if is_training(path):
        student = load_student(path)
        quantized = student.quantized() if keep else {}
        return Model(student.weights, quantized, _beside(quantized), path)
    return Model(detect.load(path), integers.load(path) if keep else {}, path=path)


def base_of(added: adapter.Adapter) -> Path:
    """The model that adapters were trained on, as they name it.

    One that OpenAI publishes on the Hugging Face Hub, too, is fetched as `openai:NAME` is, since
    those are the same weights; it is known by its hash. Nobody else's is fetched unasked.

    Raises:
        InputError: it is not here, or they do not name it.
        WorkError: it is OpenAI's, and there is no network.
    """
    named = added.base or ""
    if os.path.exists(named):
        return Path(named)
    if named in HUB_NAMES:
        return source_path(f"openai:{HUB_NAMES[named]}")
    raise InputError(
        f"{detect.adapter(added.folder)}: its base {named or '(which it does not name)'} "
        "is not here: write its path there as base_model_name_or_path, or give convert and verify "
        "--base, a path, openai:NAME or hf:USER/NAME"
    )


def _merged(folder: Path, file: Path, base: str | Path | None) -> Model:
    """A base with the adapters of a folder in it."""
    added = adapter.read(folder)
    path = source_path(base) if base else base_of(added)
    if added.of_embedding and not _in_order(path):
        raise InputError(
            f"{file}: changes the embedding, whose rows may stand in another order in {path}: give "
            "the folder for transformers or the .pt that it was trained on"
        )
    weights = adapter.merge(detect.load(path), added)
    say(f"merged {len(added.layers)} adapters of {folder} into {base or added.base}", sys.stderr)
    return Model(weights, path=folder, others=(path,))


def _in_order(path: Path) -> bool:
    """Whether a base's tokens are known to stand as its adapters were trained on them."""
    form = detect.detect(path)
    return form in ("openai", "ggml", "packed") or (form == "hf" and in_order(path))


def is_training(path: Path) -> bool:
    """Whether it is the folder of a training or of an experiment that has one, and of no format."""
    if not path.is_dir():
        return False
    try:
        detect.detect(path)
    except InputError:
        if detect.adapter(path):
            return False
    else:
        return False
    try:
        training_folder(path)
    except InputError:
        return False
    return True


def quantize(
    model: str | Path | Model,
    grid: str | Mapping[str, str],
    data: str | Path | None = None,
    clips: int = gptq.CLIPS,
) -> Model:
    """A model with its weights rounded to a grid; the model that is given stays as it is.

    Args:
        model: of `load`, or what it takes; what is rounded is `model.weights`.
        grid: a grid's name (`ct2_int8`, `ggml_q4_0`, `uniform4_g16`, ...), a table with a grid or
            `none` for each weight, or a `.yaml` file with one.
        data: a Kaldi folder with texts: weights are rounded so that what their layers say on its
            clips changes least (`espnet_dq.quant.gptq`); None: each to its nearest value.
        clips: how many of its clips, spread evenly over their names.

    Raises:
        InputError: an unknown grid, one that does not fit a weight, or an incomplete table; of
            `data`, a clip without a text or language, or longer than the model's window.

    Example usage::

        save(quantize(load("openai:tiny"), "ggml_q4_0"), "tiny_q4.bin")
    """
    if not isinstance(model, Model):
        model = load(model)
    check_kind("data", data, PATH | None, "a Kaldi folder")
    state, grids = model.weights.state, nets.assign(model.dims, grid)
    if data is None:
        quantized = on_grids(state, grids)
    else:
        prompted = RoundingClips(data, clips, model.dims, padding_of(grids))
        quantized = gptq.quantize(model.weights, grids, prompted)
    return replace(model, quantized=quantized, float_dtype=_beside(quantized))


def merge(sources: Sequence[str | Path | Model], shares: Sequence[float] | None = None) -> Model:
    """The mean of the weights of models that came from one, each with its share; in float.

    Args:
        sources: two or more, as of `load`; of a model on a grid its values are taken.
        shares: of each; they are 1 together, and may be below 0; None: as much of each.

    Raises:
        InputError: as `load`, or models of different kinds, or shares that are not 1 together.

    Example usage::

        save(merge(["openai:tiny", "student.pt"], [0.5, 0.5]), "merged.pt")
    """
    if isinstance(sources, str) or not isinstance(sources, Iterable):
        raise InputError(f"sources: {shown(sources)} is no list of models")
    check_kind("shares", shares, Iterable | None, "a list of numbers")
    shares = [] if shares is None else [*shares]
    for share in shares:
        check_kind("shares", share, Real, "a number")
    models = [m if isinstance(m, Model) else load(m) for m in sources]
    if not models:
        raise InputError("sources: no models")
    values = [replace(m.weights, state=m.weights.state | _values(m)) for m in models]
    mean = merged(values, shares or [1 / len(models)] * len(models))
    return Model(mean, others=tuple(path for m in models for path in m.sources()))


def _values(model: Model) -> dict[str, torch.Tensor]:
    """Of the weights that are on a grid, what a runtime computes with."""
    return {name: get_grid(q.grid).dequantize(q) for name, q in model.quantized.items()}


def _beside(quantized: Mapping[str, Quantized]) -> str | None:
    """The `float_dtype` of what was trained or rounded: float16, where few floats are left."""
    return "float16" if quantized else None


def from_net(net: nets.Net) -> Model:
    """What a model in training computes with: float weights, and those on a grid."""
    weights, grids, clips = nets.read(net)
    quantized = on_grids(weights.state, grids, clips)
    for name, seen in nets.seen(net, grids).items():
        if not torch.equal(get_grid(quantized[name].grid).dequantize(quantized[name]), seen):
            raise InputError(f"{name}: is not what the model computes with")
    return Model(weights, quantized, _beside(quantized))


def save(
    model: Model | nets.Net, path: str | Path, to: str | None = None, half: bool = False
) -> Path:
    """Write a model, whole or not at all.

    Args:
        model: of `load` or `quantize`, or a model of openai-whisper or transformers, prepared or
            not, also in a wrapper (`module`).
        path: a file, or the folder of a format that is one. A model that stood there is replaced.
        to: `openai` (`.pt`), `ggml`, `packed` (safetensors), `ct2`, `hf` or `onnx` (folders); None:
            the only runtime's that has the grid, or what the name ends in (`.pt`, `.bin`,
            `.safetensors`).
        half: of `transformers_js`: with files that compute in float16, too.

    Returns:
        The path. A warning names settings of decoding that the format has no place for, and what
        its runtime does not hear of a window other than 30 s.

    Raises:
        InputError: a format that does not hold the grid, or none that is clear, or something else
            stands at `path`.

    Example usage::

        save(load("openai:tiny"), "tiny_hf", to="hf")
    """
    if isinstance(model, nn.Module):
        model = from_net(model)
    check_kind("model", model, Model, "a model in memory: load it first")
    check_kind("path", path, PATH, "a path")
    path = Path(path)
    form = _format(model, path) if to is None else to
    _save(model, path, form, half)
    if line := lost(form, model):
        warnings.warn(line, stacklevel=2)
    return path


def lost(form: str, model: Model) -> str:
    """What a format loses: own settings, and in its runtime as it comes audio and times; or ""."""
    own, kind = model.weights.generation, FORMATS[form]
    said = [] if own is None else [kind.lost(own, model.dims)]
    if model.weights.any_window and not kind.says_any_window:
        said.append(f"{form} has no place for any_window: say --context short where it runs")
    return "; ".join(filter(None, (*said, kind.unheard(model.dims), kind.untimed(model.dims))))


def _save(model: Model, path: Path, form: str, half: bool) -> None:
    check_out(form, path)
    for source in model.sources():
        check_written(path, source)
    weights, dtype = model.weights, FORMATS[form].float_dtype or model.float_dtype
    if dtype is None:
        dtype = weights.lossless(weights.state.keys() - model.quantized.keys())
    write(form, path, weights, model.quantized, dtype, half)


def _format(model: Model, path: Path) -> str:
    """The format that is meant where none is said; raises `InputError` where that is not clear."""
    by_suffix = {f.suffix: f.name for f in FORMATS.values() if f.suffix}
    named, grids = by_suffix.get(path.suffix), {*model.grids.values()}
    if not grids:
        if named is None:
            raise InputError(
                f"{path}: which format? It ends in none of {', '.join(by_suffix)}, and the model "
                f"is on no grid: say to= one of {', '.join(written())}"
            )
        return named
    form = form_of(model.grids)
    if named not in (None, form):
        raise InputError(f"{path}: which format? Its name says {named}, its grid {form}: say to=")
    return form


def convert(
    source: str | Path | Model,
    path: str | Path,
    to: str,
    grid: str = "keep",
    base: str | Path | None = None,
    data: str | Path | None = None,
    clips: int = gptq.CLIPS,
    half: bool = False,
) -> Model:
    """Load, quantize if asked, and save; `path` is looked at before the work.

    Args:
        source: as of `load`, or what it returned.
        path: as of `save`.
        to: as of `save`.
        grid: `keep` (integers and scales as in the source, if it has any), `none` (floats), or as
            of `quantize`.
        base: as of `load`; none of a model that is loaded already.
        data: as of `quantize`.
        clips: as of `quantize`.
        half: as of `save`.

    Returns:
        What was written.

    Raises:
        InputError: as `load`, `quantize` and `save`, or a format that cannot hold what is kept.
    """
    check_out(to, path)
    kind_of(to, half)
    if not isinstance(source, Model):
        check_written(path, source_path(source))
    elif base is not None:
        raise InputError("base: the model is loaded already")
    if isinstance(grid, str) and grid.endswith(SUFFIX):
        check_apart(path, grid)
    if data is not None:
        check_apart(path, data, FOLDER.files)
        if grid in ("keep", "none"):
            raise InputError(f"clips of {data} choose how to round, and grid {grid} rounds nothing")
    model = source
    if not isinstance(model, Model):
        model = load(source, keep=grid == "keep", base=base)
    elif grid != "keep":
        model = replace(model, quantized={}, float_dtype=None)
    for each in model.sources():
        check_written(path, each)
    if grid == "keep":
        _check_kept(model, to, half)
    elif grid != "none":
        check_grids(to, model.dims, nets.assign(model.dims, grid), half)  # before the work
        model = quantize(model, grid, data, clips)
    _save(model, Path(path), to, half)
    return model


def _check_kept(model: Model, to: str, half: bool) -> None:
    try:
        check_grids(to, model.dims, model.grids, half)
    except InputError as e:
        raise InputError(
            f"{model.path}: {e}: to round its values again say --grid "
            f"{' or '.join(FORMATS[to].grids or ())}, for floats --grid none"
        ) from e


def export(
    exp: str | Path,
    path: str | Path,
    to: str,
    checkpoint: str = CHECKPOINT,
    floats: bool = False,
) -> Model:
    """Write a trained student of an experiment in a format, on its grid.

    Args:
        exp: experiment or training folder.
        path: as of `save`.
        to: as of `save`.
        checkpoint: which one.
        floats: the float weights instead, whatever the grid.

    Returns:
        What was written.

    Raises:
        InputError: no such student, or a format that does not hold its grid.
    """
    check_out(to, path)
    check_written(path, exp)
    student = load_student(exp, checkpoint)
    # A float checkpoint for torch keeps float32; the runtimes' files have float16 beside a grid.
    dtype = "float32" if to == "openai" else "float16"
    quantized = {} if floats else student.quantized()
    write(to, path, student.weights, quantized, dtype)
    return Model(student.weights, quantized, dtype, Path(exp))
