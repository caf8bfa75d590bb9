"""Splits of a corpus as training needs them: apart from each other, and audio at 16 kHz.

Left out, each for a cause that is counted and listed: audio that cannot be read, silence, clipped
speech (`espnet_dq.data.unfit`), text in another script or too much of it, clips too long or short.
Audio that is WAV or FLAC at 16 kHz with one channel is used where it is; all else is decoded
into OUT/wav, parts of recordings (`segments`) are cut out there, and what commands in `wav.scp`
write is kept there.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, combinations
from pathlib import Path

from espnet_dq.data.audio import SAMPLE_RATE, longer
from espnet_dq.data.cut import cut, died, jobs
from espnet_dq.data.kaldi import FOLDER, KaldiDir, absolute, is_command
from espnet_dq.data.languages import UNKNOWN_LANGUAGE
from espnet_dq.data.left_out import COLUMNS, LEFT_OUT, LeftOut, Row
from espnet_dq.data.parallel import parallel_map
from espnet_dq.data.segments import Segment, runs
from espnet_dq.data.spelling import normalise
from espnet_dq.data.splits import SPLITS
from espnet_dq.data.tables import rows
from espnet_dq.data.unfit import text_fault
from espnet_dq.data.validation import validate
from espnet_dq.data.voices import Voices
from espnet_dq.errors import InputError, say
from espnet_dq.files import check_replaceable, write_text

SECONDS = (0.1, 30.0)  # the shortest and the longest utterance
MOST_LEFT_OUT = 10.0  # percent
REPORT = "format.json"
# A split, where its audio goes and what is left out -> the same with long utterances in pieces, and
# how many were parted into how many: `espnet_dq.labels.split.split_long`.
SplitLong = Callable[[KaldiDir, Path, LeftOut], tuple[KaldiDir, dict[str, int]]]


def _places(data: KaldiDir) -> dict[str, str]:
    """Each file (or command) of a split, as it stands in `wav.scp` and where it is."""
    return {wav: wav if is_command(wav) else absolute(wav) for wav in data.wav.values()}


def _parts(data: KaldiDir, places: dict[str, str], of: set[str]) -> dict[str, list[Segment]]:
    """Which parts a split has of each of some files."""
    parts: dict[str, list[Segment]] = {place: [] for place in of}
    for utt, wav in data.wav.items():
        if places[wav] in of:
            parts[places[wav]].append(data.segments.get(utt, Segment(utt)))
    return parts


def _overlap(left: list[Segment], right: list[Segment]) -> bool:
    """Whether a part of a recording in `left` has sound in common with one in `right`."""
    sides = [0] * len(left) + [1] * len(right)
    return any(len({sides[k] for k in run}) > 1 for run in runs(left + right))


def check_disjoint(splits: dict[str, KaldiDir]) -> None:
    """Check that no utterance id and no audio is in two splits.

    Raises:
        InputError: Naming an id that is in two splits, or a file of which both have the same part.
    """
    places = {name: _places(data) for name, data in splits.items()}
    for (a, left), (b, right) in combinations(splits.items(), 2):
        ids = left.wav.keys() & right.wav.keys()
        if ids:
            raise InputError(f"'{min(ids)}' is in both {a} and {b} ({len(ids)} such utterances)")
        both = set(places[a].values()).intersection(places[b].values())
        parts = [_parts(data, places[name], both) for name, data in ((a, left), (b, right))]
        files = [file for file in both if _overlap(parts[0][file], parts[1][file])]
        if files:
            raise InputError(f"{min(files)} is in both {a} and {b} ({len(files)} such files)")


def shared_texts(splits: dict[str, KaldiDir]) -> list[str]:
    """`SPLIT and SPLIT: 'TEXT' (LANG)` for each text that stands in two splits of a language."""
    texts = {
        name: {
            (lang, normalise(data.text[u], lang))
            for u, lang in data.utt2lang.items()
            if data.text[u]
        }
        for name, data in splits.items()
    }
    return [
        f"{a} and {b}: '{text}' ({lang})"
        for a, b in combinations(texts, 2)
        for lang, text in sorted(texts[a] & texts[b])
    ]


def format_split(
    data: KaldiDir,
    wav_dir: Path,
    min_seconds: float,
    max_seconds: float,
    nj: int,
    left_out: LeftOut,
) -> KaldiDir:
    """The utterances of use, of a fitting length; the others are added to `left_out`.

    Args:
        data: A split.
        wav_dir: Where decoded audio goes.
        min_seconds: Shorter utterances are left out.
        max_seconds: Longer ones too.
        nj: Processes.
        left_out: What is left out so far.
    """
    lengths: dict[str, str] = {}
    out = []
    results = parallel_map(partial(cut, wav_dir, most=max_seconds), *jobs(data), nj, "format", died)
    for piece in chain.from_iterable(results):
        utt, lang, fault = piece.utt, data.utt2lang[piece.utt], piece.fault
        where = f"{utt}: {piece.path}"
        if not fault and piece.samples > max_seconds * SAMPLE_RATE:
            fault = longer(max_seconds)
        elif not fault and piece.samples < min_seconds * SAMPLE_RATE:
            fault = f"shorter than {min_seconds:g} s"
        elif not fault:
            fault = text_fault(data.text[utt], lang, piece.samples)
            where = f"{utt}: '{data.text[utt]}'"
        if fault:
            left_out.add(utt, lang, fault, where)
            out.append(utt)
        else:
            data.wav[utt] = piece.path
            lengths[utt] = str(piece.samples)
    data.extra = {}
    data.remove(out)
    data.extra, data.segments = {"utt2num_samples": lengths}, {}
    return data


def check_texts(splits: dict[str, KaldiDir], allowed: bool, where: Path | str) -> int:
    """How many texts stand in two splits; some are said, or raise `InputError` unless `allowed`."""
    texts = shared_texts(splits)
    if texts:
        line = f"{len(texts)} texts stand in two splits, as in {texts[0]}"
        if not allowed:
            raise InputError(f"{where}: {line} (--allow_shared_text to go on)")
        say(f"warning: {where}: {line}")
    return len(texts)


def format_splits(
    splits: dict[str, KaldiDir],
    folders: Mapping[str, Path],
    out: Path,
    nj: int,
    seconds: tuple[float, float] = SECONDS,
    most: float = MOST_LEFT_OUT,
    left_out: LeftOut | None = None,
    split_long: SplitLong | None = None,
) -> dict[str, dict]:
    """Write OUT/SPLIT, one file an utterance, and OUT/left_out.tsv; what is left out is said.

    Args:
        splits: As `validate` gives them; changed.
        folders: Where each is from, for errors.
        out: Where the folders go.
        nj: Processes.
        seconds: The shortest and the longest utterance.
        most: Percent of all utterances that may be left out.
        left_out: What was left out before, and counts.
        split_long: Parts longer utterances of all splits but test, instead of leaving them out.

    Returns:
        Split -> its `utterances`, `minutes`, `left_out` (cause -> count) and what was `split`.

    Raises:
        InputError: Nothing is left of a split, or too little of all; then no split is written.
    """
    report, left_out, (least, longest) = {}, left_out or LeftOut(), seconds
    for name, data in splits.items():
        wav_dir, first, counts = out / "wav" / name, len(left_out.rows), {}
        data = format_split(data, wav_dir, least, math.inf if split_long else longest, nj, left_out)
        # Those of test stay whole: they are decoded in pieces anyway, and no model should decide
        # what another is scored on.
        if split_long and name != "test":
            data, counts["split"] = split_long(data, wav_dir, left_out)
        splits[name] = data
        samples = sum(int(n) for n in data.extra["utt2num_samples"].values())
        causes = Counter(row.cause for row in left_out.rows[first:])
        report[name] = {
            "utterances": len(data.wav),
            "minutes": round(samples / SAMPLE_RATE / 60, 2),
            "left_out": dict(sorted(causes.items())),
            **counts,
        }
    left_out.write(out / LEFT_OUT)
    for name, data in splits.items():
        if not data.wav:
            raise InputError(f"{folders[name]}: no utterance is left: {report[name]['left_out']}")
    words = check_share(left_out, splits, most, out)
    for name, data in splits.items():
        data.save(out / name)
        say(f"{name}: {json.dumps(report[name])}")
    say(words)
    return report


def format_folder(
    data: Path,
    out: Path,
    nj: int,
    seconds: tuple[float, float] = SECONDS,
    most: float = MOST_LEFT_OUT,
    split_long: SplitLong | None = None,
    *,
    untranscribed: bool = False,
    allow_pipes: bool = False,
    allow_shared_text: bool = False,
) -> None:
    """Stage 2: check that DATA/{train,dev,test} are apart, and format them.

    Writes what `format_splits` does, with what stage 1 left out, which it lists beside its folders,
    and OUT/format.json.

    Args:
        data: Holds the three splits.
        out: Where the same folders go.
        nj, seconds, most, split_long: See `format_splits`.
        untranscribed: Train and dev are audio without text.
        allow_pipes: Run the commands that stand in `wav.scp`.
        allow_shared_text: Only warn where a text stands in two splits.

    Raises:
        InputError: What does not fit, is not apart or may not be replaced; see `format_splits`.
    """
    if out.resolve() == data.resolve():
        raise InputError(f"--out {out}: is the folder of --data")
    for name in (LEFT_OUT, REPORT):
        check_replaceable(out / name)
    splits = {}
    for name in SPLITS:
        check_replaceable(out / name, FOLDER)
        text = "none" if untranscribed and name != "test" else "needed"
        splits[name] = validate(data / name, allow_pipes, text=text)
    check_disjoint(splits)
    shared = check_texts(splits, allow_shared_text, data)
    voices = Voices.of(splits["train"], splits["test"])
    say(f"voices: {voices}")
    left_out = LeftOut()
    if (data / LEFT_OUT).exists():
        earlier = rows(data / LEFT_OUT, needed=COLUMNS)
        left_out.rows += [Row(*(row[name] for name in COLUMNS)) for _, row in earlier if row]
        check_share(left_out, splits, most, data)
    folders, out = {name: data / name for name in splits}, out.resolve()
    report = format_splits(splits, folders, out, nj, seconds, most, left_out, split_long)
    report |= {"voices": {"label": voices.label, "said": str(voices)}}
    write_text(out / REPORT, json.dumps({"shared_texts": shared} | report, indent=1) + "\n")


def check_share(left_out: LeftOut, splits: dict[str, KaldiDir], most: float, folder: Path) -> str:
    """What share of all utterances is left out, in words.

    Args:
        left_out: Their list; of these, languages that Whisper does not know do not count.
        splits: Those that are not left out.
        most: Percent.
        folder: Where the list is.

    Raises:
        InputError: More than `most` are left out.
    """
    causes = left_out.causes()
    del causes[UNKNOWN_LANGUAGE]
    count = causes.total()
    total = count + sum(len(data.wav) for data in splits.values())
    share = 100 * count / total if total else 0
    words = f"{count} of {total} utterances are left out ({share:.2f} %)"
    if causes:
        named = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
        words += f": {named}; listed in {folder / LEFT_OUT}"
    if share > most:
        raise InputError(f"more than --max_left_out {most:g} %: {words}")
    return words
