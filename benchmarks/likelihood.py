"""How probable do students find what other people said? A measure to choose by, before decoding.

It tells apart what a table of WER of the same speech cannot, and is no error rate
(`espnet_dq.scoring.likelihood`): what is chosen by it is decoded afterwards (`transfer.py`, which
has the same options and draws the same windows of the same seed).

Of a student on a grid, the values on it are heard. Differences are nats a token more than the
first model's in the same windows, means over the columns "SET LANGUAGE" of a kind, with the
intervals of the recipe's reports (`espnet_dq.scoring.bootstrap`). Models are of one vocabulary.

    .venv/bin/python benchmarks/likelihood.py --work /tmp/transfer --out /tmp/likelihood.jsonl \\
        --models untouched=tiny.pt student=exp/mine/kd \\
        --seen prompts=dump/asterisk/raw/test --unseen stamps=data/parts/tuxpaint
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from whisper.model import Whisper

import espnet_dq as dq
from espnet_dq.data.canary import NO_SPEECH, order
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.errors import InputError, run
from espnet_dq.quant.grids import get_grid
from espnet_dq.report.markdown import table
from espnet_dq.scoring import likelihood
from espnet_dq.scoring.bootstrap import differences
from espnet_dq.scoring.likelihood import Likelihood
from espnet_dq.scoring.score import MEAN
from forgetting import mark
from lines import Lines
from named import named
from transfer import get_parser, make


def listen(model: dq.Model, data: KaldiDir, name: str) -> dict[str, Likelihood]:
    """See `likelihood.listen`; columns are "SET LANGUAGE"."""
    net = Whisper(model.dims).eval()
    on_grid = {x: get_grid(q.grid).dequantize(q) for x, q in model.quantized.items()}
    net.load_state_dict(model.weights.state | on_grid)
    columns = {utt: f"{data.extra[SET][utt]} {data.utt2lang[utt]}" for utt in data.wav}
    return likelihood.listen(net, model.dims, data, columns, name)


def compare(
    data: KaldiDir, ours: Mapping[str, Likelihood], first: Mapping[str, Likelihood], seed: int
) -> dict[str, dict[str, dict]]:
    """Kind -> mean, then each "SET LANGUAGE" -> how a model does.

    Of each: nats, a token's; more, than the first model's; low, high (95 %) and what was drawn for
    these; and whether that is enough of them to say anything.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for utt in ours:
        kinds[data.extra[KIND][utt]].append(utt)
    found = {}
    for kind, utts in sorted(kinds.items(), key=lambda each: order(each[0])):
        sides = [{u: of[u] for u in utts} for of in (ours, first)]
        nats = likelihood.nats(sides[0])
        nats = {MEAN: float(np.mean([*nats.values()])), **nats}
        found[kind] = {
            column: {
                "nats": nats[column], "more": of.points / 100, "low": of.low / 100,
                "high": of.high / 100, "over": of.over, "enough": of.enough,
            }
            for column, of in differences(*sides, data.utt2spk, seed=seed).items()
        }  # fmt: skip
    return found


def markdown(lines: list[dict]) -> str:
    """A row for each model, a column for each kind."""
    kinds = list(lines[0]["kinds"])
    head = [f"{lines[0]['kinds'][k][MEAN]['nats']:.3f} nats" for k in kinds]
    rows = [[lines[0]["model"], *head]]
    for line in lines[1:]:
        means = [line["kinds"][k][MEAN] for k in kinds]
        rows.append([
            line["model"],
            *(f"{x['more']:+.3f} ({x['low']:+.3f} to {x['high']:+.3f})" for x in means),
        ])  # fmt: skip
    return table(["more than the first", *kinds], rows)


def main(argv: list[str] | None = None) -> int:
    """Measure all models on all sets; returns 0."""
    args = get_parser(__doc__.splitlines()[0]).parse_args(argv)
    args.work = args.work.resolve()
    if args.threads:
        torch.set_num_threads(args.threads)
    _, data = make(args)
    sample, results, lines, first = data.fingerprint()[:12], Lines(args.out), [], None
    data = data.select(u for u in data.wav if data.extra[KIND][u] != NO_SPEECH)
    paths = named(args.models, "--models")
    models = {name: dq.load(path) for name, path in paths.items()}
    vocabularies = {
        (m.dims.n_vocab, getattr(m.dims, "kept", ()), getattr(m.dims, "added", ()))
        for m in models.values()
    }
    if len(vocabularies) > 1:
        raise InputError("--models: of several vocabularies, whose tokens cannot be compared")
    for name, model in models.items():
        ours = listen(model, data, name)
        first = first or ours
        lines.append(results.add({
            "model": name, "weights": mark(paths[name]), "sample": sample, "seed": args.seed,
            "words": args.words,
            "kinds": compare(data, ours, first, args.seed),
        }))  # fmt: skip
    print(markdown(lines))
    return 0


if __name__ == "__main__":
    run(main)
