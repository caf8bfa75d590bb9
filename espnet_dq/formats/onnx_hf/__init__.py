"""The quantized ONNX pair of a Hugging Face folder, as transformers.js reads it."""

from os.path import lexists

from espnet_dq.errors import InputError
from espnet_dq.files import Folder
from espnet_dq.formats.format import Format

FILES = {
    "encoder": "encoder_model_quantized.onnx",
    "decoder": "decoder_model_merged_quantized.onnx",
}


class OnnxHuggingFace(Format):
    """See `Format`. It is only read: its integers have one scale a tensor."""

    name = "onnx_hf"
    known_by = FILES["encoder"]
    exported = "student_onnx_hf"
    runtime = "torch"
    grids = ()
    folder = Folder("onnx_hf", ())
    writes = False
    hosted = (tuple(f"onnx/{name}" for name in FILES.values()),)

    def recognizes(self, path, start):
        return any(lexists(sub / FILES["encoder"]) for sub in (path, path / "onnx"))

    def compare(self, path, reference):
        raise InputError(f"{path}: no format of ours: nothing is compared with it")
