"""How probable do students find what other people said? A measure to choose by, before decoding.

An error rate counts a few hundred words, of which two models share most, and one window in which
a model goes round in circles can decide it. The mean cross-entropy of the references' tokens has
neither fault, so it tells apart what a table of WER of the same speech cannot. It is no error rate:
what is chosen by it is decoded afterwards (`transfer.py`, which has the same options and draws the
same windows of the same seed).

Text without timestamps, language given, 30 s windows, float32; of a student on a grid, the values
on it. Differences are to the first model in the same windows, means over the columns "SET LANGUAGE"
of a kind; the interval is of 2000 draws of windows within each column.

    .venv/bin/python benchmarks/likelihood.py --work /tmp/transfer --out /tmp/likelihood.jsonl \\
        --models untouched=tiny.pt student=exp/mine/kd \\
        --seen prompts=dump/asterisk/raw/test --unseen stamps=data/parts/tuxpaint
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import date

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from whisper.model import Whisper

import espnet_dq as dq
from espnet_dq.bin.describe import commit
from espnet_dq.data.audio import load_audio
from espnet_dq.data.canary import NO_SPEECH, order
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.errors import run
from espnet_dq.quant.grids import get_grid
from espnet_dq.report.markdown import table
from espnet_dq.whisper.dims import encode_text, language_token, vocabulary_tokenizer
from espnet_dq.whisper.forward import decode_hidden, encode, log_mel, output_logits, own_window
from espnet_dq.whisper.sequences import build_sequences
from forgetting import named
from transfer import get_parser, make

DRAWS = 2000


@torch.inference_mode()
def costs(model: dq.Model, data: KaldiDir, name: str) -> dict[str, float]:
    """Mean cross-entropy of each utterance's tokens, the end of text included, in nats."""
    dims = model.dims
    net, tokenizer, found = Whisper(dims).eval(), vocabulary_tokenizer(dims), {}
    on_grid = {x: get_grid(q.grid).dequantize(q) for x, q in model.quantized.items()}
    net.load_state_dict(model.weights.state | on_grid)
    for utt in tqdm(sorted(data.wav), desc=name, unit="window"):
        audio = torch.from_numpy(load_audio(data.wav[utt]))[None]
        text = torch.tensor([encode_text(tokenizer, data.text[utt])])
        language = torch.tensor([language_token(tokenizer, data.utt2lang[utt])])
        seq = build_sequences(
            text, torch.tensor([text.shape[1]]), language, torch.tensor([-1]), tokenizer
        )
        mel = log_mel(audio, torch.tensor([audio.shape[1]]), dims.n_mels, own_window(dims))
        hidden = decode_hidden(net.decoder, seq.inputs, encode(net.encoder, mel))
        logits = output_logits(net.decoder, seq.select(hidden))[seq.counted]
        found[utt] = float(cross_entropy(logits, seq.targets[seq.counted]))
    return found


def compare(
    data: KaldiDir, ours: Mapping[str, float], first: Mapping[str, float], seed: int
) -> dict[str, dict[str, float]]:
    """Kind -> cost, difference to the first model's, and its interval (95 %)."""
    columns: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for utt in ours:
        column = f"{data.extra[SET][utt]} {data.utt2lang[utt]}"
        columns[data.extra[KIND][utt]][column].append(utt)
    found = {}
    for kind, of in sorted(columns.items(), key=lambda each: order(each[0])):
        random, costs, gains, drawn = np.random.default_rng(seed), {}, {}, []
        for column, utts in sorted(of.items()):
            gain = np.array([ours[u] - first[u] for u in utts])
            costs[column], gains[column] = float(np.mean([ours[u] for u in utts])), gain
            drawn.append(gain[random.integers(len(gain), size=(DRAWS, len(gain)))].mean(axis=1))
        low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
        found[kind] = {
            "cost": float(np.mean(list(costs.values()))),
            "more": float(np.mean([gain.mean() for gain in gains.values()])),
            "low": float(low), "high": float(high), "windows": sum(map(len, of.values())),
            "columns": {x: [costs[x], float(gains[x].mean())] for x in costs},
        }  # fmt: skip
    return found


def markdown(lines: list[dict]) -> str:
    """A row for each model, a column for each kind."""
    kinds = list(lines[0]["kinds"])
    rows = [["first"] + [f"{lines[0]['kinds'][k]['cost']:.3f} nats" for k in kinds]]
    rows += [
        [x["model"]] + [f"{v['more']:+.3f} ({v['low']:+.3f} to {v['high']:+.3f})"
                        for v in (x["kinds"][k] for k in kinds)]
        for x in lines[1:]
    ]  # fmt: skip
    return table(["more than the first", *kinds], rows)


def main(argv: list[str] | None = None) -> int:
    """Measure all models on all sets; returns 0."""
    args = get_parser(__doc__.splitlines()[0]).parse_args(argv)
    args.work = args.work.resolve()
    if args.threads:
        torch.set_num_threads(args.threads)
    _, data = make(args)
    data = data.select(u for u in data.wav if data.extra[KIND][u] != NO_SPEECH)
    sample, made_at, lines, first = data.fingerprint()[:12], commit(), [], None
    for name, path in named(args.models, "--models").items():
        ours = costs(dq.load(path), data, name)
        first = first or ours
        lines.append({
            "model": name, "sample": sample, "seed": args.seed, "words": args.words,
            "kinds": compare(data, ours, first, args.seed),
            "date": date.today().isoformat(), "commit": made_at,
        })  # fmt: skip
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    run(main)
