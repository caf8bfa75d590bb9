"""Make an openai-whisper checkpoint the start of a student (stage 3).

Writes OUT/student.pth, for ESPnet's --init_param, OUT/tokens.txt, for its --token_list, and
OUT/student.dims and OUT/teacher.dims, one line of YAML each, for `dims` and `teacher_dims`.
"""

import argparse
import json
from pathlib import Path

import torch

from espnet_dq.errors import InputError, run
from espnet_dq.files import atomic
from espnet_dq.formats import openai
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.quant.sensitivity import stored_bytes
from espnet_dq.quant.table import read_grid
from espnet_dq.task.tokenizer import token_list


def main(argv: list[str] | None = None) -> int:
    """Write the files; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt checkpoint")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    weights = openai.load(args.source)
    teacher = openai.load(args.teacher).dims
    if teacher.n_vocab != weights.dims.n_vocab:
        raise InputError(
            f"{args.teacher}: {teacher.n_vocab} tokens, the student has {weights.dims.n_vocab}"
        )
    grid = read_grid(args.grid)
    for name, each in assign_grids(weights.dims, grid).items():
        try:
            stored_bytes(tuple(weights.state[name].shape), each)
        except InputError as e:
            raise InputError(f"{args.source}: {name}: {e}") from e
    state = {name.replace(".", ".net.", 1): w.float() for name, w in weights.state.items()}
    with atomic(args.out / "student.pth") as tmp:
        torch.save(state, tmp)
    with atomic(args.out / "tokens.txt") as tmp:
        tmp.write_text("\n".join(token_list(weights.dims.n_vocab)) + "\n", encoding="utf-8")
    for name, dims in (("student", weights.dims), ("teacher", teacher)):
        with atomic(args.out / f"{name}.dims") as tmp:
            tmp.write_text(json.dumps(vars(dims)) + "\n", encoding="utf-8")
    with atomic(args.out / "student.grid") as tmp:
        tmp.write_text(json.dumps(grid) + "\n", encoding="utf-8")
    print(args.out / "student.pth")
    return 0


if __name__ == "__main__":
    run(main)
