#!/usr/bin/env python3
"""lhotse's cuts, as icefall's recipes leave them: CutSet manifests, .jsonl or .jsonl.gz.

Each supervision becomes an utterance, where it lies in its recording; a cut may have several.
Read by the layout that lhotse documents, so lhotse need not be installed. Left out and counted:
mixed and padded cuts, recordings that are changed when they are loaded (speed, volume, ...), and
audio that is no file. Writes OUT/{train,dev,test} and OUT/report.json; the other way:
`python -Pm espnet_dq.bin.write_cuts`.
"""

import argparse
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.languages import UNKNOWN_LANGUAGE, known_language, whisper_code
from espnet_dq.data.listing import Listing, write_listing
from espnet_dq.data.segments import Segment
from espnet_dq.data.splits import SPLITS
from espnet_dq.errors import InputError, one_line, run
from espnet_dq.values import a_path, count

EDGE = 0.01  # seconds: times of cuts are rounded


class LeftOut(Exception):
    """Why a supervision cannot be an utterance."""


def read_cuts(path: Path) -> Iterator[tuple[str, dict]]:
    """(file and line, cut) of each line of a manifest.

    Raises:
        InputError: No such file, or a line that is no cut.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as f:
            for line in f:
                number += 1
                cut = json.loads(line)
                if not isinstance(cut, dict) or not isinstance(cut.get("type"), str):
                    raise ValueError("no cut: a JSON object with a type")
                yield f"{path}:{number}", cut
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as e:
        raise InputError(f"{path}:{number}: {e}") from e


def audio_of(cut: dict, channel: int | list[int], allow_pipes: bool) -> tuple[str, int | None]:
    """(file or command, channel in it) of a channel of a cut's recording; None: all, or the one.

    Raises:
        LeftOut: It is no single file, or is not used as it is.
        InputError: It is a command, and these are not allowed.
    """
    recording = cut["recording"]
    if recording.get("transforms"):
        raise LeftOut("a recording with transforms")
    channels = channel if isinstance(channel, list) else [channel]
    sources = [x for x in recording["sources"] if set(channels) <= set(x["channels"])]
    if len(sources) != 1 or sources[0]["type"] not in ("file", "command"):
        raise LeftOut("audio that is not one file")
    source, known = str(sources[0]["source"]), sources[0]["channels"]
    if sources[0]["type"] == "command":
        if not allow_pipes:
            raise InputError(f"a command, which is run only with --allow_pipes: {source}")
        source = f"{source} |"
    elif source.endswith("|") or not source:
        raise LeftOut("audio that is not one file")
    if len(channels) == len(known):
        return source, None
    if len(channels) > 1:
        raise LeftOut("some of a recording's channels")
    return source, known.index(channels[0])


def segment_of(cut: dict, supervision: dict, channel: int | None) -> Segment | None:
    """Where a supervision lies in its recording; None if it is all of it."""
    length = float(cut["recording"]["duration"])
    start = float(cut["start"]) + float(supervision["start"])
    end = start + float(supervision["duration"])
    if not -EDGE <= start < end <= length + EDGE:
        raise LeftOut("a supervision outside its recording")
    start, until = max(0.0, start), None if end >= length - EDGE else end
    if start < EDGE and until is None and channel is None:
        return None
    name = re.sub(r"\s", "_", str(cut["recording"]["id"]))
    return Segment(name, start, until, channel)


def add_cut(
    listing: Listing, split: str, where: str, cut: dict, language: str | None, allow_pipes: bool
) -> None:
    """Add a cut's supervisions.

    Raises:
        InputError: The cut lacks what a cut has, or a command is not allowed.
    """
    if cut["type"] not in ("MonoCut", "MultiCut") or not cut.get("recording"):
        why = "a cut without a recording" if cut["type"].endswith("oCut") else f"a {cut['type']}"
        listing.skip(language or "unknown", why, where)
        return
    try:
        for number, said in enumerate(cut.get("supervisions") or []):
            name = str(said.get("language") or "unknown")
            lang = language or whisper_code(name)
            if lang is None:
                listing.skip(name, UNKNOWN_LANGUAGE, where)
                continue
            try:
                source, channel = audio_of(cut, said.get("channel", cut["channel"]), allow_pipes)
                part = segment_of(cut, said, channel)
            except LeftOut as e:
                listing.skip(lang, str(e), where)
                continue
            utt = re.sub(r"\s", "_", str(said.get("id") or f"{cut['id']}-{number}"))
            speaker = re.sub(r"\s", "_", str(said.get("speaker") or "")) or None
            if speaker and not utt.startswith(speaker):
                utt = f"{speaker}-{utt}"
            listing.add(split, utt, lang, speaker, said.get("text") or "", source, where, part)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError(f"{where}: no cut of lhotse's: {e!r}") from e
    except InputError as e:
        raise InputError(f"{where}: {e}") from e


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data_root", type=a_path, help="holds cuts_train.jsonl.gz, cuts_dev... and cuts_test..."
    )
    for name in SPLITS:
        parser.add_argument(
            f"--{name}", type=a_path, action="append", help=f"a manifest of {name}; may be repeated"
        )
    parser.add_argument("--language", help="the language of all, whatever the cuts say")
    parser.add_argument("--allow_pipes", action="store_true", help="take audio from commands")
    parser.add_argument("--out", type=a_path, default=Path("data"), help="data folder")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    args = parser.parse_args(argv)
    language = known_language(args.language) if args.language else None
    listing = Listing()
    for split in SPLITS:
        files = getattr(args, split) or []
        if not files and args.data_root:
            files = [args.data_root / f"cuts_{split}.jsonl.gz"]
        if not files:
            raise InputError(f"neither --data_root nor --{split} is given")
        for path in files:
            for where, cut in tqdm(read_cuts(path), desc=one_line(path.name), unit="cut"):
                add_cut(listing, split, where, cut, language, args.allow_pipes)
    write_listing(listing, args.out, args.nj, args.allow_pipes)
    return 0


if __name__ == "__main__":
    run(main)
