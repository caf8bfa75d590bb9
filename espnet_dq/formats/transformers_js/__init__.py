"""A Hugging Face folder with two ONNX graphs, as transformers.js and optimum read it."""

import mmap
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.files import Folder
from espnet_dq.formats.format import Card, Format

# Grid of all weights that are on one -> the end of the files' names, and transformers.js's name.
SUFFIXES = {
    "onnx_int8": ("_int8", "int8"),
    "ggml_q8_0": ("_quantized", "q8"),
    "ggml_q4_0": ("_q4", "q4"),
}
FLOATS = ("", "fp32")  # where nothing is on a grid, or not all on the same
SIDES = {"encoder": "encoder_model", "decoder": "decoder_model_merged"}
# A tensor of ours by its name, which others have not: they call it embed_positions.
_NAME = b"encoder.positional_embedding"


class TransformersJs(Format):
    """See `Format`."""

    name = "transformers_js"
    known_by = "onnx/encoder_model*.onnx of ours"
    exported = "student_transformers_js"
    runtime = "onnx"
    grids = tuple(SUFFIXES)
    folder = Folder(
        "transformers_js",
        ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json",
         "tokenizer_config.json", "onnx/encoder_model*.onnx", "onnx/decoder_model_merged*.onnx"),
    )  # fmt: skip
    hosted = tuple(  # of others' `onnx_hf` reads the quantized ones, so these come first
        tuple(f"onnx/{side}{suffix}.onnx" for side in SIDES.values())
        for suffix in sorted((suffix for suffix, _ in (FLOATS, *SUFFIXES.values())), reverse=True)
    )
    padding = "silence"  # as transformers.js pads
    engine = "ONNX Runtime"
    package = "onnxruntime"
    isolated = True
    card = Card(
        "// npm i @huggingface/transformers\n"
        'import { env, pipeline } from "@huggingface/transformers";\n\n'
        'env.localModelPath = "";\n'
        'const task = "automatic-speech-recognition";\n'
        'const model = await pipeline(task, "PATH", { dtype: "DTYPE" });\n'
        "// samples: a Float32Array of 16 kHz\n"
        'const options = { language: "LANGUAGE", chunk_length_s: WINDOW }; // longer in parts\n'
        "const { text } = await model(samples, options);\n"
        "console.log(text);",
        "in `tokenizer.json`",
        "transformers.js",
        "js",
    )

    def recognizes(self, path, start):
        return any(_ours(file) for file in sorted((path / "onnx").glob("encoder_model*.onnx")))

    def check(self, dims, grids):
        from espnet_dq.formats.ct2 import config
        from espnet_dq.formats.onnx import write

        write.check_grids(dims, grids)
        config.preprocessor(dims)

    def rounded(self, path, model):
        from espnet_dq.formats.onnx import rounding
        from espnet_dq.formats.transformers_js import read

        return rounding.as_onnx_runtime(model, read.read(path)[2])

    def lost(self, generation, dims):
        return ""


def files(folder: Path) -> dict[str, Path]:
    """Side -> its file; raises `InputError` unless there is one of each, of one kind."""
    suffixes = [
        suffix
        for suffix in (FLOATS[0], *(suffix for suffix, _ in SUFFIXES.values()))
        if (folder / f"onnx/{SIDES['encoder']}{suffix}.onnx").is_file()
    ]
    if len(suffixes) != 1:
        found = ", ".join(f"encoder_model{suffix}.onnx" for suffix in suffixes) or "none"
        raise InputError(f"{folder}/onnx: one encoder is needed, and there is {found}")
    return {side: folder / f"onnx/{name}{suffixes[0]}.onnx" for side, name in SIDES.items()}


def suffix(grids: set[str]) -> str:
    """The end of the files' names where weights are on these grids."""
    return _named(grids)[0]


def dtype(grids: set[str]) -> str:
    """What transformers.js calls it."""
    return _named(grids)[1]


def _named(grids: set[str]) -> tuple[str, str]:
    return SUFFIXES.get(min(grids), FLOATS) if len(grids) == 1 else FLOATS


def _ours(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_NAME) >= 0
