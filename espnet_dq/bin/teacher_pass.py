"""Cache what the frozen teacher, and a frozen encoder, say of a data folder (stage 4)."""

from pathlib import Path

import torch

from espnet_dq.bin.arguments import Parser
from espnet_dq.distill.cache import CacheSettings, write_cache
from espnet_dq.errors import InputError, run, say
from espnet_dq.formats import openai
from espnet_dq.jobs import Part
from espnet_dq.quant.checkpoint import Student, read_config
from espnet_dq.quant.table import read_grid
from espnet_dq.whisper.teacher import Teacher


def main(argv: list[str] | None = None) -> int:
    """Run the pass; returns 0."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt")
    parser.add_argument("--student", type=Path, required=True, help="untouched student's .pt")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument(
        "--train_config",
        type=Path,
        required=True,
        nargs="+",
        help="the YAML files that training will use; they must want the same cache",
    )
    parser.add_argument(
        "--padding", default="zeros", help="of the student's windows: zeros (default) or silence"
    )
    parser.add_argument(
        "--shared", type=Path, help="keep the cache here, for all that want the same answers"
    )
    parser.add_argument(
        "--split",
        type=Part.parse,
        metavar="K/N",
        help="only part K of N, for a job; the same command without this then finishes the cache",
    )
    parser.add_argument("--top_k", type=int, default=64, help="teacher tokens a position (64)")
    args = parser.parse_args(argv)
    wanted = [cache_settings(path, args.top_k) for path in args.train_config]
    # A training without a hidden term does not mind states in its cache, and one in float32 does
    # not mind a teacher in bfloat16: what is cached of the student is in float32 anyway.
    tap = next((w["tap"] for w in wanted if w["tap"]), None)
    precision = next((w["precision"] for w in wanted if w["precision"] != "float32"), "float32")
    # Nor does one in full windows mind that there are shorter ones, too.
    windows = next((w["windows"] for w in wanted if w["windows"]), ())
    wanted = [
        {
            **w,
            "tap": w["tap"] or tap,
            "precision": precision,
            "windows": w["windows"] or windows,
        }
        for w in wanted
    ]
    for path, other in zip(args.train_config, wanted, strict=True):
        if other != wanted[0]:
            key = next(k for k in other if other[k] != wanted[0][k])
            raise InputError(
                f"{path}: {key} is {other[key]}, but {wanted[0][key]} in {args.train_config[0]}: "
                "one teacher pass cannot serve both"
            )
    preset = wanted[0].pop("preset")
    settings = CacheSettings(**wanted[0], padding=args.padding)
    weights = openai.load(args.student)
    student = Student(
        dims=weights.dims,
        state={k: v.float() for k, v in weights.state.items()},
        grid=read_grid(args.grid),
        preset=preset,
        path=args.student,
    )
    torch.manual_seed(0)
    teacher = Teacher(args.teacher, student.dims)
    write_cache(args.data, args.out, teacher, student, settings, args.shared, args.split)
    say(args.out)
    return 0


def cache_settings(path: Path, top_k: int) -> dict:
    """What a configuration wants of the cache: `CacheSettings`, and the encoder's `preset`."""
    config = read_config(path)
    model = config.get("model_conf") or {}
    if "encoder" in (config.get("freeze_param") or []):
        raise InputError(f"{path}: freeze_param: encoder: say train_encoder: none in model_conf")
    frozen = model.get("train_encoder", "all") in ("none", 0)
    hidden = model.get("matching", "dynamic_monotonic") != "logits"
    hidden = hidden and model.get("lambda_hidden", 1.0) != 0
    # On the grid of its inputs an encoder's output changes with the batch (`DQWhisperModel`).
    cached = frozen and model.get("activations", "none") == "none"
    window = (config.get("encoder_conf") or {}).get("window", "random")
    if cached and not isinstance(window, list) and window != "full":
        raise InputError(
            f"{path}: encoder_conf.window is {window}: the output of a frozen encoder is cached in "
            "full windows or in lengths that are known: say full, or a list of seconds"
        )
    # Of a frozen encoder only its own part of the preset matters.
    on_grid = frozen and model.get("preset", "full") in ("full", "encoder")
    return {
        "tap": model.get("tap", "block") if hidden else None,
        "temperature": model.get("temperature", 1.0),
        "top_k": top_k,
        "teacher_window": model.get("teacher_window", "full"),
        "timestamp_share": model.get("timestamp_share", 0.0),
        "encoder": cached,
        "windows": tuple(window) if cached and isinstance(window, list) else (),
        "precision": model.get("precision", "float32"),
        "preset": "encoder" if on_grid else "none",
    }


if __name__ == "__main__":
    run(main)
