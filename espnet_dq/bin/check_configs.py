"""Check that ESPnet takes the training configurations, before hours of work (stage 3)."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import QuantConfig, read_config
from espnet_dq.data.kaldi import CATEGORY, read_scp
from espnet_dq.errors import InputError, run, say, shown
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.table import read_grid
from espnet_dq.task.check import check_config
from espnet_dq.whisper.dims import SIZES

COUNTS = ("max_epoch", "num_iters_per_epoch", "batch_size", "accum_grad", "keep_nbest_models",
          "log_interval")  # fmt: skip
BY_COUNT = ("unsorted", "sorted", "folded")  # batch types of `batch_size` utterances


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="training configurations")
    parser.add_argument("--student", required=True, help="a Whisper's name, or a .pt checkpoint")
    parser.add_argument("--teacher", required=True, help="the same")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument("--processes", type=int, default=1, help="number that will train (1)")
    parser.add_argument(
        "--data", type=Path, nargs=2, metavar=("TRAIN", "DEV"), help="folders of windows"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check them; returns 0."""
    args = get_parser().parse_args(argv)
    student, teacher = sizes(args.student), sizes(args.teacher)
    for path in args.configs:
        check(path, student, teacher, read_grid(args.grid), args.processes, args.data)
    return 0


def sizes(model: str) -> ModelDimensions:
    """Of a Whisper: a name of OpenAI's, or a .pt checkpoint."""
    return SIZES.get(model) or openai.load(Path(model)).dims


def check(
    path: Path,
    student: ModelDimensions,
    teacher: ModelDimensions,
    grid: str | Mapping[str, str],
    processes: int = 1,
    data: list[Path] | None = None,
) -> None:
    """Raise `InputError` if a training configuration will not do.

    Args:
        path: the configuration.
        student, teacher: their sizes.
        grid: weight grid, or a table of weights to grids.
        processes: how many will train.
        data: folders of windows, train and dev; None: they are not there yet.
    """
    config = read_config(path)
    for key in COUNTS:
        for number in _numbers(config.get(key)):
            if type(number) is not int or number < 1:
                raise InputError(f"{path}: {key}: {shown(number)} is not a whole number above 0")
    check_batches(path, config, processes, data)
    ranges = QuantConfig.from_yaml(path).activation_ranges
    if ranges and not Path(ranges).exists():  # of a training that is yet to come
        say(f"{path}: not checked, since {ranges} is not there yet", sys.stderr)
        return
    check_config(path, student, teacher, grid)


def _numbers(value: object) -> list:
    """What a key holds: ESPnet takes a list of `keep_nbest_models`, and nothing for a default."""
    return value if isinstance(value, list) else [] if value is None else [value]


def check_batches(path: Path, config: dict, processes: int, data: list[Path] | None) -> None:
    """Raise `InputError` if ESPnet cannot cut `data` (train, dev) into batches for `processes`.

    `folded` batches must be what they are asked for, of one language each.
    """
    for side, prefix in enumerate(("", "valid_")):
        key, types = f"{prefix}batch_size", f"{prefix}batch_type"
        size = config.get(key) or config.get("batch_size", 20)
        kind = config.get(types) or config.get("batch_type", "folded")
        if kind in BY_COUNT and size < processes:
            raise InputError(
                f"{path}: {key} {size} is of all processes together, which are "
                f"{processes}: at least one utterance for each is needed"
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


if __name__ == "__main__":
    run(main)
