"""The openai-whisper checkpoint of any model, as which teachers and students are trained.

The recipe asks where it is, and what it is made of, before any work: importing this, and asking for
a name or a file of a known format, takes no torch.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from espnet_dq.errors import InputError, say
from espnet_dq.fetch.names import HUB, OPENAI, openai_name
from espnet_dq.files import bytes_on_disk, sha256
from espnet_dq.formats import detect
from espnet_dq.reading import file_size

# What of a folder can be a model's: not what trainers leave beside it (`optimizer.pt`).
_SUFFIXES = {".json", ".txt", ".safetensors", ".bin", ".onnx"}
_FLOAT = 15  # bits a weight: nothing but float16 and wider takes more


def place(source: str | Path, folder: Path) -> tuple[Path, str]:
    """Where `as_checkpoint` has the checkpoint of a model, and the `content` of a path, else "".

    Raises `InputError` as `content`, or for `hf:` and what names no repository.
    """
    if name := openai_name(source):
        return folder / f"{name}.pt", ""
    if str(source).startswith(HUB):
        from espnet_dq.fetch.hub import parse

        return folder / f"{_plain('--'.join(filter(None, parse(str(source)))))}.pt", ""
    path = Path(source)
    found = content(path)
    if not path.is_dir() and detect.detect(path) == "openai":
        return path, found
    return folder / f"{_plain(model_name(path))}-{found[:16]}.pt", found


def model_name(source: str | Path) -> str:
    """What an experiment calls a model: the last part of its path, without its ending."""
    name = str(source).removeprefix(OPENAI)
    if name.startswith(HUB):
        from espnet_dq.fetch.hub import parse

        name = parse(name)[0]
    return re.sub(r"\.(pt|bin|safetensors)$", "", os.path.basename(os.path.abspath(name)))


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "--", name)[:100]


def content(path: Path) -> str:
    """The hash of what a model at a path is made of: of a file, or of a folder's files.

    Raises `InputError` where no model is.
    """
    if not path.is_dir():
        detect.detect(path)
        return sha256(path)
    digest = hashlib.sha256()
    for name, file in sorted(_files(path)):
        file_size(file)
        digest.update(f"{name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the files that may decide what a folder's model is."""
    if detect.adapter(folder):
        base = _base(folder)
        more = _files(base) if base.is_dir() else [("", base)]
        yield from ((f"base/{name}", file) for name, file in more)
    else:
        try:
            detect.detect(folder)
        except InputError:
            yield from _of_training(folder)
            return
    for where in (folder, folder / "onnx"):
        for file in where.glob("*"):
            if file.suffix in _SUFFIXES:
                yield str(file.relative_to(folder)), file


def _of_training(folder: Path) -> list[tuple[str, Path]]:
    from espnet_dq.api.models import is_training
    from espnet_dq.student.checkpoint import CHECKPOINT, training_folder

    if not is_training(folder):
        detect.detect(folder)  # what formats there are is the better answer
    trained = training_folder(folder)
    return [(name, trained / name) for name in ("config.yaml", CHECKPOINT)]


def as_checkpoint(source: str | Path, folder: Path, cache: Path | None = None) -> Path:
    """A model as openai-whisper's checkpoint: fetched, made in `folder`, or the file itself.

    What is made of a file or folder is named by what that holds, so a changed one is made again.
    What was fetched stays. A line on standard error says what a checkpoint was made of, and where
    that lies on a grid. Tokens that no Whisper has are left out: a student has none of them, and
    between its tokens a teacher's probabilities are the same without.

    Args:
        source: a path of what `espnet_dq.load` reads, a name of OpenAI's, which need not have
            `openai:` before it (`openai_name`), or `hf:USER/NAME[@REVISION]`.
        folder: where checkpoints go, each with a .json of its origin.
        cache: of downloads from OpenAI; None: the default one.

    Raises:
        InputError: nothing that is read here, or damaged.
        WorkError: no network.
    """
    import torch

    from espnet_dq.api.models import load
    from espnet_dq.fetch.weights import fetch, keep, kept
    from espnet_dq.formats.openai.write import save
    from espnet_dq.whisper.weights import ENCODER_POSITIONS

    if name := openai_name(source):
        return fetch(name, folder, cache)
    checkpoint, found = place(source, folder)
    if checkpoint == Path(source) or kept(checkpoint):
        return checkpoint
    model = load(source, keep=False)
    weights = model.weights.without_added()
    dtype = getattr(torch, weights.lossless(weights.state))
    origin = {"source": str(source), "source_sha256": found or content(model.path)}
    keep(checkpoint, lambda path: save(path, weights, dtype), origin)
    # Some formats leave the encoder's positions out, which are the same in every Whisper.
    count = sum(t.numel() for n, t in model.weights.state.items() if n != ENCODER_POSITIONS)
    said = _kind(model.path, count)
    if left_out := model.dims.n_vocab - weights.dims.n_vocab:
        said += f", without its {left_out} added tokens"
    say(f"{checkpoint}: made of {source} ({said})", sys.stderr)
    return checkpoint


def _kind(path: Path, weights: int) -> str:
    """What a model of so many weights was read from, and whether they are rounded there."""
    from espnet_dq.formats import integers

    if path.is_dir() and detect.adapter(path):
        return f"adapters and their base, {_kind(_base(path), weights)}"
    try:
        form = detect.detect(path)
    except InputError:
        return "a training's float weights"
    grids = ", ".join(sorted({q.grid for q in integers.load(path).values()}))
    files = [file for _, file in _files(path)] if path.is_dir() else [path]
    size = sum(bytes_on_disk(f) for f in files if f.suffix not in (".json", ".txt"))
    if not grids and (bits := 8 * size / weights) < _FLOAT:  # integers that are none of ours
        grids = f"{bits:.0f} bits a weight"
    return f"{form}, quantized: {grids}" if grids else form


def _base(folder: Path) -> Path:
    """Of adapters."""
    from espnet_dq.api.models import base_of
    from espnet_dq.formats import adapter

    return base_of(adapter.read(folder))
