"""How much of what kd made goes into the start of the training on the grid (`run.sh --merge auto`).

Shares are tried on dev, which is mostly of the voices of the training, and on the clean windows
of the canary, of other people and other languages (`espnet_dq.data.canary`). The one is taken of
which the cross-entropies of dev and of the canary, the mean of its kinds, add up to the least: what
is gained on the user's own speech weighs as much as what is lost on that of others. It is half,
unless a neighbour of that is better by more than `MARGIN`, and on from there: the sum has one dip.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.canary import LANGUAGES, LONGEST, VOICES
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, sha256
from espnet_dq.formats import torch_file
from espnet_dq.scoring import likelihood
from espnet_dq.student.merge import mean
from espnet_dq.task.plan import AUTO
from espnet_dq.task.start import STUDENT, start_dims
from espnet_dq.whisper.dims import espnet_name, weight_shapes

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Nats a token. Of shares that are nearly as good the one that is nearer to half: training on the
# grid, which comes after it, goes on towards the speech of the training (docs/results.md).
MARGIN = 0.02
DEV = "dev"
TRIED = "merge.json"  # in the experiment: the `share`, and what was `tried`, nats of each kind


def choose(exp: Path, trained: Path) -> float:
    """The share of a training's result that dev and the canary like best.

    Args:
        exp: with data/dev, data/canary and what the training started from; `TRIED` is written
            there, and read where nothing of that has changed since.
        trained: checkpoint of the training.

    Raises:
        InputError: no canary, or a window that is longer than what the student hears at a time.
    """
    before = exp / "init" / STUDENT
    sets = _sets(exp)
    made_of = {"start": sha256(before), "trained": sha256(trained)}
    made_of |= {kind: data.fingerprint() for kind, data in sets.items()}
    note = exp / TRIED
    if note.is_file():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["made_of"] == made_of:
            return known["share"]
    dims = start_dims(exp / "init")
    states = [_weights(path, dims) for path in (before, trained)]
    tried: dict[float, dict[str, float]] = {}

    def together(place: int) -> float:
        share = SHARES[place]
        if share not in tried:
            tried[share] = _try(states, share, dims, sets)
        return _together(tried[share])

    best = SHARES[descend(together, len(SHARES))]
    with atomic(note) as tmp:
        kinds = {f"{share:g}": tried[share] for share in sorted(tried)}
        sums = {share: _together(of) for share, of in kinds.items()}
        found = {"share": best, "tried": kinds, "together": sums, "made_of": made_of}
        tmp.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return best


def check_hears(samples: int, student: str) -> None:
    """Raise `InputError` if a student's window is shorter than those of a canary."""
    if samples < LONGEST * SAMPLE_RATE:
        raise InputError(
            f"merge {AUTO}: a canary's windows are of {LONGEST:g} s, and {student} hears "
            f"{samples / SAMPLE_RATE:g} s: give a share"
        )


def descend(cost: Callable[[int], float], places: int) -> int:
    """Where a cost with one dip is least, of so many places, from the middle outwards.

    No neighbour of it is better by more than `MARGIN`.
    """
    here = places // 2
    while True:
        near = [place for place in (here + 1, here - 1) if 0 <= place < places]
        best = min(near, key=cost)
        if cost(best) >= cost(here) - MARGIN:
            return here
        here = best


def _together(kinds: Mapping[str, float]) -> float:
    """What is to be small: nats of dev, and the mean of those of the canary's kinds."""
    dev, *others = kinds.values()
    return dev + float(np.mean(others))


def _sets(exp: Path) -> dict[str, KaldiDir]:
    """Dev, and the kinds of the canary that the share is chosen by."""
    canary = exp / "data/canary"
    if not canary.is_dir():
        raise InputError(f"--merge {AUTO}: {canary}: no canary, by which the share is chosen")
    data = KaldiDir.load(canary, extra=[KIND, SET])
    sets = {DEV: KaldiDir.load(exp / "data/dev")}
    for kind in (VOICES, LANGUAGES):
        if of := [utt for utt in data.wav if data.extra[KIND][utt] == kind]:
            sets[kind] = data.select(of)
    if len(sets) == 1:
        raise InputError(f"--merge {AUTO}: {canary}: neither {VOICES} nor {LANGUAGES} in it")
    return sets


def _weights(path: Path, dims: ModelDimensions) -> dict[str, Tensor]:
    state = torch_file.tensors(torch_file.read(path), path)
    return {name: state[espnet_name(name)] for name in weight_shapes(dims)}


def _try(
    states: list[Mapping[str, Tensor]],
    share: float,
    dims: ModelDimensions,
    sets: Mapping[str, KaldiDir],
) -> dict[str, float]:
    """Of each kind the nats a token, as the mean of its columns: sets and languages."""
    net = Whisper(dims).eval()
    net.load_state_dict(mean(states, [1 - share, share]))
    found = {}
    for kind, data in sets.items():
        of = data.extra.get(SET, {})
        columns = {utt: f"{of.get(utt, kind)} {lang}" for utt, lang in data.utt2lang.items()}
        heard = likelihood.listen(net, dims, data, columns, f"{share:g} of kd, {kind}")
        found[kind] = float(np.mean([*likelihood.nats(heard).values()]))
    return found
