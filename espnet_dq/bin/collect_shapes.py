"""Write the shape files that ESPnet batches by (stage 5), from tables alone.

ESPnet's own collect-stats stage reads all audio to learn its length, which stage 2 knows.
OUT/speech_shape holds samples, OUT/text_shape Whisper tokens.
"""

import argparse
from pathlib import Path

from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.errors import run
from espnet_dq.files import atomic
from espnet_dq.whisper.dims import encode_text, vocabulary_tokenizer


def main(argv: list[str] | None = None) -> int:
    """Write both files; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    data = KaldiDir.load(args.data)
    samples = read_scp(args.data / "utt2num_samples")
    tokenizer = vocabulary_tokenizer(51865)
    shapes = {
        "speech_shape": samples,
        "text_shape": {u: str(len(encode_text(tokenizer, t))) for u, t in data.text.items()},
    }
    for name, table in shapes.items():
        with atomic(args.out / name) as tmp:
            tmp.write_text("".join(f"{u} {n}\n" for u, n in table.items()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
