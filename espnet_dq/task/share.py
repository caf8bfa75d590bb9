"""How much of what kd made goes into the start of the training on the grid (`run.sh --merge auto`).

Shares are tried on dev, which is mostly of the voices of the training, and on windows of other
people and other languages (`espnet_dq.data.canary.choice`). What is to be small is the sum of the
cross-entropies of dev and of the others, the mean of their kinds: what is gained on the user's own
speech weighs as much as what is lost on that of others. It begins at half and goes on to the next
share as long as that is better by more than `MARGIN`: the sum has one dip.
"""

import json
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path

import numpy as np
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from espnet_dq.data.canary import LANGUAGES, VOICES
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.errors import InputError, WorkError
from espnet_dq.files import atomic, sha256
from espnet_dq.reading import read_json
from espnet_dq.scoring import likelihood
from espnet_dq.student.merge import mean
from espnet_dq.task.plan import AUTO
from espnet_dq.task.start import STUDENT, espnet_shapes, read_checkpoint, start_dims
from espnet_dq.whisper.dims import espnet_name, weight_shapes

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_TRIED = 4  # of them: from the middle to an end, and its other neighbour
# Nats a token. Of shares that are nearly as good the one that is nearer to half: training on the
# grid, which comes after it, goes on towards the speech of the training (docs/results.md).
MARGIN = 0.02
DEV = "dev"
CHOICE = Path("data/choice")  # in the experiment: see `espnet_dq.data.canary.choice`
TRIED = "merge.json"  # in the experiment: the `share`, and what was `tried`, nats of each kind


def choose(exp: Path, trained: Path, padding: str) -> float:
    """The share of a training's result that dev and other people's speech like best.

    Args:
        exp: with data/dev, data/choice and what the training started from; `TRIED` is written
            there, and read where nothing of that has changed since.
        trained: checkpoint of the training.
        padding: of its windows, as in `espnet_dq.config.WindowConfig`.

    Raises:
        InputError: no `data/choice`, or a training of another student.
        WorkError: weights that give no numbers.
    """
    before = exp / "init" / STUDENT
    sets = _sets(exp)
    made_of = {"start": sha256(before), "trained": sha256(trained), "padding": padding}
    made_of |= {kind: data.fingerprint() for kind, data in sets.items()}
    note = exp / TRIED
    known = read_json(note) if note.is_file() else {}
    if known.get("made_of") == made_of and isinstance(known.get("share"), float):
        return known["share"]
    dims = start_dims(exp / "init")
    states = [_weights(path, dims) for path in (before, trained)]
    tried: dict[float, dict[str, float]] = {}

    def together(place: int) -> float:
        share = SHARES[place]
        if share not in tried:
            tried[share] = _try(states, share, dims, sets, padding)
        return _together(tried[share])

    best = SHARES[descend(together, len(SHARES))]
    with atomic(note) as tmp:
        kinds = {f"{share:g}": tried[share] for share in sorted(tried)}
        sums = {share: _together(of) for share, of in kinds.items()}
        found = {"share": best, "tried": kinds, "together": sums, "made_of": made_of}
        tmp.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return best


def descend(cost: Callable[[int], float], places: int) -> int:
    """Where a cost with one dip is least, of so many places, from the middle outwards.

    No neighbour of it is better by more than `MARGIN`.
    """
    here = places // 2
    while True:
        near = [place for place in (here + 1, here - 1) if 0 <= place < places]
        best = min(near, key=cost)
        if not cost(best) < cost(here) - MARGIN:
            return here
        here = best


def _together(kinds: Mapping[str, float]) -> float:
    """What is to be small: nats of dev, and the mean of those of the canary's kinds."""
    dev, *others = kinds.values()
    return dev + float(np.mean(others))


def _sets(exp: Path) -> dict[str, KaldiDir]:
    """Dev, and the kinds of other speech that the share is chosen by."""
    folder = exp / CHOICE
    if not folder.is_dir():
        raise InputError(f"--merge {AUTO}: {folder}: no such folder, by which the share is chosen")
    data = KaldiDir.load(folder, extra=[KIND, SET])
    kinds = {kind: [u for u in data.wav if data.extra[KIND][u] == kind]
             for kind in (VOICES, LANGUAGES)}  # fmt: skip
    others = {kind: data.select(utts) for kind, utts in kinds.items() if utts}
    return {DEV: KaldiDir.load(exp / "data/dev"), **others}


def _weights(path: Path, dims: ModelDimensions) -> dict[str, Tensor]:
    state = read_checkpoint(path, espnet_shapes(dims))
    return {name: state[espnet_name(name)] for name in weight_shapes(dims)}


def _try(
    states: list[Mapping[str, Tensor]],
    share: float,
    dims: ModelDimensions,
    sets: Mapping[str, KaldiDir],
    padding: str,
) -> dict[str, float]:
    """Of each kind the nats a token, as the mean of its columns: sets and languages."""
    net = Whisper(dims).eval()
    net.load_state_dict(mean(states, [1 - share, share]))
    found = {}
    for kind, data in sets.items():
        of = data.extra.get(SET, {})
        columns = {utt: f"{of.get(utt, kind)} {lang}" for utt, lang in data.utt2lang.items()}
        name = f"{share:g} of kd, {kind}"
        heard = likelihood.listen(net, dims, data, columns, name, padding)
        found[kind] = float(np.mean([*likelihood.nats(heard).values()]))
        if not isfinite(found[kind]):
            raise WorkError(f"{share:g} of kd: no number for {kind}: its training went astray")
    return found
