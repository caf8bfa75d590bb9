"""Check Kaldi data folders: exit 0 if they are fit for use, 2 with what is wrong otherwise."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import faults
from espnet_dq.errors import InputError, run, say


def main(argv: list[str] | None = None) -> int:
    """Validate each folder; see `espnet_dq.data.kaldi.faults` for what is looked at."""
    parser = Parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="data folders")
    parser.add_argument("--language", help="Whisper's code for all, in place of utt2lang")
    parser.add_argument("--untranscribed", action="store_true", help="audio only, without text")
    parser.add_argument("--allow_pipes", action="store_true", help="commands in wav.scp are fine")
    parser.add_argument("--all", action="store_true", help="list all faults, not only the first")
    args = parser.parse_args(argv)
    count = 0
    for folder in args.folders:
        text = "none" if args.untranscribed else "needed"
        found = faults(folder, args.allow_pipes, args.language, text)
        if found and not args.all:
            more = f" (and {len(found) - 1} more: --all)" if len(found) > 1 else ""
            raise InputError(found[0] + more)
        for fault in found:
            say(fault)
        count += len(found)
    if count:
        raise InputError(f"{count} faults")
    return 0


if __name__ == "__main__":
    run(main)
