"""What format a path holds, and its model in memory."""

from os.path import isdir, lexists
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_dq.errors import InputError
from espnet_dq.formats.registry import FORMATS
from espnet_dq.reading import file_size

if TYPE_CHECKING:
    from espnet_dq.whisper.weights import Weights

_START = 16  # bytes of a file by which formats know their own
# transformers would look for the model elsewhere, whatever else is in the folder.
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def detect(path: Path | str) -> str:
    """Format of a file or a folder, by its content: a key of `FORMATS`.

    Raises:
        InputError: nothing is there, or nothing that is read here.
    """
    path, start = Path(path), b""
    if is_folder := isdir(path):
        if file := adapter(path):
            raise InputError(
                f"{file}: a LoRA or other PEFT adapter, no whole model: merge it into the model it "
                f"was trained on (espnet-dq convert --from {path} ...)"
            )
        if file := file_in(path):
            raise InputError(f"{path}: holds {FORMATS[detect(file)].known_by}, {file}: give that")
    else:
        start = _start(path)
    asked = [form for form in FORMATS.values() if (form.folder is not None) == is_folder]
    for form in asked:
        if form.recognizes(path, start):
            return form.name
    known = " nor ".join(form.known_by for form in asked)
    raise InputError(f"{path}: holds neither {known}" if is_folder else f"{path}: neither {known}")


def _start(path: Path) -> bytes:
    file_size(path)
    with open(path, "rb") as f:
        return f.read(_START)


def file_in(folder: Path) -> Path | None:
    """The model file in a folder that is none of a format, as `publish` writes some."""
    files = [folder / name for name in ("model.bin", "model.safetensors")]
    if lexists(folder / "config.json"):
        return None
    asked = [form for form in FORMATS.values() if form.folder is None]
    found = ((file, _start(file)) for file in files if file.is_file())
    return next((f for f, start in found if any(x.recognizes(f, start) for x in asked)), None)


def adapter(folder: Path) -> Path | None:
    """The file that says that a folder holds what is to be added to another model, if one does."""
    return next((folder / name for name in ADAPTER if lexists(folder / name)), None)


def load(path: Path | str) -> "Weights":
    """Detect the format of `path` and load it; raises `InputError` as the loaders do."""
    return FORMATS[detect(path)].load(Path(path))
