"""Measure the range of every linear layer's input on real clips, for `activations: int8_static`.

Example usage::

    python -Pm espnet_dq.bin.calibrate --model exp/student --data dump/raw/train --out ranges.json
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils import parametrize
from tqdm import tqdm
from whisper.model import Whisper

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import WindowConfig
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.data.prompted import PromptedClips
from espnet_dq.errors import run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.calibrate import Recorder, save_ranges
from espnet_dq.quant.prepare import candidates
from espnet_dq.student.checkpoint import check_written, load_student
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="checkpoint (.pt), or an experiment folder, its weights as they were trained",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="Kaldi folder; its texts are fed to the decoder"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of ranges (JSON)")
    parser.add_argument(
        "--clips", type=int, default=64, help="clips, spread evenly over the folder's names (64)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Calibrate; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    check_written(args.out, args.model, "*")
    check_apart(args.out, args.data, FOLDER.files)
    model, padding = _load(args.model)
    vocabulary_tokenizer(model.dims, args.model)
    clips = PromptedClips(args.data, args.clips, model.dims, "full", padding)
    with Recorder(model, candidates(model.dims)) as recorder:
        for mel, tokens in tqdm(clips, desc="calibrate", unit="clip"):
            with torch.no_grad(), parametrize.cached():
                decode_hidden(model.decoder, tokens, encode(model.encoder, mel))
    about = {"model": str(args.model), "data": str(args.data), "clips": len(clips)}
    save_ranges(args.out, recorder, about)
    for layer, top in recorder.tops.items():
        say(f"{layer}: {top:.4g}, in {recorder.rows[layer]} rows")
    say(args.out)
    return 0


def _load(path: Path) -> tuple[Whisper, str]:
    """What is measured, and what fills its windows: of an experiment what it was trained with."""
    if path.is_dir():
        # What is measured is what the inputs are before they are rounded.
        student = load_student(path)
        quant = replace(student.quant, activations="none", activation_ranges=None)
        return replace(student, quant=quant).prepared(), student.padding
    weights = openai.load(path)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    return model.requires_grad_(False).eval(), WindowConfig.padding


if __name__ == "__main__":
    run(main)
