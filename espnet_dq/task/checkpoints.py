"""Checkpoints of a training folder, and whether they are sound. Imports nothing of ESPnet's.

ESPnet resumes from `LAST`; `BEFORE` is the copy that `espnet_dq.task.trainer` keeps of the one of
the epoch before.
"""

import re
import shutil
import zipfile
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.files import atomic

LAST, BEFORE = "checkpoint.pth", "checkpoint.before.pth"
# What a training writes; another `.pth` is the user's.
_ESPNETS = re.compile(r"(checkpoint(\.before)?|latest|\d+epoch|(train|valid)\..*)\.pth")


def repair(folder: Path) -> list[str]:
    """See to it that training can go on in ESPnet's `output_dir`; returns what was done.

    Where the last checkpoint is damaged, training will go on from the one before, or, where that
    is damaged, too, from the start. A kill may also have come between a checkpoint and the file of
    the same epoch's model, which ESPnet writes after it and needs in the end: that is then written
    from the checkpoint.

    Raises:
        InputError: checkpoints are damaged, and the folder is none of ESPnet's.
    """
    last, done = folder / LAST, []
    if not last.exists():
        return []
    import torch  # takes seconds, which a training that begins need not wait

    if found := fault(last):
        if fault(folder / BEFORE):
            if not (folder / "config.yaml").is_file():
                raise InputError(f"{folder}: no output_dir of ESPnet's, so nothing is removed")
            for checkpoint in folder.glob("*.pth"):
                if _ESPNETS.fullmatch(checkpoint.name):
                    checkpoint.unlink()
            return [f"{last}: {found}; training starts again"]
        with atomic(last) as tmp:
            shutil.copyfile(folder / BEFORE, tmp)
        done.append(f"{last}: {found}; training goes on from the checkpoint before")
    states = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
    model = folder / f"{states['reporter']['epoch']}epoch.pth"
    if found := fault(model):
        with atomic(model) as tmp, open(tmp, "wb") as file:
            torch.save(states["model"], file)
        done.append(f"{model}: {found}; written again from {last.name}")
    return done


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    import torch

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
