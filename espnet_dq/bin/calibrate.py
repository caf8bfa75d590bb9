"""Measure the range of every linear layer's input on real clips, for `activations: int8_static`.

Example usage::

    python -m espnet_dq.bin.calibrate --model exp/student --data dump/raw/train --out ranges.json
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils import parametrize
from tqdm import tqdm
from whisper.audio import N_SAMPLES, SAMPLE_RATE
from whisper.model import Whisper

from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError, run
from espnet_dq.formats import openai
from espnet_dq.quant.calibrate import Recorder, save_ranges
from espnet_dq.quant.checkpoint import load_student
from espnet_dq.quant.prepare import candidates
from espnet_dq.whisper.dims import encode_text, language_token, vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel


def main(argv: list[str] | None = None) -> int:
    """Calibrate; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    parser.add_argument(
        "--percentile",
        type=float,
        default=100.0,
        help="of the magnitudes that the range of a layer holds; what is beyond is clipped (100)",
    )
    args = parser.parse_args(argv)
    if args.clips < 1:
        raise InputError(f"--clips {args.clips}: at least 1 is needed")

    model, data = _load(args.model), KaldiDir.load(args.data)
    names = sorted(data.wav)
    count = min(args.clips, len(names))
    names = [names[i * len(names) // count] for i in range(count)]
    with Recorder(model, candidates(model.dims), args.percentile) as recorder:
        for utt in tqdm(names, desc="calibrate", unit="clip"):
            _listen(model, data, utt)
    about = {"model": str(args.model), "data": str(args.data), "clips": count}
    save_ranges(args.out, recorder, about)
    for layer, end in recorder.ranges().items():
        top, rows = recorder.tops[layer], recorder.rows[layer]
        print(f"{layer}: {end:.4g}, largest {top:.4g}, in {rows} rows")
    print(args.out)
    return 0


def _load(path: Path) -> Whisper:
    if path.is_dir():
        # What is measured is what the inputs are before they are rounded.
        return replace(load_student(path), activations="none", activation_ranges=None).prepared()
    weights = openai.load(path)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    return model.requires_grad_(False).eval()


def _listen(model: Whisper, data: KaldiDir, utt: str) -> None:
    """One clip in its 30 s window, and its own text through the decoder."""
    tokenizer = vocabulary_tokenizer(model.dims)
    for table in ("text", "utt2lang"):
        if utt not in getattr(data, table):
            raise InputError(f"{utt} is in wav.scp, but not in {table}")
    speech = torch.from_numpy(load_audio(data.wav[utt]))[None]
    if speech.shape[1] > N_SAMPLES:
        raise InputError(f"{utt}: {speech.shape[1] / SAMPLE_RATE:.1f} s; Whisper hears 30 s")
    language = language_token(tokenizer, data.utt2lang[utt])
    prompt = [tokenizer.sot, language, tokenizer.transcribe, tokenizer.no_timestamps]
    tokens = torch.tensor([[*prompt, *encode_text(tokenizer, data.text[utt])]])
    mel = log_mel(speech, torch.tensor([speech.shape[1]]), model.dims.n_mels, N_SAMPLES)
    with torch.no_grad(), parametrize.cached():
        decode_hidden(model.decoder, tokens, encode(model.encoder, mel))


if __name__ == "__main__":
    run(main)
