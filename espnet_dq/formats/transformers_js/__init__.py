"""A Hugging Face folder with ONNX graphs, as transformers.js and optimum read it.

It holds one model. Each side, encoder and decoder, has a file that computes in float32, and with
`half` another that computes in float16, from the same integers and scales. Files are named after
what is stored in them and what they compute in, so that who runs it chooses for each side.
"""

import mmap
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.files import Folder
from espnet_dq.formats.format import Card, Format

# Grid of a side's weights that are on one (none: all in float) -> the end of its file's name, and
# transformers.js's name for that.
SUFFIXES = {
    "onnx_int8": ("_int8", "int8"),
    "ggml_q8_0": ("_quantized", "q8"),
    "ggml_q4_0": ("_q4", "q4"),
    "none": ("", "fp32"),  # and where they are on several
}
HALVES = {"none": ("_fp16", "fp16"), "ggml_q4_0": ("_q4f16", "q4f16")}  # computed in float16
SIDES = {"encoder": "encoder_model", "decoder": "decoder_model_merged"}
# A tensor of ours by its name, which others have not: they call it embed_positions.
_NAME = b"encoder.positional_embedding"


class TransformersJs(Format):
    """See `Format`."""

    name = "transformers_js"
    known_by = "onnx/encoder_model*.onnx of ours"
    exported = "student_transformers_js"
    runtime = "onnx"
    grids = ("onnx_int8", "ggml_q8_0", "ggml_q4_0")
    folder = Folder(
        "transformers_js",
        ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json",
         "tokenizer_config.json", "onnx/encoder_model*.onnx", "onnx/decoder_model_merged*.onnx"),
    )  # fmt: skip
    hosted = tuple(  # of others' `onnx_hf` reads the quantized ones, so these come first
        tuple(f"onnx/{side}{end}.onnx" for side, end in zip(SIDES.values(), ends, strict=True))
        for ends in sorted(
            product((end for end, _ in SUFFIXES.values()), repeat=2),
            key=lambda ends: (ends[0] == ends[1], ends),
            reverse=True,
        )
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
        'const model = await pipeline(task, "PATH", { dtype: DTYPE });\n'
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

    def with_half(self):
        return InHalf()

    def runs(self, path):
        return [self, InHalf()] if has_half(path) else [self]


class InHalf(TransformersJs):
    """The same with files that compute in float16 beside the others; its logits are theirs."""

    engine = "ONNX Runtime, in float16"

    def check(self, dims, grids):
        super().check(dims, grids)
        names(grids, half=True)

    def save(self, path, weights, quantized, float_dtype):
        self._module("write").save(path, weights, quantized, float_dtype=float_dtype, half=True)

    def logits(self, path, probe):
        return self._module("run").logits(path, probe, half=True)

    def rounded(self, path, model):
        from espnet_dq.formats.onnx import rounding

        return rounding.in_half(model)


def names(grids: Mapping[str, str], half: bool = False) -> dict[str, str]:
    """Side -> its file's name, of weights on these grids; raises `InputError` if there is none."""
    found = {}
    for side, name in SIDES.items():
        on = {grid for weight, grid in grids.items() if weight.startswith(f"{side}.")}
        if half and (len(on) > 1 or not on <= HALVES.keys()):
            raise InputError(
                f"the {side} is on {', '.join(sorted(on))}, and transformers.js has no name for "
                "that in float16: half takes floats and ggml_q4_0"
            )
        grid = on.pop() if len(on) == 1 else "none"
        found[side] = f"{name}{(HALVES if half else SUFFIXES)[grid][0]}.onnx"
    return found


def files(folder: Path, half: bool = False) -> dict[str, Path]:
    """Side -> its file; raises `InputError` unless there is one of each.

    `half`: of those that compute in float16.
    """
    found, what = {}, " that computes in float16" if half else ""
    for side, name in SIDES.items():
        ends = [end for end, _ in (HALVES if half else SUFFIXES).values()]
        there = [
            f"{name}{end}.onnx" for end in ends if (folder / f"onnx/{name}{end}.onnx").is_file()
        ]
        if len(there) != 1:
            raise InputError(
                f"{folder}/onnx: one {side}{what} is needed, and there is "
                f"{', '.join(there) or 'none'}"
            )
        found[side] = folder / "onnx" / there[0]
    return found


def has_half(folder: Path) -> bool:
    """Whether any file there computes in float16."""
    return any(
        (folder / f"onnx/{name}{end}.onnx").is_file()
        for name in SIDES.values()
        for end, _ in HALVES.values()
    )


def dtype(folder: Path) -> str | dict[str, str]:
    """What transformers.js is told to run the files that compute in float32."""
    known = {f"{name}{end}.onnx": called for name in SIDES.values()
             for end, called in SUFFIXES.values()}  # fmt: skip
    found = {SIDES[side]: known[file.name] for side, file in files(folder).items()}
    return found if len({*found.values()}) > 1 else min(found.values())


def _ours(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_NAME) >= 0
