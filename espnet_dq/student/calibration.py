"""The range of every linear layer's input on real clips, for `activations: int8_static`."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils import parametrize
from tqdm import tqdm
from whisper.model import Whisper

from espnet_dq.config import WindowConfig
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.data.prompted import PromptedClips
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.formats.openai import read as openai
from espnet_dq.quant.calibrate import Recorder, save_ranges
from espnet_dq.quant.prepare import candidates
from espnet_dq.student.checkpoint import check_written, load_student
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode

CLIPS = 64


def calibrate(source: Path, data: Path, out: Path, clips: int = CLIPS) -> Recorder:
    """Measure, and write the file of ranges (JSON).

    Args:
        source: A checkpoint (`.pt`), or an experiment's folder, its weights as they were trained.
        data: A Kaldi folder; its texts are fed to the decoder.
        out: The file.
        clips: How many are heard, spread evenly over the folder's names.

    Returns:
        What was measured: each layer's range and rows.

    Raises:
        InputError: What cannot be read, or may not be written.
    """
    check_replaceable(out)
    check_written(out, source, "*")
    check_apart(out, data, FOLDER.files)
    model, padding = _load(source)
    vocabulary_tokenizer(model.dims, source)
    heard = PromptedClips(data, clips, model.dims, "full", padding)
    with Recorder(model, candidates(model.dims)) as recorder:
        for mel, tokens in tqdm(heard, desc="calibrate", unit="clip"):
            with torch.no_grad(), parametrize.cached():
                decode_hidden(model.decoder, tokens, encode(model.encoder, mel))
    save_ranges(out, recorder, {"model": str(source), "data": str(data), "clips": len(heard)})
    return recorder


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
