"""Whether ESPnet will take the training configurations, asked before hours of work (stage 3)."""

import argparse
from pathlib import Path

from espnet_dq.errors import InputError, run
from espnet_dq.formats import openai
from espnet_dq.quant.checkpoint import read_config
from espnet_dq.quant.table import read_grid
from espnet_dq.task.check import check_config

BY_COUNT = ("unsorted", "sorted", "folded")  # batch types of `batch_size` utterances


def main(argv: list[str] | None = None) -> int:
    """Check them; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="training configurations")
    parser.add_argument("--student", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--teacher", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument("--processes", type=int, default=1, help="that will train (1)")
    args = parser.parse_args(argv)
    student, teacher = (openai.load(path).dims for path in (args.student, args.teacher))
    for path in args.configs:
        config = read_config(path)
        for key, types in (("batch_size", "batch_type"), ("valid_batch_size", "valid_batch_type")):
            size = config.get(key) or config.get("batch_size", 20)
            kind = config.get(types) or config.get("batch_type", "folded")
            if kind in BY_COUNT and size < args.processes:
                raise InputError(
                    f"{path}: {key} {size} is of all processes together, which are "
                    f"{args.processes}: at least one utterance for each is needed"
                )
            # One for each shape file, and stage 5 writes one.
            if kind == "folded" and len(config.get("fold_length") or ()) != 1:
                raise InputError(
                    f"{path}: {types} folded needs fold_length: [SAMPLES], one number: batches of "
                    "longer windows have fewer of them"
                )
        ranges = (config.get("model_conf") or {}).get("activation_ranges")
        if ranges and not Path(ranges).exists():  # of a training that is yet to come
            print(f"{path}: not checked, since {ranges} is not there yet")
            continue
        check_config(path, student, teacher, read_grid(args.grid))
    return 0


if __name__ == "__main__":
    run(main)
