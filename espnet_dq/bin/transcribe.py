"""Print what is said in audio files of any kind and length."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_context, add_model
from espnet_dq.decode.printing import FORMATS, print_transcripts
from espnet_dq.decode.transcribe import BEAM
from espnet_dq.errors import run
from espnet_dq.runtimes import RUNTIMES
from espnet_dq.runtimes.interface import TASKS
from espnet_dq.values import count, whole


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="audio file: wav, mp3, ogg, ...")
    parser.add_argument(
        "--live",
        action="store_true",
        help="hear a microphone instead: samples of 16 bits at 16 kHz, mono, on standard input",
    )
    add_model(parser)
    parser.add_argument("--language", help="code or name, e.g. it (default: detected and named)")
    parser.add_argument("--runtime", choices=RUNTIMES, help="default: the one that reads the model")
    parser.add_argument(
        "--timestamps", action="store_true", help="in text: a line for each segment"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="text (default), subtitles, or json"
    )
    parser.add_argument(
        "--words", action="store_true", help="in json: times and probability of each word"
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEXT", help="names and words, as they are to be spelled"
    )
    parser.add_argument(
        "--channel", type=whole, metavar="N", help="hear this one only, from 0 (default: the mean)"
    )
    parser.add_argument(
        "--vad", action="store_true", help="leave out pieces in which nobody speaks (Silero)"
    )
    parser.add_argument(
        "--no_guard",
        action="store_true",
        help="leave what cannot have been said as the model says it (loops, too many letters)",
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="translate: into English")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write DIR/NAME.txt, .srt, .vtt or .json of each AUDIO (default: print; subtitles of "
        "one)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="write such files also where there are some"
    )
    parser.add_argument(
        "--beam_size", type=count, default=BEAM, help="1 is greedy, and faster (%(default)s)"
    )
    add_context(parser, "auto")
    parser.add_argument(
        "--threads", type=count, default=0, help="CPU threads (all cores, or OMP_NUM_THREADS)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -Pm espnet_dq.bin.transcribe`; see `print_transcripts`."""
    return print_transcripts(**vars(get_parser().parse_args(argv)))


if __name__ == "__main__":
    run(main)
