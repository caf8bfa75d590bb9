"""The shape file that ESPnet batches by, from tables alone.

ESPnet's own collect-stats stage reads all audio to learn its length, which a formatted folder
knows.
"""

import hashlib
from pathlib import Path

from espnet_dq.data.kaldi import read_scp
from espnet_dq.files import check_replaceable, write_text

SHAPES = "speech_shape"


def write_shapes(data: Path, out: Path) -> Path:
    """Write `out`/speech_shape of a formatted folder, and return it.

    It holds samples, in the order of the names' hashes: ESPnet cuts an unsorted list into batches
    as it stands, and sorted names would make every batch one speaker's.
    """
    path = out / SHAPES
    check_replaceable(path)
    samples = read_scp(data / "utt2num_samples")
    names = sorted(samples, key=lambda utt: hashlib.sha256(utt.encode()).digest())
    write_text(path, "".join(f"{u} {samples[u]}\n" for u in names))
    return path
