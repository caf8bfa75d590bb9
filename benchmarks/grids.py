"""Training on a grid against rounding to it, grid by grid, from the same distilled student.

`ptq` rounds the float student of an experiment (its stage 6) to the nearest values, `gptq` rounds
it by clips of the experiment's training data (`espnet_dq.quant.gptq`), `qat` trains it further on
the grid (stage 7's own command with another grid and configuration). Each is written, verified,
decoded and scored; one JSON line each, appended as soon as it is there. What is in --out is not
done again, and an unfinished training resumes.

    .venv/bin/python benchmarks/grids.py --experiment exp/asterisk_base_tiny_ct2_int8_long \\
        --qat_config conf/qat_long.yaml --data dump/asterisk/raw/test --work /tmp/grids \\
        --out benchmarks/results/grids.jsonl
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

from espnet_dq.api.models import convert, export, load, quantize, save
from espnet_dq.api.verification import verify
from espnet_dq.config import read_config, read_section
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError, WorkError, run
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats.format import Format
from espnet_dq.formats.registry import FORMATS, home
from espnet_dq.quant.table import read_grid
from espnet_dq.runtimes import guess_runtime
from espnet_dq.scoring import sclite
from espnet_dq.scoring.score import MAIN_RATES, score
from espnet_dq.student.checkpoint import CHECKPOINT
from lines import Lines

# Beside the grids: floats, whose texts in whisper.cpp are not CTranslate2's.
FLOATS = {"none": "ct2", "none_ggml": "ggml"}
GRIDS = (*FLOATS, "ct2_int8", "ggml_q8_0", "ggml_q5_0", "ggml_q4_0", "onnx_int8",
         "ggml_q5_1", "ggml_q4_1", "uniform8", "uniform4", "uniform3", "uniform2",
         "uniform4_g32", "uniform3_g32", "uniform2_g32")  # fmt: skip
METHODS = ("ptq", "gptq", "qat")


def format_of(grid: str) -> Format:
    """What holds a grid's integers. What is packed is decoded as float32 by CTranslate2."""
    return FORMATS[FLOATS[grid]] if grid in FLOATS else home(grid)


def train(experiment: Path, grid: str, config: Path, seed: int, out: Path) -> float:
    """Stage 7 of `experiment` on another grid into `out`; returns its seconds, 0 if it was done.

    Raises `WorkError` when training fails.
    """
    if (out / CHECKPOINT).is_file():
        return 0.0
    script = experiment / "qat" / "run.sh"
    if not script.is_file():
        raise InputError(f"{script}: no such file; run the recipe's stage 7 once")
    # Of options that come twice the last one counts.
    command = ["bash", str(script), "--config", str(config), "--output_dir", str(out)]
    command += ["--seed", str(seed), "--model_conf", f"grid={json.dumps(read_grid(grid))}"]
    command += ["--encoder_conf", f"padding={format_of(grid).padding}"]
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(out / "train.log", "a", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=log)
    if done.returncode:
        raise WorkError(f"training failed: see {out / 'train.log'}")
    return time.perf_counter() - started


def measure(method: str, grid: str, trained: Path, work: Path, data: Path) -> dict:
    """Write, verify, decode and score, in `work`, the student that lies in `trained`.

    `gptq` takes the clips of the experiment around it.
    """
    form, grid = format_of(grid), grid.removesuffix("_ggml")
    model = work / f"model{form.suffix}"
    if method == "qat":
        export(trained, model, form.name)
        report = verify(model, trained)
    else:
        start = work / "start.pt"
        export(trained, start, "openai", floats=True)
        clips = trained.parent / "data/train" if method == "gptq" else None
        rounded = load(start) if grid == "none" else quantize(load(start), grid, clips)
        save(rounded, model, form.name)
        report = verify(model, rounded)
    parity = report.check().to_dict()
    decoded = model
    if form.name == "packed":
        decoded = work / "values"
        convert(model, decoded, "ct2", "none")
    runtime = guess_runtime(decoded)
    decode_folder(decoded, runtime, data, work / "decode")
    rates = score(data, work / "decode", work / "score", sclite.find())
    return {
        "runtime": runtime,
        "bytes_on_disk": bytes_on_disk(model),
        "tensors": parity["tensors"],
        "mismatched": parity["mismatched"],
        **{rate: rates[rate] for rate in MAIN_RATES},
        "utterances": sum(c["utterances"] for c in rates["counts"].values()),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure every grid in both ways; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", type=Path, required=True, help="with stages 1 to 7 done")
    parser.add_argument("--qat_config", type=Path, required=True, help="of the training on a grid")
    parser.add_argument("--seed", type=int, default=0, help="of the training on a grid (0)")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder that is scored")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and texts")
    parser.add_argument(
        "--grids", nargs="+", metavar="GRID|FILE.yaml", default=list(GRIDS),
        help=f"of {', '.join(GRIDS)} (all), or tables of `bin.allocate`, which are packed",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    for grid in args.grids:
        if grid not in GRIDS and isinstance(read_grid(grid), str):
            raise InputError(f"--grids {grid}: known are {', '.join(GRIDS)} and .yaml files")
    experiment, config = args.experiment.resolve(), args.qat_config.resolve()
    keys = ("experiment", "method", "grid", "qat_config", "seed")
    lines = Lines(args.out)
    done = lines.known(keys)
    for grid in args.grids:
        for method in METHODS if not grid.startswith("none") else ["ptq"]:
            qat = {}
            if method == "qat":
                settings = read_config(config)
                rate = read_section(settings, "optim_conf", config).get("lr")
                if rate is None:  # in the recipe the grid decides it
                    raise InputError(f"{config}: optim_conf.lr is needed")
                qat = {"qat_config": config.name, "lr": rate}
                qat |= {"seed": args.seed, "padding": format_of(grid).padding}
            name = Path(grid).name
            if (experiment.name, method, name, qat.get("qat_config"), qat.get("seed")) in done:
                continue
            work = args.work.resolve() / experiment.name / f"{method}_{Path(grid).stem}"
            trained = experiment / "kd"
            if qat:
                work = work / f"{config.stem}_{args.seed}"
                trained = work / "train"
                qat["train_seconds"] = round(train(experiment, grid, config, args.seed, trained))
            work.mkdir(parents=True, exist_ok=True)
            line = {"experiment": experiment.name, "method": method, "grid": name, **qat}
            line |= measure(method, grid, trained, work, args.data)
            print(json.dumps(lines.add(line)), flush=True)
    return 0


if __name__ == "__main__":
    run(main)
