"""Run the script of each corpus on a small one with all that can be wrong in it, and count.

    .venv/bin/python -m benchmarks.faults.corpora

The corpora are those of the tests (`tests/data/small_corpora.py`), their audio two seconds
of noise. A try is ok when the script ends without an error, its folders are fit for use, and every
entry of the corpus was taken or counted under a cause. A line for each corpus goes to
results.jsonl; it takes the place of that of an earlier run.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np

from benchmarks.faults.results import RESULTS, put, result
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import read_scp
from espnet_dq.data.validation import faults
from local import (
    aishell,
    asterisk,
    common_voice,
    festvox_ru,
    fillets,
    fleurs,
    hf_dataset,
    kaldi_dir,
    lhotse_cuts,
    librispeech,
    mls,
    speechocean762,
    voxpopuli,
)
from tests.data import small_corpora as small

COMMAND = "python -m benchmarks.faults.corpora"


@dataclass(frozen=True)
class Corpus:
    """A corpus: what is wrong in the small one, how it is made, and the script that reads it."""

    awkward: str
    build: Callable[[Path, Path], int]
    script: ModuleType
    options: tuple[str, ...] = ()
    part: str = ""  # of a Debian package: the folder under parts/ where its script leaves it


COLUMNS = ("--text_column", "sentence", "--language_column", "language")
CORPORA = {
    "Asterisk": Corpus(
        "empty and non-speech texts, two texts of a clip, two texts in one line, texts that do not "
        "fit, no clip, no text, an empty file",
        small.asterisk, asterisk, part="asterisk",
    ),
    "festvox-ru": Corpus(
        "no clip, no text, a file that is no audio", small.festvox_ru, festvox_ru, part="festvox_ru"
    ),
    "Fish Fillets": Corpus(
        "no clip, no text, two texts of a clip", small.fillets, fillets, part="fillets"
    ),
    "Common Voice": Corpus(
        "an unknown language, broken, empty and non-speech rows, paths that lead out or end in a "
        "pipe, no clip, an empty one, one id twice, BOM, CR LF",
        small.common_voice, common_voice,
    ),
    "FLEURS": Corpus(
        "packed audio with members that lead out, an unknown language, paths that lead out, "
        "no clip",
        small.fleurs, fleurs,
    ),
    "MLS": Corpus("flac and opus, ids that lead out, no clip", small.mls, mls),
    "LibriSpeech": Corpus("two parts of train, no clip, no text", small.librispeech, librispeech),
    "AISHELL-1": Corpus("no clip, no text, a line of nothing", small.aishell, aishell),
    "speechocean762": Corpus(
        "no path, a path out, no clip", small.speechocean762, speechocean762
    ),
    "VoxPopuli": Corpus(
        "no raw text, ids that lead out, an accent that was not asked for",
        small.voxpopuli, voxpopuli,
    ),
    "Kaldi folders": Corpus("paths with spaces, an empty file", small.kaldi, kaldi_dir),
    "Kaldi folders as for CSJ": Corpus(
        "segments of commands' output, channels, other files, no utt2lang",
        small.csj, kaldi_dir, ("--language", "ja", "--allow_pipes"),
    ),
    "lhotse cuts": Corpus(
        "several supervisions and channels in a cut, mixed, padded and transformed cuts, audio in "
        "memory, times outside, an unknown language, one id twice",
        small.lhotse_cuts, lhotse_cuts,
    ),
    "Hugging Face, parquet": Corpus(
        "no audio, paths that lead out, bytes that are none, no text, no and unknown languages",
        small.hf_dataset, hf_dataset, COLUMNS,
    ),
    "Hugging Face, save_to_disk": Corpus(
        "the same",
        lambda root, clip: small.hf_dataset(root, clip, small.saved), hf_dataset, COLUMNS,
    ),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run all; 0 if all are ok."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.faults.corpora", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    found = []
    for name, corpus in CORPORA.items():
        with TemporaryDirectory() as scratch:
            found.append(line(name, corpus, Path(scratch)))
        print(f"{name}: {found[-1]['happened']}")
    put(args.out, COMMAND, found)
    return int(any(x["ok"] < x["tries"] for x in found))


def line(name: str, corpus: Corpus, scratch: Path) -> dict:
    """The result of one corpus."""
    clip, root, out = scratch / "clip.wav", scratch / "corpus", scratch / "out"
    save_wav(clip, np.random.default_rng(0).normal(0, 0.05, 32000).astype(np.float32))
    entries = corpus.build(root, clip)
    where = ("--downloads" if corpus.part else "--data_root", str(root), "--out", str(out))
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = corpus.script.main([*where, *corpus.options])
    folders = [out / "parts" / corpus.part] if corpus.part else [out / x for x in small.SPLITS]
    taken = sum(len(read_scp(folder / "text")) for folder in folders)
    pipes = "--allow_pipes" in corpus.options
    wrong = [fault for folder in folders for fault in faults(folder, pipes)]
    if corpus.part:
        reports = json.loads((folders[0] / "left_out.json").read_text(encoding="utf-8")).values()
    else:
        content = json.loads((out / "report.json").read_text(encoding="utf-8"))
        reports = [report["left_out"] for report in content.values()]
    left_out = sum(map(Counter, reports), Counter())
    lost = entries - taken - left_out.total()
    causes = ", ".join(f"{n} {cause}" for cause, n in left_out.most_common()) or "none"
    happened = f"of {entries} entries {taken} read; left out: {causes}"
    if lost:
        happened += f"; {lost} lost without a word"
    return result(
        f"{name}: {corpus.awkward}",
        stage=1,
        tries=1,
        ok=int(code == 0 and not wrong and not lost),
        command=COMMAND,
        happened=happened,
        entries=entries,
        read=taken,
        left_out=dict(left_out.most_common()),
        wrong=wrong[:5],
    )


if __name__ == "__main__":
    raise SystemExit(main())
