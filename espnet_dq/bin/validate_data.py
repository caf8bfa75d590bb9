"""Check Kaldi data folders: exit 0 if they are fit for use, 2 with what is wrong otherwise.

Of a good one it prints a line that says what is in it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.audio import seconds
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import KaldiDir, is_command
from espnet_dq.data.languages import known_language
from espnet_dq.data.validation import check
from espnet_dq.errors import InputError, one_line, run, say


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, help="data folders, or a folder of train, dev and test"
    )
    parser.add_argument("--language", help="language of all utterances, instead of utt2lang")
    parser.add_argument("--untranscribed", action="store_true", help="audio only, without text")
    parser.add_argument("--allow_pipes", action="store_true", help="allow commands in wav.scp")
    parser.add_argument("--all", action="store_true", help="list all faults, not only the first")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Validate each folder; see `espnet_dq.data.validation.check` for what is looked at."""
    args = get_parser().parse_args(argv)
    language = known_language(args.language) if args.language else None
    count = 0
    for folder in [each for given in args.folders for each in _within(given)]:
        text = "none" if args.untranscribed else "needed"
        data, found = check(folder, args.allow_pipes, language, text, names=True)
        if found and not args.all:
            more = f" (and {len(found) - 1} more: --all)" if len(found) > 1 else ""
            raise InputError(found[0] + more)
        for fault in found:
            say(fault)
        if not found:
            say(f"{folder}: {_summary(data)}")
        count += len(found)
    if count:
        raise InputError(f"{count} faults")
    return 0


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


if __name__ == "__main__":
    run(main)
