"""Before training goes on: see to it that there is a sound checkpoint to go on from.

Where the last one is damaged, training goes on from the one before (`espnet_dq.task.trainer`), or,
where that is damaged, too, from the start; which of the two, this says. A kill may also have come
between a checkpoint and the file of the same epoch's model, which ESPnet writes after it and needs
in the end: that is then written from the checkpoint.
"""

import argparse
import shutil
import zipfile
from pathlib import Path

import torch

from espnet_dq.errors import run
from espnet_dq.files import atomic
from espnet_dq.task.trainer import BEFORE, LAST


def main(argv: list[str] | None = None) -> int:
    """Check one training folder; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="ESPnet's output_dir")
    folder = parser.parse_args(argv).folder
    last = folder / LAST
    if not last.exists():
        return 0
    if fault := _fault(last):
        if _fault(folder / BEFORE):
            for checkpoint in folder.glob("*.pth"):
                checkpoint.unlink()
            print(f"{last}: {fault}; training starts again")
            return 0
        with atomic(last) as tmp:
            shutil.copyfile(folder / BEFORE, tmp)
        print(f"{last}: {fault}; training goes on from the checkpoint before")
    states = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
    model = folder / f"{states['reporter']['epoch']}epoch.pth"
    if fault := _fault(model):
        with atomic(model) as tmp, open(tmp, "wb") as file:
            torch.save(states["model"], file)
        print(f"{model}: {fault}; written again from {last.name}")
    return 0


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if not path.exists():
        return "is missing"
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself looks at no checksum
            if name := archive.testzip():
                return f"is damaged (checksum of {name})"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as e:
        return f"cannot be read ({type(e).__name__})"
    return None


if __name__ == "__main__":
    run(main)
