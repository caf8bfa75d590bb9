"""Whether ESPnet's trainer takes a configuration, asked before hours of other work."""

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml
from whisper.model import ModelDimensions

from espnet_dq.config import (
    AugmentConfig,
    DistillConfig,
    QuantConfig,
    read_config,
    read_section,
)
from espnet_dq.data.augment import Augment
from espnet_dq.data.kaldi import CATEGORY, read_scp
from espnet_dq.distill.terms import check_speed
from espnet_dq.errors import DQError, InputError, say, shown
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.table import read_grid
from espnet_dq.task.plan import check_amp, check_counts, complete
from espnet_dq.task.plugin import register
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.dims import SIZES
from espnet_dq.whisper.vocabulary import numbers

BEST = ["valid", "loss", "min"]  # whose weights `CHECKPOINT` are
BY_COUNT = ("folded", "unsorted", "sorted")  # batch types of `batch_size` utterances
# Of what ESPnet takes, what goes with such batches, by which lengths are counted, with the recipe's
# tables and with our trainer. The first is ESPnet's default.
ONLY = {
    "batch_type": BY_COUNT,
    "iterator_type": ("sequence",),
    "valid_iterator_type": (None, "sequence"),
    **dict.fromkeys(("multiple_iterator", "use_deepspeed", "no_forward_run"), (False,)),
}


def sizes(model: str | Path) -> ModelDimensions:
    """Of a Whisper: a name of OpenAI's, or a .pt checkpoint."""
    return SIZES.get(str(model)) or openai.load(Path(model)).dims


def check(
    path: Path,
    student: ModelDimensions,
    teacher: ModelDimensions,
    grid: str | Mapping[str, str],
    processes: int = 1,
    data: Sequence[Path] | None = None,
    ngpu: int | None = None,
) -> None:
    """Raise `InputError` if a training configuration will not do.

    Args:
        path: the configuration.
        student, teacher: their sizes.
        grid: weight grid, or a table of weights to grids.
        processes: how many will train.
        data: folders of windows, train and dev; None: they are not there yet.
        ngpu: GPUs of each machine that will train; None: not known.
    """
    config = read_config(path)
    check_counts(config, str(path))
    if ngpu is not None:
        check_amp(config, str(path), ngpu)
    kept = config.get("best_model_criterion", [BEST])  # ESPnet's default has it, too
    if isinstance(kept, list) and BEST not in kept:
        raise InputError(
            f"{path}: best_model_criterion: {shown(kept)} is without {BEST}, by which the weights "
            "are chosen that are trained on and exported"
        )
    check_batches(path, config, processes, data)
    packages = (("tensorboard", True, "'.[tensorboard]'"), ("wandb", False, "wandb"))
    for name, default, how in packages:  # ESPnet's defaults
        if config.get(f"use_{name}", default) and find_spec(name) is None:
            raise InputError(
                f"{path}: use_{name}: true needs the package {name} (pip install {how}); false "
                "does without"
            )
    check_augment(path)
    ranges = QuantConfig.from_yaml(path).activation_ranges
    if ranges and not Path(ranges).exists():  # of a training that is yet to come
        say(f"{path}: not checked, since {ranges} is not there yet", sys.stderr)
    else:
        check_config(path, student, teacher, grid)
    check_trainer(path, config)


def check_trainer(path: Path, config: Mapping) -> None:
    """Raise `InputError` for what ESPnet takes, and cannot train with here or would not stop by."""
    for key, known in ONLY.items():
        if (value := config.get(key, known[0])) not in known:
            words = " or ".join("none" if x is None else str(x).lower() for x in known)
            raise InputError(f"{path}: {key}: {shown(value)}: here it can only be {words}")
    for key, of in (("early_stopping_criterion", "patience"), ("val_scheduler_criterion", None)):
        if of and config.get(of) is None:
            continue
        match config.get(key, BEST):
            case ["train" | "valid", str(name), *_] if name == "acc" or name.startswith("loss"):
                pass
            case other:
                raise InputError(
                    f"{path}: {key}: {shown(other)} is none of train or valid, and loss or acc"
                )


def check_gpus(count: int) -> None:
    """Raise `InputError` unless torch sees so many GPUs here."""
    if count and (seen := torch.cuda.device_count()) < count:
        raise InputError(f"--ngpu {count}: torch sees {seen or 'no'} GPU{'s' * (seen > 1)}")


def check_batches(path: Path, config: dict, processes: int, data: Sequence[Path] | None) -> None:
    """Raise `InputError` if ESPnet cannot cut `data` (train, dev) into batches for `processes`.

    `folded` batches must be what they are asked for, of one language each.
    """
    for side, prefix in enumerate(("", "valid_")):
        key, types = f"{prefix}batch_size", f"{prefix}batch_type"
        size = config.get(key) or config.get("batch_size") or 20
        kind = config.get(types) or config.get("batch_type", "folded")
        if kind in BY_COUNT and size < processes:
            raise InputError(
                f"{path}: {key} {size} is of all processes together, which are "
                f"{processes}: at least one utterance for each is needed"
            )
        if kind in ("unsorted", "sorted") and data:
            windows = len(read_scp(data[side] / "wav.scp"))
            if windows < processes:
                raise InputError(
                    f"{path}: {data[side]}: {windows} windows for {processes} processes"
                )
        if kind != "folded":
            continue
        match config.get("fold_length"):
            case [int(samples)] if samples > 0:  # one for each shape file: stage 5 writes one
                pass
            case _:
                raise InputError(
                    f"{path}: {types} folded needs fold_length: [SAMPLES], one number: batches of "
                    "longer windows have fewer of them"
                )
        if config.get("shuffle_within_batch"):
            raise InputError(f"{path}: shuffle_within_batch makes other batches than folded ones")
        if data:
            table = data[side] / CATEGORY
            if not table.is_file():
                raise InputError(f"{table}: no such file, which folded batches need: run --stage 2")
            for lang, count in sorted(Counter(read_scp(table).values()).items()):
                if count < processes:
                    raise InputError(
                        f"{path}: {types} folded: {table}: of '{lang}' there are {count} windows "
                        f"for {processes} processes"
                    )


def check_augment(path: Path) -> None:
    """Raise `InputError` if a student cannot hear other speech than its teacher."""
    augment, distill = AugmentConfig.from_yaml(path), DistillConfig.from_yaml(path)
    if augment and distill.encoder_frozen:
        raise InputError(f"{path}: preprocessor_conf needs an encoder that is trained")
    Augment(augment, 0)  # whether it can be made
    if augment.speed:
        check_speed(distill, f"{path}: preprocessor_conf: ")


def check_config(
    path: Path, student: ModelDimensions, teacher: ModelDimensions, grid: str | Mapping[str, str]
) -> None:
    """Build model, optimizer and schedulers as training will; no data and no weights are read.

    Args:
        path: a training configuration, as for `--train_config` of the recipe.
        student, teacher: their sizes.
        grid: weight grid, or a table of weights to grids.

    Raises:
        InputError: a key or a value that something of that refuses, in one line with its words.
    """
    said, config = io.StringIO(), read_config(path)
    # With any length: none decides whether ESPnet takes the rest. Its own is for `plan` to check.
    schedule = read_section(config, "scheduler_conf", path)
    schedule = {key: value for key, value in schedule.items() if key != "max_steps"}
    config, _ = complete(config | {"scheduler_conf": schedule}, str(path), 1, 1)
    with TemporaryDirectory() as scratch, contextlib.redirect_stderr(said):
        register()
        from espnet2.tasks.asr import ASRTask

        given = Path(scratch) / "config.yaml"
        given.write_text(yaml.safe_dump(config), encoding="utf-8")
        tokens = Path(scratch) / "tokens.txt"
        tokens.write_text("\n".join(token_list(student)) + "\n", encoding="utf-8")
        ours, theirs = numbers(student), numbers(teacher)
        # Of words in a file ESPnet does not ask whether they are among those it knows.
        words = [f"--{key}={value}" for key, value in config.items() if isinstance(value, str)]
        try:
            ASRTask.main(
                cmd=["--config", str(given), *words, "--dry_run", "true", "--output_dir", scratch,
                     "--log_level", "ERROR", "--token_list", str(tokens), "--token_type", "bpe",
                     "--bpemodel", "dq_whisper", "--encoder_conf", f"dims={ours}",
                     "--decoder_conf", f"dims={ours}", "--model_conf", "teacher=unread.pt",
                     "--model_conf", f"teacher_dims={theirs}",
                     "--model_conf", f"grid={grid}"]
            )  # fmt: skip
        except SystemExit:
            last = said.getvalue().strip().splitlines()[-1]
            raise InputError(f"{path}: {last.partition('error: ')[2] or last}") from None
        except DQError as e:
            raise InputError(f"{path}: {e}") from e
        except Exception as e:  # whatever the classes that it names make of their arguments
            said_of_it = ": ".join([type(e).__name__, *str(e).splitlines()[:1]])
            raise InputError(f"{path}: {said_of_it}") from e


def check_configs(
    configs: Sequence[Path],
    student: str,
    teacher: str,
    grid: str,
    processes: int = 1,
    ngpu: int = 0,
    data: Sequence[Path] | None = None,
) -> None:
    """Check each configuration, and say that ESPnet takes it; warn of a teacher that is smaller.

    Args:
        configs: Training configurations.
        student, teacher: A Whisper's name, or a `.pt` checkpoint.
        grid: The student's, or a file.
        processes: How many will train.
        ngpu: GPUs of this machine that train.
        data: Folders of windows of train and dev.

    Raises:
        InputError: See `check`, `check_gpus`.
    """
    check_gpus(ngpu)
    pupil, master = sizes(student), sizes(teacher)
    counts = [_weights(dims) for dims in (master, pupil)]
    if counts[0] < counts[1]:
        says = (
            "--teacher {} has {:,} weights, fewer than the {:,} of --student {}, who learns from it"
        )
        say("warning: " + says.format(teacher, *counts, student), sys.stderr)
    for path in configs:
        check(path, pupil, master, read_grid(grid), processes, data)
        say(f"{path}: ESPnet takes it", sys.stderr)


def _weights(dims: ModelDimensions) -> int:
    """Nearly all: four matrices of each attention, two of each feed-forward, four times as wide."""
    encoder = dims.n_audio_layer * 12 * dims.n_audio_state**2
    decoder = dims.n_text_layer * 16 * dims.n_text_state**2
    return encoder + decoder + dims.n_vocab * dims.n_text_state
