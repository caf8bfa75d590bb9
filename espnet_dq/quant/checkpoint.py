"""A trained student read back from its folder, exactly as its forward pass used it."""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from espnet_dq.errors import InputError
from espnet_dq.quant.prepare import grid_weights, prepare
from espnet_dq.whisper.dims import model_dims, weight_shapes

# What is exported and scored: the average of the best epochs by validation loss.
CHECKPOINT = "valid.loss.ave.pth"


@dataclass(frozen=True)
class Student:
    """Float weights under openai-whisper's names, and the grid that they are seen on."""

    dims: ModelDimensions
    state: dict[str, Tensor]
    grid: str
    preset: str
    path: Path

    @property
    def grids(self) -> dict[str, str]:
        """{weight name: grid name} for the weights that are on a grid."""
        return dict.fromkeys(grid_weights(self.dims, self.preset, self.grid), self.grid)

    def prepared(self) -> Whisper:
        """openai-whisper's model with the grid registered, float weights loaded strictly."""
        model = Whisper(self.dims)
        prepare(model, self.grids, self.grid)
        model.load_state_dict(self.state, strict=True)
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
    exp = Path(exp)
    for folder in (exp, exp / "qat", exp / "kd"):
        if (folder / "config.yaml").is_file():
            return folder
    raise InputError(f"{exp}: no training folder (no config.yaml in it, in qat/ or in kd/)")


def load_student(exp: str | Path, checkpoint: str = CHECKPOINT) -> Student:
    """The student of an experiment. Raises `InputError` naming what is missing or wrong."""
    folder = training_folder(exp)
    with open(folder / "config.yaml", encoding="utf-8") as f:
        config = yaml.load(f, yaml.CSafeLoader)
    if config.get("encoder") != "dq_whisper" or config.get("decoder") != "dq_whisper":
        raise InputError(f"{folder / 'config.yaml'}: not a dq_whisper model")
    path = folder / checkpoint
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise InputError(f"{path}: no such checkpoint") from e
    except Exception as e:
        raise InputError(f"{path}: not a readable checkpoint ({type(e).__name__})") from e
    state = {
        k.replace(".net.", ".", 1): v.float()
        for k, v in saved.items()
        if k.startswith(("encoder.net.", "decoder.net."))
    }
    model = config.get("model_conf", {})
    student = Student(
        dims=model_dims(config["encoder_conf"]["dims"]),
        state=state,
        grid=model.get("grid", "ct2_int8"),
        preset=model.get("preset", "full"),
        path=path,
    )
    expected = set(weight_shapes(student.dims))
    for problem, keys in (("missing", expected - set(state)), ("unknown", set(state) - expected)):
        if keys:
            raise InputError(f"{path}: {problem} key {min(keys)}")
    return student
