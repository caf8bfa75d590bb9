"""ESPnet's trainer, which keeps the checkpoint before the last one.

ESPnet writes `checkpoint.pth` in place after each epoch: a kill or a full disk at that moment would
leave nothing to resume from. `espnet_dq.bin.check_resume` goes back to the copy then.
"""

import shutil
from pathlib import Path

from espnet2.train.trainer import Trainer

from espnet_dq.files import atomic

LAST, BEFORE = "checkpoint.pth", "checkpoint.before.pth"


class DQTrainer(Trainer):
    """`espnet2.train.trainer.Trainer` with that copy, made as each epoch begins."""

    @classmethod
    def train_one_epoch(cls, **kwargs) -> bool:
        """As ESPnet's; the first process copies what the epoch before has left."""
        last = Path(kwargs["options"].output_dir) / LAST
        if not kwargs["distributed_option"].dist_rank and last.exists():
            with atomic(last.with_name(BEFORE)) as tmp:
                shutil.copyfile(last, tmp)
        return super().train_one_epoch(**kwargs)
