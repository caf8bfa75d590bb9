"""Whether data folders are fit for use, for people: faults, or what is in a good one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.audio import seconds
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import KaldiDir, is_command
from espnet_dq.data.languages import known_language
from espnet_dq.data.validation import check
from espnet_dq.errors import InputError, one_line, say


def check_folders(
    folders: Iterable[Path],
    language: str | None = None,
    untranscribed: bool = False,
    allow_pipes: bool = False,
    all_faults: bool = False,
) -> None:
    """Say of each good folder what is in it; see `espnet_dq.data.validation.check` for the faults.

    Args:
        folders: Data folders, or folders of train, dev and test.
        language: Of all utterances, instead of utt2lang.
        untranscribed: Audio only, without text.
        allow_pipes: Commands may stand in `wav.scp`.
        all_faults: Say them all before raising, instead of raising the first.

    Raises:
        InputError: The first fault, or how many there are.
    """
    code, count = known_language(language) if language else None, 0
    text = "none" if untranscribed else "needed"
    for folder in [each for given in folders for each in _within(given)]:
        data, found = check(folder, allow_pipes, code, text, names=True)
        if found and not all_faults:
            more = f" (and {len(found) - 1} more: --all)" if len(found) > 1 else ""
            raise InputError(found[0] + more)
        for fault in found:
            say(fault)
        if not found:
            say(f"{folder}: {_summary(data)}")
        count += len(found)
    if count:
        raise InputError(f"{count} faults")


def _within(folder: Path) -> list[Path]:
    """The folder, or those in it with a wav.scp where it has none: train, dev, test."""
    inner = sorted(path.parent for path in folder.glob("*/wav.scp"))
    return inner if inner and not (folder / "wav.scp").exists() else [folder]


def _summary(data: KaldiDir) -> str:
    """What is in a good folder: utterances, hours by the headers, languages."""
    lengths = list(_lengths(data))
    known = [length for length in lengths if isinstance(length, float)]
    minutes = sum(known) / 60
    hours = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.1f} minutes"
    if len(known) < len(lengths):
        why = next(length for length in lengths if isinstance(length, str))
        missing = len(lengths) - len(known)
        hours += f" without {missing} whose length is not known (the first: {why})"
    languages = sorted(Counter(data.utt2lang.values()).items(), key=lambda x: (-x[1], x[0]))
    each = ", ".join(f"{lang} {count}" for lang, count in languages)
    return f"good: {len(data.wav)} utterances, {hours}; by language: {each}"


def _lengths(data: KaldiDir) -> Iterator[float | str]:
    """Seconds of each utterance, or why they are not known."""
    whole: dict[str, float | str] = {}  # a recording may have many utterances
    progress = tqdm(data.wav.items(), desc="headers", unit="utt", delay=2.0, leave=False)
    for utt, wav in progress:
        part = data.segments.get(utt)
        if part and part.end is not None:
            yield part.end - part.start
            continue
        if wav not in whole:
            try:
                whole[wav] = f"'{utt}' is a command" if is_command(wav) else seconds(wav)
            except AudioFault as e:
                whole[wav] = one_line(e)
        length = whole[wav]
        yield length - part.start if part and isinstance(length, float) else length
