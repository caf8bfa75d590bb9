"""An exported file against the model that it was made from: its values, and what it says.

For each checkpoint and each grid, in each format that holds the grid: the file is written and
verified (values that differ, of how many tensors), and then every clip of --data is decoded in the
format's runtime and in torch with the same weights on the same grid, multiplied with what that
runtime rounds its activations to, in windows padded as that runtime does. `equal` is the share of
clips with one and the same text.

whisper.cpp is run twice: as it comes, and without flash attention (`whisper-cli -nfa`). That is its
default, and attends to 36 positions of zeros behind the window's 1500, as no other runtime does.

Rounding in a runtime amplifies the last bits of float sums, which no two programs share. What that
alone does is in `equal_itself`: the runtime against itself, with the audio louder by a millionth.
`firm` is the share of clips of which it says the same with the audio louder or fainter by one and
by two millionths, and `equal_firm` the share of these that torch says the same of, too.

One JSON line each, appended as soon as it is there; what is in --out is not done again. Without
--data only values are compared.

    .venv/bin/python benchmarks/parity.py --models weights/tiny.pt --data dump/asterisk/raw/test \\
        --work /tmp/parity --out benchmarks/results/parity.jsonl
"""

import argparse
import json
from pathlib import Path

import soundfile
import torch
import yaml

from espnet_dq.api.models import convert
from espnet_dq.api.verification import verify
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import read_scp, read_wav, write_scp
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import run
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.registry import FORMATS
from espnet_dq.runtimes.ggml import WhisperCpp
from espnet_dq.student.checkpoint import CHECKPOINT
from espnet_dq.whisper.dims import espnet_name
from espnet_dq.whisper.vocabulary import numbers
from lines import Lines

NO_FLASH = " -nfa"
# (grid, format, its runtime, what that multiplies the weights with). None: there is no other
# runtime than torch, values are compared only. In ONNX Runtime and transformers all is float32.
CASES = (
    ("none", "ct2", "faster-whisper", "none"),
    ("none", "hf", "transformers", "none"),
    ("none", "onnx", "onnx", "none"),
    ("none", "ggml", "whisper.cpp", "none"),
    ("ct2_int8", "ct2", "faster-whisper", "int8_per_token"),
    ("ct2_int8", "hf", "transformers", "none"),
    ("onnx_int8", "onnx", "onnx", "none"),
    *(
        (grid, "ggml", "whisper.cpp" + flash, "q8_0_blocks")
        for grid in ("ggml_q8_0", "ggml_q5_0", "ggml_q4_0")
        for flash in ("", NO_FLASH)
    ),
    *(
        (f"uniform{bits}{group}", "packed", None, "none")
        for bits in range(2, 9)
        for group in ("", "_tensor", "_g16")
    ),
    ("ggml_q4_0", "packed", None, "none"),
)
LOUDER = (1 + 1e-6, 1 - 1e-6, 1 + 2e-6, 1 - 2e-6)


def as_experiment(checkpoint: Path, grid: str, activations: str, padding: str, out: Path) -> Path:
    """A training folder with the checkpoint's weights, as a training on `grid` would leave it."""
    weights = openai.load(checkpoint)
    out.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(("encoder", "decoder", "model"), "dq_whisper")
    model = {"grid": "ct2_int8", "preset": "none"}
    if grid != "none":
        model = {"grid": grid, "preset": "full", "activations": activations}
    encoder = {"dims": numbers(weights.dims), "padding": padding}
    config = {**names, "encoder_conf": encoder, "model_conf": model}
    (out / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    state = {espnet_name(name): w.float() for name, w in weights.state.items()}
    torch.save(state, out / CHECKPOINT)
    return out


def louder(data: Path, factor: float, out: Path) -> Path:
    """A copy of a Kaldi folder with the samples times `factor`, in 32-bit floats."""
    wav = read_wav(data)
    for utt, path in wav.items():
        file = out / "wav" / f"{utt}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, load_audio(path) * factor, SAMPLE_RATE, subtype="FLOAT")
        wav[utt] = str(file)
    write_scp(out / "wav.scp", wav)
    write_scp(out / "utt2lang", read_scp(data / "utt2lang"))
    return out


def texts(model: Path, runtime: str, data: Path, out: Path) -> dict[str, str]:
    """What `model` says of each clip; decoded once."""
    if not (out / "decode.json").is_file():
        WhisperCpp.flash_attention = not runtime.endswith(NO_FLASH)
        decode_folder(model, runtime.removesuffix(NO_FLASH), data, out)
    return read_scp(out / "text", empty=True)


def equal(one: dict[str, str], other: dict[str, str]) -> float | None:
    """Share of clips with the same text, in percent; None of no clips."""
    if not one:
        return None
    return round(100 * sum(one[utt] == other[utt] for utt in one) / len(one), 2)


def compare(
    model: Path,
    grid: str,
    form: str,
    runtime: str | None,
    activations: str,
    work: Path,
    data: Path | None,
    loud: list[Path],
) -> dict:
    """One line's findings; without `runtime` only of values."""
    file = work / f"{grid}_{form}{FORMATS[form].suffix}"
    convert(model, file, form, grid)
    found = verify(file, model, grid).to_dict()
    line = {key: found[key] for key in ("tensors", "mismatched", "bytes_on_disk")}
    if runtime is None:
        return line
    padding = FORMATS[form].padding
    folder = work / f"torch_{grid}_{activations}_{padding}"
    exp = as_experiment(model, grid, activations, padding, folder)
    name = "_".join([grid, form, *(["nfa"] if runtime.endswith(NO_FLASH) else [])])
    seen = texts(file, runtime, data, work / f"texts_{name}")
    ours = texts(exp, "torch", data, exp / "texts")
    again = [texts(file, runtime, d, work / f"{d.name}_{name}") for d in loud]
    firm = {utt: seen[utt] for utt in seen if all(said[utt] == seen[utt] for said in again)}
    return line | {
        "activations": activations,
        "padding": padding,
        "utterances": len(seen),
        "equal": equal(seen, ours),
        "equal_itself": equal(seen, again[0]),
        "firm": round(100 * len(firm) / len(seen), 2),
        "equal_firm": equal(firm, ours),
        "different": {utt: [ours[utt], seen[utt]] for utt in seen if ours[utt] != seen[utt]},
    }


def main(argv: list[str] | None = None) -> int:
    """Compare what is not in --out yet; 1 if a value differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help=".pt checkpoints")
    parser.add_argument("--data", type=Path, help="Kaldi folder to decode")
    parser.add_argument("--grids", nargs="+", help="only these (all)")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and texts")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    keys = ("model", "grid", "format", "runtime", "data")
    lines = Lines(args.out)
    done, loud = lines.known(keys), []
    for number, factor in enumerate(LOUDER if args.data else ()):
        loud.append(louder(args.data, factor, args.work.resolve() / f"louder{number}"))
    differ = 0
    for model in args.models:
        work = args.work / model.stem
        work.mkdir(parents=True, exist_ok=True)
        for grid, form, runtime, activations in CASES:
            runtime = runtime if args.data else None
            about = {"model": model.stem, "grid": grid, "format": form, "runtime": runtime}
            about["data"] = args.data.name if runtime else None
            if tuple(about.values()) in done or (args.grids and grid not in args.grids):
                continue
            done.add(tuple(about.values()))
            line = about | compare(
                model, grid, form, runtime, activations, work, args.data, loud
            )  # fmt: skip
            line = lines.add(line)
            differ += line["mismatched"]
            line.pop("different", None)
            print(json.dumps(line), flush=True)
    return int(differ > 0)


if __name__ == "__main__":
    run(main)
