"""Join short utterances into 30 s windows for training (stage 2).

Example usage::

    python -m espnet_dq.bin.pack_windows --data dump/raw/train --out dump/packed/train --singles 200
"""

import argparse
import hashlib
from pathlib import Path

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.pack import MAX_TOKENS, pack
from espnet_dq.errors import run
from espnet_dq.files import shared_place
from espnet_dq.formats import openai
from espnet_dq.whisper.dims import encode_text, vocabulary_tokenizer


def main(argv: list[str] | None = None) -> int:
    """Pack a formatted data folder; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    parser.add_argument("--seconds", type=float, default=29.5, help="longest window (29.5)")
    parser.add_argument(
        "--singles", type=int, default=0, help="utterances that also get a window alone (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffle (0)")
    parser.add_argument(
        "--shared", type=Path, help="keep the folder here, for all that want the same windows"
    )
    parser.add_argument(
        "--student", type=Path, help=".pt whose tokens fill the windows (default: any Whisper's)"
    )
    args = parser.parse_args(argv)
    data = KaldiDir.load(args.data, extra=["utt2num_samples"])
    out = args.out
    vocabulary = openai.load(args.student).dims if args.student else 51865
    if args.shared:
        key = repr((data.fingerprint(), args.seconds, args.singles, args.seed, vocabulary))
        out = shared_place(out, args.shared, hashlib.sha256(key.encode()).hexdigest())
    if args.shared and out.is_dir():
        packed = KaldiDir.load(out, extra=["utt2num_samples"])
    else:
        packed = pack(args.data, out, args.seconds, args.singles, args.seed, vocabulary)
    seconds = sum(int(n) for n in packed.extra["utt2num_samples"].values()) / 16000
    print(f"{args.out}: {len(packed.wav)} windows, {seconds / 60:.1f} minutes of audio")
    tokenizer = vocabulary_tokenizer(vocabulary)
    left_out = sum(len(encode_text(tokenizer, t)) > MAX_TOKENS for t in data.text.values())
    if left_out:
        print(f"{args.out}: left out, text too long for Whisper's decoder: {left_out} utterances")
    return 0


if __name__ == "__main__":
    run(main)
