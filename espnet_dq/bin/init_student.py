"""Make an openai-whisper checkpoint the start of a student (stage 3).

Writes OUT/student.pth, for ESPnet's --init_param, OUT/tokens.txt, for its --token_list, and
OUT/student.dims and OUT/teacher.dims, one line of YAML each, for `dims` and `teacher_dims`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import QuantConfig
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import atomic, check_replaceable
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.write import check_grids, get_format
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.quant.sensitivity import stored_bytes
from espnet_dq.quant.table import read_grid
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.dims import espnet_name, vocabulary_tokenizer
from espnet_dq.whisper.vocabulary import numbers


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt checkpoint")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument(
        "--export",
        nargs=2,
        metavar=("FORMAT", "CONFIG"),
        help="refuse a preset, in the training configuration, that the format cannot hold",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the files; returns 0."""
    args = get_parser().parse_args(argv)
    for name in ("student.pth", "tokens.txt", "student.dims", "teacher.dims", "student.grid"):
        check_replaceable(args.out / name)
    weights = openai.load(args.source)
    teacher = openai.load(args.teacher).dims
    for path, dims in ((args.source, weights.dims), (args.teacher, teacher)):
        try:
            vocabulary_tokenizer(dims)
        except InputError as e:
            raise InputError(f"{path}: {e}") from e
    grid = read_grid(args.grid)
    for name, each in assign_grids(weights.dims, grid).items():
        try:
            stored_bytes(tuple(weights.state[name].shape), each)
        except InputError as e:
            raise InputError(f"{args.source}: {name}: {e}") from e
    if args.export:
        _check_export(*args.export, weights.dims, grid)
    state = {espnet_name(name): w.float() for name, w in weights.state.items()}
    with atomic(args.out / "student.pth") as tmp, open(tmp, "wb") as f:
        torch.save(state, f)
    with atomic(args.out / "tokens.txt") as tmp:
        tmp.write_text("\n".join(token_list(weights.dims)) + "\n", encoding="utf-8")
    for name, dims in (("student", weights.dims), ("teacher", teacher)):
        with atomic(args.out / f"{name}.dims") as tmp:
            tmp.write_text(json.dumps(numbers(dims)) + "\n", encoding="utf-8")
    with atomic(args.out / "student.grid") as tmp:
        tmp.write_text(json.dumps(grid) + "\n", encoding="utf-8")
    say(args.out / "student.pth")
    return 0


def _check_export(
    form: str, config: str, dims: ModelDimensions, grid: str | Mapping[str, str]
) -> None:
    """What stage 8 would find out after hours of training."""
    try:
        get_format(form)
    except InputError as e:
        raise InputError(f"--export {form}: {e}") from e
    preset = QuantConfig.from_yaml(config).preset
    try:
        grids = assign_grids(dims, grid, preset)
        check_grids(form, dims, grids)
    except InputError as e:
        raise InputError(f"{config}: preset {preset} does not fit {form}: {e}") from e
    if not grids:
        raise InputError(f"{config}: preset {preset} leaves no weight on the grid")


if __name__ == "__main__":
    run(main)
