"""A distillation step beside the same step written otherwise: as published, and in transformers.

`published`: the part after the encoders as DQ-Whisper's public code does it: each decoder runs once
for the logits of all positions and once more for the hidden states, and every pair of layers is
projected and compared by a call of its own. Ours and theirs get the same encoder outputs; or both
run the encoders, too, in 30 s windows (`whole step`).
`transformers`: the whole step with `WhisperForConditionalGeneration`, hidden states of evenly
spaced layers, in the 30 s windows that it insists on; ours in windows as long as the speech, and
in 30 s.

tiny with base as its teacher, one process, rounds interleaved; a ratio is their time over ours in
the same round.

    .venv/bin/python benchmarks/step_against.py --weights egs2/dq_whisper/asr1/downloads/weights \\
        --rounds 10 --out benchmarks/results/step_against.json
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F

from espnet_dq.api.models import convert
from espnet_dq.distill.matching import spaced
from espnet_dq.errors import run
from espnet_dq.files import write_text
from espnet_dq.recipe.description import commit
from espnet_dq.task.plugin import register
from espnet_dq.whisper.forward import log_mel
from espnet_dq.whisper.sequences import build_sequences
from espnet_dq.whisper.taps import Taps
from step_cost import build, make_batch, step, warm_up

ALPHA, LAMBDA = 0.5, 1.0


def sequences(model, batch: dict):
    """The batch's token sequences, without timestamps."""
    end = torch.full((len(batch["utt_id"]),), -1)
    language = batch["lang"][:, 0]
    return build_sequences(batch["text"], batch["text_lengths"], language, end, model.tokenizer)


def published(model, optimizer, batch: dict, audio: torch.Tensor, heard: torch.Tensor) -> float:
    """Seconds of one step after the encoders, in the published way.

    `audio` and `heard` are the encoder outputs of student and teacher.
    """
    start = time.perf_counter()
    seq = sequences(model, batch)
    student, teacher = model.decoder.net, model.teacher.model().decoder
    rows, columns = seq.rows[seq.counted], seq.columns[seq.counted]
    logits = student(seq.inputs, audio)[rows, columns]
    with Taps(student, "block") as ours:
        student(seq.inputs, audio)
    with torch.no_grad():
        answers = teacher(seq.inputs, heard)[rows, columns]
        with Taps(teacher, "block") as theirs:
            teacher(seq.inputs, heard)
    loss_ce = F.cross_entropy(logits, seq.targets[seq.counted])
    loss_kl = F.kl_div(
        logits.log_softmax(-1), answers.log_softmax(-1), reduction="batchmean", log_target=True
    )
    total, first = 0.0, 0
    for state in ours.states:
        s = state[rows, columns]
        losses = []
        for other in theirs.states[first:]:
            t = model.projector(other[rows, columns])
            losses.append(F.mse_loss(F.layer_norm(s, s.shape[-1:]), F.layer_norm(t, t.shape[-1:])))
        best = min(range(len(losses)), key=lambda j: losses[j].item())
        first += best
        total = total + losses[best]
    hidden = total / len(ours.states)
    loss = (1 - ALPHA) * loss_ce + ALPHA * (loss_kl + LAMBDA * hidden)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


class Transformers:
    """The whole step with transformers' own model."""

    def __init__(self, weights: Path):
        from transformers import WhisperForConditionalGeneration

        models = []
        with tempfile.TemporaryDirectory() as scratch:
            for name in ("tiny", "base"):
                out = Path(scratch) / name
                convert(weights / f"{name}.pt", out, "hf")
                models.append(WhisperForConditionalGeneration.from_pretrained(out).float())
        self.student, self.teacher = models
        self.student.train()
        self.teacher.eval().requires_grad_(False)
        widths = [m.config.d_model for m in (self.teacher, self.student)]
        self.projector = torch.nn.Linear(*widths, bias=False)
        self.pairs = spaced(*(m.config.decoder_layers for m in models))
        learned = [*self.student.parameters(), *self.projector.parameters()]
        self.optimizer = torch.optim.AdamW(learned, lr=1e-6)

    def step(self, model, batch: dict) -> float:
        """Seconds of one step; `model` gives the batch's sequences only."""
        start = time.perf_counter()
        seq = sequences(model, batch)
        mel = log_mel(batch["speech"], batch["speech_lengths"], 80, 480000)
        inputs = {"decoder_input_ids": seq.inputs, "output_hidden_states": True}
        found = self.student(input_features=mel, **inputs)
        with torch.no_grad():
            answers = self.teacher(input_features=mel, **inputs)
        rows, columns = seq.rows[seq.counted], seq.columns[seq.counted]
        logits = found.logits[rows, columns]
        loss_ce = F.cross_entropy(logits, seq.targets[seq.counted])
        loss_kl = F.kl_div(
            logits.log_softmax(-1),
            answers.logits[rows, columns].log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
        hidden = 0.0
        for i, j in enumerate(self.pairs):
            s = found.decoder_hidden_states[i + 1][rows, columns]
            t = self.projector(answers.decoder_hidden_states[j + 1][rows, columns])
            hidden += F.mse_loss(F.layer_norm(s, s.shape[-1:]), F.layer_norm(t, t.shape[-1:]))
        loss = (1 - ALPHA) * loss_ce + ALPHA * (loss_kl + LAMBDA * hidden / len(self.pairs))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start


def compare(ours: Callable[[], float], theirs: Callable[[], float], rounds: int, name: str) -> dict:
    """Medians and ratios of interleaved rounds, after one that is not counted."""
    pairs = []
    for number in range(rounds + 1):
        pairs.append((ours(), theirs()))
        print(f"{name} round {number}/{rounds}", flush=True)
    ratios = [b / a for a, b in pairs[1:]]
    return {
        "ours_seconds": statistics.median(a for a, _ in pairs[1:]),
        "theirs_seconds": statistics.median(b for _, b in pairs[1:]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def against_published(weights: Path, batch: dict, rounds: int, encoders: bool) -> dict:
    """`published` against our step: the same encoder outputs given, or `encoders` run by both."""
    conf = {"matching": "dynamic_monotonic", "alpha": ALPHA, "lambda_hidden": LAMBDA}
    model, optimizer = build(weights, frozen=not encoders, preset="none", **conf)

    def hear() -> tuple[torch.Tensor, torch.Tensor]:
        audio, _ = model.encode(batch["speech"], batch["speech_lengths"])
        heard, _ = model.teacher.hear(batch["speech"], batch["speech_lengths"], 480000)
        return audio, heard

    def theirs() -> float:
        start = time.perf_counter()
        audio, heard = hear() if encoders else outputs
        return time.perf_counter() - start + published(model, optimizer, batch, audio, heard)

    given = batch
    if not encoders:
        with torch.no_grad():
            outputs = hear()
        model.teacher.hear = lambda *_: (outputs[1], [])
        given = {**batch, "encoder_out": outputs[0]}
    warm_up(model, optimizer, given)
    name = "published, whole step" if encoders else "published"
    return compare(lambda: step(model, optimizer, given), theirs, rounds, name)


def whole(weights: Path, batch: dict, rounds: int, window: str) -> dict:
    """transformers against our whole step in windows of one kind."""
    model, optimizer = build(
        weights,
        frozen=False,
        preset="none",
        matching="static",
        alpha=ALPHA,
        lambda_hidden=LAMBDA,
        teacher_window="student",
    )
    model.encoder.window = window
    warm_up(model, optimizer, batch)
    other = Transformers(weights)
    return compare(
        lambda: step(model, optimizer, batch),
        lambda: other.step(model, batch),
        rounds,
        f"transformers, {window}",
    )


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="folder of tiny.pt, base.pt")
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (10)")
    parser.add_argument("--batch", type=int, default=4, help="utterances a batch (4)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    register()
    short, long = make_batch(args.batch, 5, 20), make_batch(args.batch, 29, 120)
    result = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "batch": args.batch,
        "published, 29 s, 120 tokens, after the encoders": against_published(
            args.weights, long, args.rounds, encoders=False
        ),
        "published, 29 s, 120 tokens, whole step": against_published(
            args.weights, long, args.rounds, encoders=True
        ),
        "transformers, 5 s, 20 tokens, our window the speech": whole(
            args.weights, short, args.rounds, "batch"
        ),
        "transformers, 5 s, 20 tokens, 30 s windows": whole(
            args.weights, short, args.rounds, "full"
        ),
        "transformers, 29 s, 120 tokens, 30 s windows": whole(
            args.weights, long, args.rounds, "full"
        ),
    }
    for name, row in result.items():
        if isinstance(row, dict):
            print(
                f"{name}: ours {row['ours_seconds']:.3f} s, theirs {row['theirs_seconds']:.3f} s, "
                f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            )
    if args.out:
        write_text(args.out, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
