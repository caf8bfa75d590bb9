"""Check that ESPnet takes the training configurations, before hours of work (stage 3)."""

from collections import Counter
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import QuantConfig, read_config
from espnet_dq.data.kaldi import CATEGORY, read_scp
from espnet_dq.errors import InputError, run, say
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.table import read_grid
from espnet_dq.task.check import check_config

BY_COUNT = ("unsorted", "sorted", "folded")  # batch types of `batch_size` utterances


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="training configurations")
    parser.add_argument("--student", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--teacher", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument("--processes", type=int, default=1, help="number that will train (1)")
    parser.add_argument(
        "--data", type=Path, nargs=2, metavar=("TRAIN", "DEV"), help="folders of windows"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check them; returns 0."""
    args = get_parser().parse_args(argv)
    student, teacher = (openai.load(path).dims for path in (args.student, args.teacher))
    for path in args.configs:
        config = read_config(path)
        check_batches(path, config, args.processes, args.data)
        ranges = QuantConfig.from_yaml(path).activation_ranges
        if ranges and not Path(ranges).exists():  # of a training that is yet to come
            say(f"{path}: not checked, since {ranges} is not there yet")
            continue
        check_config(path, student, teacher, read_grid(args.grid))
    return 0


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
