"""Load a Whisper from whatever format a path holds."""

from os.path import isdir, lexists
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.files import file_size
from espnet_dq.formats import ctranslate2, ggml, huggingface, onnx, onnx_reader, openai, packed
from espnet_dq.formats.weights import Weights

_GGML_MAGIC = ggml.MAGIC.to_bytes(4, "little")
_ZIP_MAGIC = b"PK\x03\x04"
# transformers would look for the model elsewhere, whatever else is in the folder.
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def detect(path: Path | str) -> str:
    """Format of a file or a folder, by its content.

    Returns:
        `openai`, `ggml` or `packed` (a file), `ct2`, `hf` or `onnx` (a folder).

    Raises:
        InputError: nothing is there, or nothing that is read here.
    """
    path = Path(path)
    if isdir(path):
        if file := adapter(path):
            raise InputError(
                f"{file}: a LoRA or other PEFT adapter, no whole model: merge it into the model it "
                "was trained on (merge_and_unload) and save that"
            )
        # What stands there under these names must then be a file.
        if lexists(path / "model.bin"):
            return "ct2"
        if any(lexists(path / name) for name in huggingface.FILES):
            return "hf"
        if lexists(path / onnx_reader.FILES[0]):
            return "onnx"
        if any(lexists(sub / onnx.FILES["encoder"]) for sub in (path, path / "onnx")):
            return "onnx"
        names = f"model.bin nor {huggingface.FILES[0]} nor {onnx_reader.FILES[0]}"
        raise InputError(f"{path}: holds neither {names}")
    file_size(path)
    with open(path, "rb") as f:
        start = f.read(9)
    if start[:4] == _GGML_MAGIC:
        return "ggml"
    if start[:4] == _ZIP_MAGIC:
        return "openai"
    if start[8:] == b"{":  # after the length of safetensors' header
        return "packed"
    raise InputError(f"{path}: neither a torch checkpoint (.pt), a ggml nor a packed file")


def adapter(folder: Path) -> Path | None:
    """The file that says that a folder holds what is to be added to another model, if one does."""
    return next((folder / name for name in _ADAPTER if lexists(folder / name)), None)


def load(path: Path | str) -> Weights:
    """Detect the format of `path` and load it; raises `InputError` as the loaders do."""
    loaders = {
        "openai": openai,
        "ggml": ggml,
        "packed": packed,
        "ct2": ctranslate2,
        "hf": huggingface,
        "onnx": onnx,
    }
    return loaders[detect(path)].load(path)
