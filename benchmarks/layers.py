"""Which teacher layers are like which student layers, and what a projector's start makes of that.

    .venv/bin/python benchmarks/layers.py --student tiny.pt --teacher base.pt --data WINDOWS

Untouched models read the texts of so many windows. For each tap: linear CKA of all pairs of decoder
layers, and what each way of matching chooses by it; then a projector is fitted on evenly spaced
pairs, on all pairs alike, and on those of CKA, and each way chooses by the distances that it makes
on the other half of the windows.
"""

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from whisper import load_model
from whisper.tokenizer import get_tokenizer

from espnet_dq.config import TAPS
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.distill.losses import pair_sums, prepare_features
from espnet_dq.distill.matching import match, spaced
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.similarity import linear_cka
from espnet_dq.errors import run
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.forward import log_mel, window_samples
from espnet_dq.whisper.taps import Taps
from lines import Lines

RESULTS = Path(__file__).with_name("results") / "layers.jsonl"
WAYS = ("dynamic", "dynamic_monotonic", "optimal_monotonic")
WINDOWS = 32
PROMPT = 3  # tokens before the text, less the one that predicts its first


def states(model, audio: Tensor, tokens: list[int], tap: str) -> Tensor:
    """Hidden states [layers, positions, width] at the text's positions."""
    with Taps(model.decoder, tap) as taps:
        model.decoder(torch.tensor([tokens]), audio)
    return torch.stack(taps.states)[:, 0, PROMPT:]


@torch.inference_mode()
def read(models: list, data: KaldiDir, utts: list[str]) -> dict[str, list[Tensor]]:
    """tap -> [student's, teacher's] states over all windows."""
    found: dict[str, list[list[Tensor]]] = {tap: [[], []] for tap in TAPS}
    for utt in tqdm(utts, desc="layers", unit="window"):
        clip = torch.from_numpy(load_audio(data.wav[utt]))[None]
        length = torch.tensor([clip.shape[1]])
        tokenizer = get_tokenizer(True, language=data.utt2lang[utt], task="transcribe")
        text = encode_text(tokenizer, data.text[utt], data.utt2lang[utt])
        tokens = [*tokenizer.sot_sequence_including_notimestamps, *text]
        for side, model in enumerate(models):
            mel = log_mel(clip, length, model.dims.n_mels, window_samples(0, "full"))
            audio = model.encoder(mel)
            for tap in TAPS:
                found[tap][side].append(states(model, audio, tokens, tap))
    return {tap: [torch.cat(x, dim=1) for x in sides] for tap, sides in found.items()}


def choices(distances: Tensor) -> dict[str, list[int]]:
    """What each way of matching chooses."""
    return {way: match(way, distances[None])[0].tolist() for way in WAYS}


def after_fit(student: Tensor, teacher: Tensor, pairs: list[tuple[int, int]]) -> dict:
    """What is chosen by a projector that was fitted on these pairs, of the half it did not see."""
    half = student.shape[1] // 2
    projector = Projector(teacher.shape[-1], student.shape[-1])
    ours, theirs = (list(x) for x in zip(*pairs, strict=True))
    projector.fit(teacher[theirs, :half], F.layer_norm(student, student.shape[-1:])[ours, :half])
    with torch.no_grad():
        mapped = prepare_features(projector(teacher[:, half:]), "mse")
    seen = prepare_features(student[:, half:], "mse")
    group = torch.zeros(seen.shape[1], dtype=torch.long)
    return choices(pair_sums(seen, mapped, group, 1)[0])


def main(argv: list[str] | None = None) -> int:
    """Print and append a line for each tap; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", type=Path, required=True, help="openai-whisper .pt")
    parser.add_argument("--teacher", type=Path, required=True, help="openai-whisper .pt")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder")
    parser.add_argument("--seed", type=int, default=0, help="which windows (0)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON lines, added to")
    args = parser.parse_args(argv)
    models = [load_model(str(path), device="cpu") for path in (args.student, args.teacher)]
    data = KaldiDir.load(args.data)
    utts = random.Random(args.seed).sample(sorted(data.wav), WINDOWS)
    lines = Lines(args.out)
    for tap, (student, teacher) in read(models, data, utts).items():
        cka = linear_cka(student, teacher)
        by_cka = choices(1 - cka)
        even = spaced(len(student), len(teacher))
        every = [(i, j) for i in range(len(student)) for j in range(len(teacher))]
        line = {
            "student": args.student.stem, "teacher": args.teacher.stem, "tap": tap,
            "windows": WINDOWS, "seed": args.seed, "positions": student.shape[1],
            "cka": [[round(x, 3) for x in row] for row in cka.tolist()],
            "static": even, "by_cka": by_cka,
            "fitted_on_even": after_fit(student, teacher, list(enumerate(even))),
            "fitted_on_all": after_fit(student, teacher, every),
            "fitted_on_cka": after_fit(student, teacher, list(enumerate(by_cka["dynamic"]))),
        }  # fmt: skip
        print(json.dumps(lines.add(line), indent=1))
    return 0


if __name__ == "__main__":
    run(main)
