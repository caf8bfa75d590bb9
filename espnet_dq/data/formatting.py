"""Splits of a corpus as training needs them: apart from each other, and audio at 16 kHz."""

from functools import partial
from itertools import chain, combinations
from pathlib import Path

from espnet_dq.data.audio import SAMPLE_RATE, longer
from espnet_dq.data.cut import cut, died, jobs
from espnet_dq.data.kaldi import KaldiDir, absolute, is_command
from espnet_dq.data.languages import UNKNOWN_LANGUAGE
from espnet_dq.data.left_out import LEFT_OUT, LeftOut
from espnet_dq.data.parallel import parallel_map
from espnet_dq.data.segments import Segment, runs
from espnet_dq.data.spelling import normalise
from espnet_dq.data.unfit import text_fault
from espnet_dq.errors import InputError

SECONDS = (0.1, 30.0)  # the shortest and the longest utterance
MOST_LEFT_OUT = 10.0  # percent


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
