"""What is lost when one weight of a Whisper alone is put on a grid, of each weight and grid."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from espnet_dq.data.kaldi import FOLDER, KaldiDir
from espnet_dq.data.languages import codes
from espnet_dq.data.prompted import read_speech, read_text
from espnet_dq.errors import InputError, named
from espnet_dq.files import check_apart, check_replaceable, write_text
from espnet_dq.formats import detect
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import candidates
from espnet_dq.quant.sensitivity import Loss, Probe, Utterance
from espnet_dq.student.checkpoint import check_written, load_student, training_folder
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.weights import Weights

GRIDS = ("uniform8", "uniform6", "ggml_q5_0", "uniform5", "ggml_q4_0", "uniform4", "uniform3")
CLIPS = 16


def measure(
    model: Path, folder: Path, table: Path, grids: Sequence[str] = GRIDS, clips: int = CLIPS
) -> list[Loss]:
    """Measure what is not in the table yet, which grows by a line each.

    Args:
        model: File or folder of any format, or an experiment.
        folder: A Kaldi folder with texts.
        table: JSON lines: the settings, then each `Loss`.
        grids: What is tried.
        clips: How many utterances are heard, chosen by the hashes of their names.

    Returns:
        All of the table.

    Raises:
        InputError: An unknown grid, a model or data that cannot be read, or a table of others.
    """
    check_replaceable(table)
    check_written(table, model)
    check_apart(table, folder, FOLDER.files)
    for grid in grids:
        get_grid(grid)
    weights, data = _weights(model), _chosen(folder, clips)
    vocabulary_tokenizer(weights.dims, model)  # which names the file of an unknown one
    dims = weights.dims
    with named(folder):
        utterances = {
            utt: Utterance(read_speech(data, utt, dims), *read_text(data, utt, dims))
            for utt in data.wav
        }
    names = candidates(dims)
    settings = {
        "model": str(model),
        "crc32": _crc_of_weights(weights),
        "data": str(folder),
        "heard": _crc(data, utterances),
        "utterances": sorted(utterances),
        "candidates": names,
        "rest_bytes": sum(2 * t.numel() for n, t in weights.state.items() if n not in names),
        "tensors": len(weights.state),
    }
    rows = _rows(table, settings)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        probe = Probe(weights, utterances.values())
        todo = [p for p in probe.pairs(grids) if p not in {(r.name, r.grid) for r in rows}]
        with open(table, "a", encoding="utf-8") as out:
            for name, grid in tqdm(todo, desc="sensitivity", unit="weight"):
                rows.append(probe.loss(name, grid))
                out.write(json.dumps(asdict(rows[-1])) + "\n")
                out.flush()
            # Last, so that `allocate` knows a finished table: any weight may stay in float16.
            known = {r.name for r in rows if r.grid == "none"}
            for name in (n for n in names if n not in known):
                kept = Loss(name, "none", 2 * weights.state[name].numel(), 0.0, 0.0)
                out.write(json.dumps(asdict(kept)) + "\n")
    return rows


def _weights(path: Path) -> Weights:
    try:
        training_folder(path)
    except InputError:
        return detect.load(path)
    return load_student(path).weights


def _crc_of_weights(weights: Weights) -> int:
    crc = 0
    for name in sorted(weights.state):
        crc = zlib.crc32(weights.state[name].contiguous().numpy().tobytes(), crc)
    return crc


def _crc(data: KaldiDir, utterances: Mapping[str, Utterance]) -> int:
    """Of what is heard, and of what is said in which language."""
    crc = 0
    for name, heard in sorted(utterances.items()):
        said = [name, data.text[name], data.utt2lang[name]]
        crc = zlib.crc32(json.dumps(said).encode(), crc)
        crc = zlib.crc32(heard.speech.contiguous().numpy().tobytes(), crc)
    return crc


def _chosen(folder: Path, most: int) -> KaldiDir:
    """`most` utterances, chosen by the hash of their names."""
    data = KaldiDir.load(folder)
    names = sorted(data.wav, key=lambda utt: zlib.crc32(utt.encode()))[:most]
    if not names:
        raise InputError(f"{folder}: no utterances")
    data.utt2lang = codes(data.utt2lang, folder / "utt2lang")
    return data.select(names)


def _rows(path: Path, settings: dict) -> list[Loss]:
    """What was measured before; starts the file if there is none. The last line may be torn."""
    if not path.is_file():
        write_text(path, json.dumps(settings) + "\n")
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: is no table of sensitivity: give another path") from e
    if not lines or lines[0] != json.dumps(settings) + "\n":
        raise InputError(f"{path}: measured with another model or other data; remove it")
    if not lines[-1].endswith("\n"):
        lines.pop()
        write_text(path, "".join(lines))
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            rows.append(Loss.parse(line))
        except ValueError as e:
            raise InputError(f"{path}:{number}: damaged: remove the table, or this line") from e
    return rows
