"""Is a file what it was made from? Everything in it that decides the output, then what it computes.

First the file is compared, exactly, without running it: every tensor, every setting, every file
beside the weights. Only if nothing differs, the format's runtime gets it, and its logits through
all positions have to be those of torch on the grid, within what that runtime's own rounding makes
of audio that is louder by a millionth.
"""

from pathlib import Path

import numpy as np
import torch
from whisper.model import Whisper

from espnet_dq.errors import WorkError
from espnet_dq.formats import detect, logits
from espnet_dq.formats.format import Format
from espnet_dq.formats.logits import Probe
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.report import BESIDE, RUN, Reference, Report, Row, differing_values
from espnet_dq.reading import check_native
from espnet_dq.whisper.weights import all_finite

# Two runs of one arithmetic whose inputs differ in the last bit differ by the spread; two orders
# of summation do, too, but where one has its largest error the other need not have it.
SPREADS = 4


def verify(path: Path | str, reference: Reference) -> Report:
    """Compare an exported file or folder with its reference, then run it.

    Raises:
        InputError: no readable file.
        WorkError: it is another Whisper, or something is missing or unknown.
    """
    form = FORMATS[detect.detect(path)]
    if form.engine:
        check_native(path)
    report = compare(Path(path), reference)
    if report.mismatched:
        report.rows.append(Row("logits", (), "float32", 32, 0, RUN,
                               note="not run: the file is not what it should be"))  # fmt: skip
        return report
    if form.engine:
        probe = logits.make_probe(reference.dims)
        with torch.random.fork_rng(devices=[]):  # models begin at random, a training may go on
            for each in form.runs(Path(path)):
                found = logits.run(each, Path(path), probe)
                report.rows.append(judge(each, found, Path(path), probe))
    return report


def compare(path: Path, reference: Reference) -> Report:
    """Compare without running; raises as `verify`."""
    report = FORMATS[detect.detect(path)].compare(path, reference)
    _check_finite(reference)
    if not report.mismatched:
        report.rows.append(_loaded(path, reference))
    return report


def _check_finite(reference: Reference) -> None:
    """NaN equals NaN bit for bit, but is no weight."""
    for name, weight in reference.weights.items():
        if not all_finite(weight):
            raise WorkError(f"{name} of the reference is not finite")


def _loaded(path: Path, reference: Reference) -> Row:
    """The row of what our own loader makes of the file, from which it may be converted again."""
    weights = detect.load(path)
    if weights.dims != reference.dims:
        raise WorkError(f"{path}: loads as {weights.dims}, expected {reference.dims}")
    wrong = 0
    for name, found in weights.state.items():
        expected = reference.weights[name].detach().cpu().float().to(found.dtype)
        wrong += differing_values(found.numpy(), expected.numpy())
    return Row("as loaded", (len(weights.state),), "tensors", 32, 0, BESIDE, integers=wrong)


def judge(form: Format, found: np.ndarray | str, path: Path, probe: Probe) -> Row:
    """The row of a runtime's logits: positions whose logits are not those of torch.

    Args:
        form: the file's format.
        found: as `logits.run` returns them.
        path: the file, whose weights were compared before.
        probe: the audio and the texts.
    """
    name = f"logits in {form.engine}"
    if isinstance(found, str):
        return Row(name, (), "float32", 32, 0, RUN, integers=not found.startswith("not run"),
                   note=found)  # fmt: skip
    row = Row(name, found.shape[1:], "float32", 32, 0, RUN)
    weights = detect.load(path)
    model = Whisper(weights.dims).eval()
    model.load_state_dict({n: t.float() for n, t in weights.state.items()})
    expected = logits.of_model(model, probe, probe.mels)
    if found.shape != expected.shape:
        row.integers, row.note = expected[0, ..., 0].size, f"are {found.shape[1:]}"
        return row
    spread = max(_worst(found[1], found[0]), _worst(expected[1], expected[0]))
    if rounded := form.rounded(path, model):
        with rounded:
            rough = logits.of_model(model, probe, probe.mels[:1])
        spread = max(spread, _worst(rough[0], expected[0]))
    distance = _rows(found[0], expected[0])
    row.integers = int(np.count_nonzero(~(distance <= SPREADS * spread)))
    row.note = (
        f"RMS over the vocabulary, at the worst of {distance.size} positions: {distance.max():.2g} "
        f"from torch, {spread:.2g} from itself when rounded otherwise"
    )
    return row


def _rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference of the logits at each position."""
    return np.sqrt(np.square(one - other, dtype=np.float64).mean(axis=-1))


def _worst(one: np.ndarray, other: np.ndarray) -> float:
    return float(_rows(one, other).max())
