"""Join short utterances into 30 s windows for training (stage 2).

What fits into no window is listed beside the folder, in OUT.left_out.tsv; OUT.minutes.json says how
much of each language was given and how much is in windows.

Example usage::

    python -Pm espnet_dq.bin.pack_windows --data dump/raw/train --out packed --singles 200
"""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.bin.arguments import Parser, hours, temperature, whole
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.kaldi import AUDIO, CATEGORY, FOLDER, KaldiDir
from espnet_dq.data.left_out import LEFT_OUT, LeftOut
from espnet_dq.data.pack import ROOM, Balance, pack
from espnet_dq.errors import run, say
from espnet_dq.files import alone, atomic, check_apart, check_replaceable, shared_place
from espnet_dq.formats.openai import read as openai
from espnet_dq.whisper.dims import SIZES, encode_text, vocabulary_tokenizer
from espnet_dq.whisper.forward import SAMPLES_PER_POSITION
from espnet_dq.whisper.room import most_text


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    parser.add_argument(
        "--singles", type=whole, default=0, help="utterances that also get their own window (0)"
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=Balance.temperature,
        help="1: languages as they are; more: hear those of few hours more often (1)",
    )
    parser.add_argument(
        "--max_hours", type=hours, default=Balance.max_hours, help="most of a language (no limit)"
    )
    parser.add_argument("--seed", type=whole, default=0, help="seed of the shuffle (0)")
    parser.add_argument(
        "--shared", type=Path, help="keep the folder here, for all that want the same windows"
    )
    parser.add_argument(
        "--student",
        type=Path,
        help=".pt that sets window, decoder and tokens (default: 30 s and any Whisper's)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Pack a formatted data folder; returns 0."""
    args = get_parser().parse_args(argv)
    check_apart(args.out, args.data)
    if not args.shared:
        check_replaceable(args.out, FOLDER)
    data = KaldiDir.load(args.data, extra=["utt2num_samples"])
    out = args.out
    dims = openai.load(args.student).dims if args.student else SIZES["tiny"]
    balance = Balance(args.temperature, args.max_hours)
    longest = dims.n_audio_ctx * SAMPLES_PER_POSITION / SAMPLE_RATE - ROOM
    if args.shared:
        kept = vars(dims).get("kept")
        sizes = (longest, most_text(dims.n_text_ctx), kept)
        key = (AUDIO, CATEGORY, data.fingerprint(), sizes, args.singles, args.seed, balance)
        out = shared_place(out, args.shared, hashlib.sha256(repr(key).encode()).hexdigest())
    with alone(out) if args.shared else nullcontext():
        if args.shared and out.is_dir():
            packed = KaldiDir.load(out, extra=["utt2num_samples"])
        else:
            packed = pack(data, out, longest, args.singles, args.seed, dims, balance)
    seconds = sum(int(n) for n in packed.extra["utt2num_samples"].values()) / SAMPLE_RATE
    say(f"{args.out}: {len(packed.wav)} windows, {seconds / 60:.1f} minutes of audio")
    minutes = _minutes(data, packed)
    for lang, of in minutes.items():
        say(f"{args.out}: {lang}: {of['given']:.1f} minutes given, {of['heard']:.1f} in windows")
    with atomic(args.out.with_name(f"{args.out.name}.minutes.json")) as tmp:
        tmp.write_text(json.dumps(minutes, indent=1) + "\n", encoding="utf-8")
    left_out = _left_out(data, dims, longest + ROOM)
    left_out.write(args.out.with_name(f"{args.out.name}.{LEFT_OUT}"))
    for cause, count in left_out.causes().items():
        say(f"{args.out}: left out, {cause}: {count} utterances")
    return 0


def _left_out(data: KaldiDir, dims: ModelDimensions, most: float) -> LeftOut:
    """Utterances with more text than the decoder takes, or more than `most` seconds."""
    left_out, tokenizer = LeftOut(), vocabulary_tokenizer(dims)
    room = most_text(dims.n_text_ctx)
    for utt, samples in data.extra["utt2num_samples"].items():
        text, lang = data.text[utt], data.utt2lang[utt]
        if int(samples) > most * SAMPLE_RATE:
            left_out.add(utt, lang, f"longer than the student's {most:g} s", utt)
        # No token is less than a byte; one more is the space before a text.
        elif len(text.encode()) + 1 > room and len(encode_text(tokenizer, text)) > room:
            cause = f"text of more than the decoder's {room} tokens"
            left_out.add(utt, lang, cause, f"{utt}: '{text[:40]}...'")
    return left_out


def _minutes(data: KaldiDir, packed: KaldiDir) -> dict[str, dict[str, float]]:
    """Minutes of each language: `given` ones, and `heard` ones, pauses between them included."""
    found: dict[str, dict[str, float]] = {}
    for kind, folder in (("given", data), ("heard", packed)):
        for utt, samples in folder.extra["utt2num_samples"].items():
            of = found.setdefault(folder.utt2lang[utt], {"given": 0.0, "heard": 0.0})
            of[kind] += int(samples) / SAMPLE_RATE / 60
    return dict(sorted(found.items()))


if __name__ == "__main__":
    run(main)
