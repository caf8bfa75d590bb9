"""Measure speed and memory of an experiment's systems side by side, in one run."""

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.decode.benchmark import benchmark
from espnet_dq.errors import run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.values import count


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--systems", required=True, help="the experiment's run.json")
    parser.add_argument("--data", required=True, help="Kaldi folder: wav.scp and utt2lang")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--clips", type=count, default=10, help="clips a turn (default: 10)")
    parser.add_argument("--rounds", type=count, default=3, help="turns a system (default: 3)")
    parser.add_argument("--threads", type=count, default=2, help="CPU threads (default: 2)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -Pm espnet_dq.bin.benchmark`; see `espnet_dq.decode.benchmark`."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    check_apart(args.out, args.systems)
    check_apart(args.out, args.data, FOLDER.files)
    report = benchmark(**vars(args))
    for name, system in report["systems"].items():
        rtf, memory = system["rtf"], system["peak_rss_bytes"] / 2**20
        say(
            f"{name}: RTF {rtf['median']:.3f} ({rtf['min']:.3f} to {rtf['max']:.3f}), "
            f"first word after {system['first_word_seconds']:.2f} s, peak memory {memory:.0f} MiB, "
            f"{system['runtime']} in {system['compute_type']}"
        )
    return 0


if __name__ == "__main__":
    run(main)
