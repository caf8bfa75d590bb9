"""ESPnet's trainer, which hears dev before it begins, and whose checkpoints appear whole.

ESPnet writes them in place after each epoch: a kill or a full disk at that moment would leave
nothing to resume from. To the copy `espnet_dq.task.checkpoints` goes back when a disk has spoiled
the last one.
"""

import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer

from espnet_dq.errors import WorkError
from espnet_dq.files import atomic
from espnet_dq.quant.fake_quant import set_share
from espnet_dq.task.checkpoints import BEFORE, LAST
from espnet_dq.task.plan import check_amp

if TYPE_CHECKING:
    from espnet_dq.task.model import DQWhisperModel


class Ramp:
    """The batches of an epoch; before each, weights go their share of the way to the grid.

    That grows from 0 in the first step of the training to 1 at the end of the model's `ramp`.
    """

    def __init__(self, batches: Collection, model: "DQWhisperModel", epoch: int, epochs: int):
        self.batches, self.model = batches, model
        self.before, self.end = (epoch - 1) * len(batches), model.quant.ramp * epochs * len(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        for step, batch in enumerate(self.batches, self.before):
            set_share(self.model, min(1.0, step / self.end))
            yield batch


class DQTrainer(Trainer):
    """`espnet2.train.trainer.Trainer` with a look at dev first, and that copy as epochs begin."""

    @classmethod
    def run(cls, *args, **kwargs) -> None:
        """As ESPnet's; what it saves gets its name when it is whole.

        Raises:
            InputError: `use_amp` on a CPU, where ESPnet's would change nothing and not say so.
        """
        options = kwargs["trainer_options"]
        check_amp(vars(options), "the training", options.ngpu)
        save = torch.save

        def save_whole(content: dict, path: Path) -> None:
            with atomic(path) as tmp, open(tmp, "wb") as file:
                save(content, file)

        torch.save = save_whole
        try:
            if not (Path(options.output_dir) / LAST).exists():
                cls._hear_dev(kwargs)
            super().run(*args, **kwargs)
        finally:
            torch.save = save

    @classmethod
    def _hear_dev(cls, given: Mapping) -> None:
        """Log what dev says of the start, as the results of epoch 0."""
        reporter = Reporter()
        reporter.set_epoch(0)
        with reporter.observe("valid") as sub_reporter:
            cls.validate_one_epoch(
                model=given["model"],
                iterator=given["valid_iter_factory"].build_iter(0),
                reporter=sub_reporter,
                options=given["trainer_options"],
                distributed_option=given["distributed_option"],
            )
        if not given["distributed_option"].dist_rank:
            logging.info(reporter.log_message())

    @classmethod
    def train_one_epoch(cls, **kwargs) -> bool:
        """As ESPnet's, without gradients of the epoch before, whose files the first process copies.

        Raises `WorkError` where ESPnet would end the training as if it were finished.
        """
        options, model = kwargs["options"], kwargs["model"]
        model = getattr(model, "module", model)  # which is within, in several processes
        if model.quant.ramp:
            epoch = kwargs["reporter"].get_epoch()
            kwargs["iterator"] = Ramp(kwargs["iterator"], model, epoch, options.max_epoch)
        # Left from batches of the epoch before that made no whole step of `accum_grad`: a training
        # that is resumed here does not have them.
        for optimizer in kwargs["optimizers"]:
            optimizer.zero_grad()
        last = Path(options.output_dir) / LAST
        if not kwargs["distributed_option"].dist_rank and last.exists():
            with atomic(last.with_name(BEFORE)) as tmp:
                shutil.copyfile(last, tmp)
        if super().train_one_epoch(**kwargs):
            raise WorkError(
                "no step of this epoch had finite gradients: a rate that is too high, a precision "
                "that is too low, or damaged data"
            )
        return False
