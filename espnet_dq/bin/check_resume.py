"""Before training goes on: put aside checkpoints that a kill or a full disk left torn.

ESPnet writes `checkpoint.pth` and the epoch's model in place. When the last of either cannot be
read, training goes on from the checkpoint before (`espnet_dq.task.trainer`), or, where there is
none that can be read, from the start; which of the two, this says.
"""

import argparse
import shutil
from pathlib import Path

import torch

from espnet_dq.errors import run
from espnet_dq.files import atomic


def main(argv: list[str] | None = None) -> int:
    """Check one training folder; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="ESPnet's output_dir")
    folder = parser.parse_args(argv).folder
    last, before, latest = (
        folder / name for name in ("checkpoint.pth", "checkpoint.before.pth", "latest.pth")
    )
    if not last.exists():
        return 0
    faults = {path: fault for path in (last, latest) if (fault := _fault(path))}
    if not faults:
        return 0
    path, fault = next(iter(faults.items()))
    if _fault(before) is None:
        with atomic(last) as tmp:
            shutil.copyfile(before, tmp)
        if latest in faults:
            latest.resolve().unlink(missing_ok=True)
            latest.unlink(missing_ok=True)
        print(f"{path}: cannot be read ({fault}); training goes on from the checkpoint before")
        return 0
    for checkpoint in folder.glob("*.pth"):
        checkpoint.unlink()
    print(f"{path}: cannot be read ({fault}); training starts again")
    return 0


def _fault(path: Path) -> str | None:
    """Why a checkpoint cannot be read, or None."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as e:
        return type(e).__name__
    return None


if __name__ == "__main__":
    run(main)
