"""Before training goes on: drop checkpoints that a kill or a full disk left torn.

ESPnet writes `checkpoint.pth` and the epoch's model in place. When the last of either cannot be
read, this removes the folder's checkpoints, so that training starts again, and says so.
"""

import argparse
from pathlib import Path

import torch

from espnet_dq.errors import run


def main(argv: list[str] | None = None) -> int:
    """Check one training folder; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="ESPnet's output_dir")
    args = parser.parse_args(argv)
    if not (args.folder / "checkpoint.pth").exists():
        return 0
    for name in ("checkpoint.pth", "latest.pth"):
        path = args.folder / name
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as e:
            print(f"{path}: cannot be read ({type(e).__name__}); training starts again")
            for checkpoint in args.folder.glob("*.pth"):
                checkpoint.unlink()
            return 0
    return 0


if __name__ == "__main__":
    run(main)
