"""A start of fewer channels against its source, on clips that it was not fitted to.

Three starts of one size: `random`, as openai-whisper and torch initialise it, `first`, the first
channels, heads and units of the source, and `fitted`, `bin.make_student --width`. Of each the KL
divergence from the source in nats a token, the share of tokens whose likeliest one is the source's,
and, for `first` and `fitted`, how far the last block's output is off in encoder and decoder:
relative error over the channels kept, layer-normalised on both sides. One JSON line each.

    .venv/bin/python benchmarks/students.py --model weights/base.pt --width 384 \\
        --data dump/asterisk/raw/train --test dump/asterisk/raw/test
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import Whisper

from espnet_dq.data.prompted import PromptedClips
from espnet_dq.errors import run
from espnet_dq.formats.openai import read as openai
from espnet_dq.student.width import narrow
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.forward import decode_hidden, encode, output_logits
from espnet_dq.whisper.weights import ENCODER_POSITIONS, Weights

POSITIONS = {"encoder": ENCODER_POSITIONS, "decoder": "decoder.positional_embedding"}


def model(weights: Weights) -> Whisper:
    made = Whisper(weights.dims)
    made.load_state_dict(weights.state)
    return made.float().eval().requires_grad_(False)


def answers(whisper: Whisper, mel: Tensor, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities (T, V), and what the last blocks of encoder and decoder give, (T, D)."""
    states = {}
    handles = [
        getattr(whisper, side)
        .blocks[-1]
        .register_forward_hook(lambda _, __, output, side=side: states.update({side: output[0]}))
        for side in POSITIONS
    ]
    hidden = decode_hidden(whisper.decoder, tokens, encode(whisper.encoder, mel))
    for handle in handles:
        handle.remove()
    return output_logits(whisper.decoder, hidden)[0].log_softmax(-1), states


def kept(source: Weights, start: Weights, name: str) -> Tensor:
    """The source's channels that a start has: those with the same positional embedding."""
    old, new = source.state[name].float(), start.state[name].float()
    return torch.stack([(old == column[:, None]).all(0).nonzero()[0, 0] for column in new.T])


def measure(source: Weights, start: Weights | None, made: Whisper, clips: PromptedClips) -> dict:
    teacher = model(source)
    kl, same, count, squares = 0.0, 0, 0, {side: [0.0, 0.0] for side in POSITIONS}
    for mel, tokens in clips:
        (p, wanted), (q, found) = (answers(m, mel, tokens) for m in (teacher, made))
        kl += float((p.exp() * (p - q)).sum())
        same += int((p.argmax(1) == q.argmax(1)).sum())
        count += len(p)
        if start is not None:
            for side, name in POSITIONS.items():
                x, z = wanted[side][:, kept(source, start, name)], found[side]
                x, z = (F.layer_norm(y, y.shape[1:]) for y in (x, z))
                squares[side][0] += float((x - z).square().sum())
                squares[side][1] += float(x.square().sum())
    result = {"kl": round(kl / count, 3), "same_token": round(same / count, 3), "tokens": count}
    if start is not None:
        result |= {f"{side}_error": round((a / b) ** 0.5, 3) for side, (a, b) in squares.items()}
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="the source's .pt checkpoint")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder to fit on")
    parser.add_argument("--test", type=Path, required=True, help="Kaldi folder to measure on")
    parser.add_argument("--clips", type=int, default=64, help="clips to fit on (64)")
    parser.add_argument("--test_clips", type=int, default=16, help="clips to measure on (16)")
    args = parser.parse_args(argv)
    source = openai.load(args.model)
    clips = PromptedClips(args.data, args.clips, source.dims, 1.0)
    fitted = narrow(source, args.width, clips)
    first = {
        name: source.state[name][tuple(map(slice, shape))]
        for name, shape in weight_shapes(fitted.dims).items()
    }
    torch.manual_seed(0)
    random = Whisper(fitted.dims)
    torch.nn.init.normal_(random.decoder.positional_embedding, std=0.02)
    torch.nn.init.normal_(random.decoder.token_embedding.weight, std=0.02)
    starts = {"random": None, "first": Weights(fitted.dims, first), "fitted": fitted}
    test = PromptedClips(args.test, args.test_clips, source.dims, 1.0)
    about = {"model": args.model.stem, "width": args.width, "clips": len(clips)}
    for name, start in starts.items():
        made = random.eval().requires_grad_(False) if start is None else model(start)
        print(json.dumps(about | {"start": name} | measure(source, start, made, test)), flush=True)
    return 0


if __name__ == "__main__":
    run(main)
