"""What must hold whenever the recipe was interrupted, and what it must come to in the end."""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import safetensors.torch
import soundfile
import torch

from espnet_dq.data.kaldi import FILES, KaldiDir, read_scp
from espnet_dq.data.validation import faults
from espnet_dq.files import TEMPORARY, sha256
from espnet_dq.formats import detect
from espnet_dq.reading import read_yaml

# Names under which things are written before they get their own (`espnet_dq.files`, dq.sh).
# The one file that ESPnet writes in place and that is written anew before anything reads it.
REWRITTEN = {"kd/config.yaml": 6, "qat/config.yaml": 7}
# Records that grow: a line may be cut short at their end, and their readers know that.
GROWING = (".log", ".jsonl")
STARTED = re.compile(r"^\S+ \(dq\.sh:\d+\) stage (\d+): (?!done in)", re.MULTILINE)


def finished(exp: Path) -> set[int]:
    """The stages that are marked as done."""
    return {int(p.name) for p in (exp / "done").glob("[0-9]*")}


def started(said: str) -> list[int]:
    """The stages that a run has begun, by what it said."""
    return [int(n) for n in STARTED.findall(said)]


def done_twice(done_before: set[int], said: str) -> list[int]:
    """Stages that were done before a run, and that the run did again."""
    return sorted(done_before & set(started(said)))


def leftovers(folder: Path) -> list[Path]:
    """What interrupted writing has left under its temporary names."""
    return sorted(p for p in folder.rglob("*") if TEMPORARY.fullmatch(p.name))


def half_written(folders: list[Path], exp: Path) -> list[str]:
    """Each file under `folders` that has its name and is not whole, and why."""
    done, found = finished(exp), []
    excused = {exp / name for name, stage in REWRITTEN.items() if stage not in done}
    for folder in folders:
        for path in _files(folder):
            if path in excused:
                continue
            try:
                _check(path)
            except Exception as e:
                found.append(f"{path}: {type(e).__name__}: {str(e).splitlines()[0][:200]}")
    for stage, training in ((6, "kd"), (7, "qat")):
        if stage in done:
            found += [f"{p}: leads nowhere" for p in (exp / training).iterdir() if not p.exists()]
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Files and Kaldi folders, temporary ones and those that links lead to apart."""
    for path in sorted(folder.iterdir()):
        if TEMPORARY.fullmatch(path.name) or path.name.endswith(".lock") or path.suffix in GROWING:
            continue
        if path.is_symlink() and (path.is_dir() or not path.exists()):
            continue
        if path.is_dir():
            if (path / "wav.scp").exists():
                yield path
            yield from _files(path)
        else:
            yield path


def _check(path: Path) -> None:
    if path.is_dir():
        # Of a subset without texts only what it has.
        if all((path / name).exists() for name in FILES) and (wrong := faults(path)):
            raise ValueError(wrong[0])
        return
    if not path.stat().st_size:
        raise ValueError("empty")
    for suffixes, check in CHECKS.items():
        if path.name.endswith(suffixes):
            check(path)
            return
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("its last line has no end")


def _torch(path: Path) -> None:
    _zip(path)
    torch.load(path, map_location="cpu", weights_only=True)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if name := archive.testzip():
            raise ValueError(f"checksum of {name}")


def _wav(path: Path) -> None:
    soundfile.read(path)  # which takes what there is
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little") + 8
    if size != path.stat().st_size:
        raise ValueError(f"has not the {size} bytes that its header says")


def _scp(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ValueError("its last line has no end")
    for line in text.splitlines():
        if ".ark:" in line:
            kaldiio.load_mat(line.split(maxsplit=1)[1])


def _page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("cut short")


CHECKS: dict[tuple[str, ...], Callable] = {
    (".json", ".dims", ".grid"): lambda p: json.loads(p.read_text(encoding="utf-8")),
    (".yaml",): lambda p: dict(read_yaml(p)),
    (".pt", ".pth"): _torch,
    (".safetensors",): safetensors.torch.load_file,
    ("model.bin",): lambda p: detect.load(p.parent),  # CTranslate2
    ("model.onnx", ".ggml", "student.bin"): detect.load,
    (".zip",): _zip,
    (".wav",): _wav,
    (".scp",): _scp,
    (".ark", ".png", ".data", ".bin", ".onnx"): lambda p: None,  # read through others, or binary
    (".html",): _page,
}


def outcome(exp: Path, last: int) -> dict[str, object]:
    """What a run has come to with stage `last`: data, weights, and in the end texts and scores."""
    found: dict[str, object] = {}
    for split in ("train", "dev") if last >= 2 else ():
        data = KaldiDir.load(exp / "data" / split)
        found[f"{split}: windows"] = data.fingerprint()
        if last >= 4:
            arrays = {
                (scp.name, utt): kaldiio.load_mat(place)
                for scp in (exp / "cache" / split).glob("[!.]*.scp")  # not what a killed run left
                for utt, place in read_scp(scp).items()
            }
            found[f"{split}: teacher's answers"] = _digest(arrays)
    for stage, training in ((6, "kd"), (7, "qat")):
        if last >= stage:
            state = torch.load(exp / training / "valid.loss.ave.pth", weights_only=True)
            found[f"{training}: weights"] = _digest({k: v.numpy() for k, v in state.items()})
    if last >= 8:
        found["exported file"] = sha256(exp / "export/student/model.bin")
    if last >= 12:
        results = json.loads((exp / "results.json").read_text(encoding="utf-8"))
        for system in results["systems"]:
            name = system["name"]
            found[f"{name}: rates"] = {
                k: system[k] for k in ("wer", "cer", "wer_unnormalised", "cer_unnormalised")
            }
            found[f"{name}: texts"] = (exp / f"decode/{name}/text").read_text(encoding="utf-8")
    return found


def _digest(arrays: Mapping[Any, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(repr(name).encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def differing(one: dict, other: dict) -> list[str]:
    """What two outcomes differ in."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
