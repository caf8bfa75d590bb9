"""A data folder of windows, what is in none of them, and how much of each language is in them."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.kaldi import AUDIO, CATEGORY, FOLDER, KaldiDir
from espnet_dq.data.left_out import LEFT_OUT, LeftOut
from espnet_dq.data.pack import ROOM, Balance, pack
from espnet_dq.errors import InputError, say
from espnet_dq.files import (
    alone,
    check_apart,
    check_replaceable,
    shared_before,
    shared_place,
    write_text,
)
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.forward import own_window
from espnet_dq.whisper.room import most_text


def pack_windows(
    folder: Path,
    out: Path,
    singles: int = 0,
    seed: int = 0,
    balance: Balance | None = None,
    dims: ModelDimensions = SIZES["tiny"],
    shared: Path | None = None,
    most: int | None = None,
    by_speaker: bool = False,
    most_left_out: float = 100.0,
) -> None:
    """Join the utterances of a formatted folder to windows (`espnet_dq.data.pack`), and say so.

    Args:
        folder: a formatted Kaldi folder.
        out: the Kaldi folder to write; OUT.left_out.tsv beside it lists what fits into no window,
            OUT.minutes.json how much of each language was given and how much is in windows.
        singles: utterances that also get a window of their own.
        seed: of the shuffle.
        balance: of the languages; None: as they are.
        dims: the student's: its window, decoder and tokens.
        shared: keep the folder there, for all that want the same windows; None: as `out` was.
        most: windows, drawn from all; None: all of them.
        by_speaker: no window has utterances of two speakers.
        most_left_out: percent of the utterances that may fit into no window.

    Raises:
        InputError: the folder is not formatted, or empty, something else is at `out`, or more fits
            into no window than may be left out, or nothing does.
    """
    check_apart(out, folder)
    shared = shared or shared_before(out)
    if not shared:
        check_replaceable(out, FOLDER)
    data, place = KaldiDir.load(folder, extra=["utt2num_samples"]), out
    if not data.wav:
        raise InputError(f"{folder}: no utterances")
    balance = balance or Balance()
    window = own_window(dims) / SAMPLE_RATE
    left_out, longest = _left_out(data, dims, window), window - ROOM
    path = out.with_name(f"{out.name}.{LEFT_OUT}")
    _check_fit(folder, len(data.wav), left_out, most_left_out, path)
    if shared:
        kept = vars(dims).get("kept")
        sizes = (longest, most_text(dims.n_text_ctx), kept)
        key = (AUDIO, CATEGORY, data.fingerprint(), sizes, singles, seed, balance, most, by_speaker)
        place = shared_place(out, shared, hashlib.sha256(repr(key).encode()).hexdigest())
    with alone(place) if shared else nullcontext():
        if shared and place.is_dir():
            packed = KaldiDir.load(place, extra=["utt2num_samples"])
        else:
            packed = pack(data, place, longest, singles, seed, dims, balance, most, by_speaker)
    seconds = sum(int(n) for n in packed.extra["utt2num_samples"].values()) / SAMPLE_RATE
    say(f"{out}: {len(packed.wav)} windows, {seconds / 60:.1f} minutes of audio")
    minutes = _minutes(data, packed)
    for lang, of in minutes.items():
        say(f"{out}: {lang}: {of['given']:.1f} minutes given, {of['heard']:.1f} in windows")
    write_text(out.with_name(f"{out.name}.minutes.json"), json.dumps(minutes, indent=1) + "\n")
    left_out.write(path)
    for cause, count in left_out.causes().items():
        say(f"{out}: left out, {cause}: {count} utterances")


def _left_out(data: KaldiDir, dims: ModelDimensions, most: float) -> LeftOut:
    """Utterances with more text than the decoder takes, or more than `most` seconds."""
    left_out, tokenizer = LeftOut(), vocabulary_tokenizer(dims)
    room = most_text(dims.n_text_ctx)
    for utt, samples in data.extra["utt2num_samples"].items():
        text, lang = data.text[utt], data.utt2lang[utt]
        if int(samples) > most * SAMPLE_RATE:
            left_out.add(utt, lang, f"longer than the student's {most:g} s", utt)
        # No token is less than a byte; one more is the space before a text.
        elif len(text.encode()) + 1 > room and len(encode_text(tokenizer, text, lang)) > room:
            cause = f"text of more than the decoder's {room} tokens"
            left_out.add(utt, lang, cause, f"{utt}: '{text[:40]}...'")
    return left_out


def _check_fit(folder: Path, given: int, left_out: LeftOut, most: float, path: Path) -> None:
    """Of those `given`, `most` percent may be left out, and not all; else `path` lists them."""
    count = len(left_out.rows)
    share = 100 * count / given
    if share > most or count == given:
        left_out.write(path)
        causes = ", ".join(f"{n} {cause}" for cause, n in left_out.causes().most_common())
        limit = "" if share == 100 else f"more than --max_left_out {most:g} %: "
        raise InputError(f"{folder}: {limit}{count} of {given} utterances fit into no window: "
                         f"{causes}; listed in {path}")  # fmt: skip


def _minutes(data: KaldiDir, packed: KaldiDir) -> dict[str, dict[str, float]]:
    """Minutes of each language: `given` ones, and `heard` ones, pauses between them included."""
    found: dict[str, dict[str, float]] = {}
    for kind, folder in (("given", data), ("heard", packed)):
        for utt, samples in folder.extra["utt2num_samples"].items():
            of = found.setdefault(folder.utt2lang[utt], {"given": 0.0, "heard": 0.0})
            of[kind] += int(samples) / SAMPLE_RATE / 60
    return dict(sorted(found.items()))
