"""A trained student read back from its folder, exactly as its forward pass used it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from espnet_dq.config import CHECKPOINT, QuantConfig, WindowConfig, read_config, read_section
from espnet_dq.errors import InputError, named
from espnet_dq.files import check_apart
from espnet_dq.formats import torch_file
from espnet_dq.formats.registry import FORMATS
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.fake_quant import clip_of, range_shape
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import RANGE, assign_grids, prepare, quantize
from espnet_dq.whisper.dims import model_dims, weight_shapes, whisper_name
from espnet_dq.whisper.vocabulary import WHOLE, with_tokens
from espnet_dq.whisper.weights import Weights, cast, check_dims

# Files of folders of models or trainings that other programs write; ours are those of `FORMATS`.
_THEIRS = ("*.json", "*.txt", "*.onnx*", "model*.safetensors", "model*.bin", "pytorch_model*.bin",
           "adapter_*", "*.pth", "*.yaml")  # fmt: skip
UNSORTED = "unsorted"  # batches, each as long as the longest of any


@dataclass(frozen=True)
class Student:
    """Float weights under openai-whisper's names, and the grids that they are seen on.

    Attributes:
        dims: the model's.
        state: float weights.
        quant: which weights are on which grid.
        path: the checkpoint.
        learned: the parameters of learned ranges, {weight name: [rows, groups]}.
        padding: of the windows that it was trained with.
        any_window: whether these had every length, see `Weights`.
    """

    dims: ModelDimensions
    state: dict[str, Tensor]
    quant: QuantConfig
    path: Path
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    padding: str = WindowConfig.padding
    any_window: bool = False

    @property
    def weights(self) -> Weights:
        """The float weights."""
        return Weights(self.dims, self.state, any_window=self.any_window)

    @property
    def grids(self) -> dict[str, str]:
        """{weight name: grid name} for the weights that are on a grid."""
        return assign_grids(self.dims, self.quant.grid, self.quant.preset)

    def quantized(self) -> dict[str, Quantized]:
        """Integers and scales of the weights that are on a grid."""
        clips = {name: clip_of(parameter) for name, parameter in self.learned.items()}
        return quantize(self.state, self.grids, clips)

    def prepared(self) -> Whisper:
        """openai-whisper's model with the grid registered, float weights loaded strictly."""
        model, quant = Whisper(self.dims), self.quant
        prepare(model, self.grids, quant.ranges)
        ranges = {name + RANGE: parameter for name, parameter in self.learned.items()}
        model.load_state_dict(self.state | ranges, strict=True)
        prepare_activations(model, self.grids, quant.activations, quant.activation_ranges)
        return model.requires_grad_(False).eval()

    def reference_weights(self) -> dict[str, Tensor]:
        """Every weight as the prepared model's forward pass computes with it, float32."""
        model = self.prepared()
        weights = dict(self.state)
        for name in self.grids:
            weights[name] = model.get_submodule(name.removesuffix(".weight")).weight.detach()
        return weights


def training_folder(exp: str | Path) -> Path:
    """The ESPnet folder under `exp`: itself, or its `qat`, or its `kd`. Raises `InputError`."""
    if found := _trainings(Path(exp)):
        return found[0]
    raise InputError(
        f"{exp}: neither a model nor an experiment (no config.yaml in it, in qat/ or in kd/)"
    )


def _trainings(exp: Path) -> list[Path]:
    return [f for f in (exp, exp / "qat", exp / "kd") if (f / "config.yaml").is_file()]


def check_written(out: str | Path, model: str | Path, parts: Iterable[str] = ()) -> None:
    """Raise `InputError` if what is to be written would take the place of a model that is read.

    Args:
        out: where something will be written.
        model: a path of a model or an experiment; nothing need be there.
        parts: patterns of names, besides those of models' files, that nothing is written by into
            the folder of the model, or those of the experiment's trainings.
    """
    check_apart(out, model)
    folders = [form.folder for form in FORMATS.values() if form.folder]
    parts = (*parts, *_THEIRS, *(Path(name).name for each in folders for name in each.files))
    for folder in _trainings(Path(model)) or [model]:
        check_apart(out, folder, parts)


def load_student(exp: str | Path, checkpoint: str = CHECKPOINT) -> Student:
    """The student of an experiment. Raises `InputError` naming what is missing or wrong."""
    folder = training_folder(exp)
    source, path = folder / "config.yaml", folder / checkpoint
    config = read_config(source)
    if config.get("encoder") != "dq_whisper" or config.get("decoder") != "dq_whisper":
        raise InputError(f"{source}: not a dq_whisper model")
    encoder, model = (read_section(config, key, source) for key in ("encoder_conf", "model_conf"))
    if "dims" not in encoder:
        raise InputError(f"{source}: encoder_conf has no key dims")
    loaded, window = _weights(path), _pick(WindowConfig, encoder, source)
    student = Student(
        dims=_dims(encoder["dims"], config.get("token_list"), source),
        state={k: v for k, v in loaded.items() if not k.endswith(RANGE)},
        quant=_pick(QuantConfig, model, source),
        path=path,
        learned={k.removesuffix(RANGE): v for k, v in loaded.items() if k.endswith(RANGE)},
        padding=window.padding,
        any_window=window.any_window and config.get("batch_type", UNSORTED) != UNSORTED,
    )
    expected = {name: tuple(shape) for name, shape in weight_shapes(student.dims).items()}
    grids = _grids(student, source)
    if student.quant.ranges != "max":
        for name, grid in grids.items():
            expected[name + RANGE] = range_shape(get_grid(grid), expected[name])
    for problem, keys in (
        ("missing", expected.keys() - loaded.keys()),
        ("unknown", loaded.keys() - expected.keys()),
    ):
        if keys:
            raise InputError(f"{path}: {problem} key {min(keys)}")
    for key, shape in expected.items():
        if tuple(loaded[key].shape) != shape:
            raise InputError(f"{path}: {key} has shape {tuple(loaded[key].shape)}, not {shape}")
    return student


def _pick[C: (QuantConfig, WindowConfig)](kind: type[C], values: dict, source: Path) -> C:
    with named(f"{source}: {kind.SECTION}"):
        return kind.pick(values)


def _dims(spec: str | Mapping[str, int], tokens, source: Path) -> ModelDimensions:
    with named(f"{source}: encoder_conf"):
        dims = check_dims(model_dims(spec), "dims")
    if dims.n_vocab in WHOLE:
        return dims
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError(f"{source}: token_list is not a list of tokens")
    return with_tokens(dims, tokens, f"{source}: token_list")


def _grids(student: Student, source: Path) -> dict[str, str]:
    with named(f"{source}: model_conf"):
        return student.grids


def _weights(path: Path) -> dict[str, Tensor]:
    """What a checkpoint holds of encoder and decoder, under openai-whisper's names, float32."""
    saved = torch_file.read(path)
    if not isinstance(saved, dict):
        raise InputError(f"{path}: holds no state dict but a {type(saved).__name__}")
    ours = {
        key: value
        for key, value in saved.items()
        if isinstance(key, str) and key.startswith(("encoder.net.", "decoder.net."))
    }
    return {
        whisper_name(key): cast(value, torch.float32, key, path)
        for key, value in torch_file.tensors(ours, path).items()
    }
