"""Cut a Whisper to fewer layers or channels, or a shorter window, for distillation to start from.

Layers that stay are the source's, bit for bit. Fewer channels (`--width`) need clips with texts,
on which the layers are fitted (`espnet_dq.student.width`).

Example usage::

    python -Pm espnet_dq.bin.make_student --from openai:base --decoder_layers 2 --out base_2.pt
    python -Pm espnet_dq.bin.make_student --from openai:small --encoder_layers 0,2,5,8,11 \\
        --decoder_layers 2 --width 512 --data dump/raw/train --out student.pt
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.data.prompted import PromptedClips
from espnet_dq.errors import InputError, run, say
from espnet_dq.fetch.names import source_path
from espnet_dq.files import check_replaceable
from espnet_dq.formats import detect
from espnet_dq.formats.write import write
from espnet_dq.student.checkpoint import check_written
from espnet_dq.student.depth import choose_layers, shallow, shorten
from espnet_dq.student.width import check_width, narrow
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import SAMPLE_RATE, SAMPLES_PER_POSITION


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument("--out", type=Path, required=True, help=".pt checkpoint to write")
    for side in ("encoder", "decoder"):
        parser.add_argument(
            f"--{side}_layers",
            metavar="N|LIST",
            help="how many to keep: the first, the last and others evenly between (1: the last); "
            "or which ones, counted from 0: 0,3,5 (default: all)",
        )
    parser.add_argument(
        "--seconds", type=int, help="window, shorter than the source's (default: as the source)"
    )
    parser.add_argument("--width", type=int, help="channels, a multiple of 64 (default: all)")
    parser.add_argument("--data", type=Path, help="Kaldi folder with texts, for --width")
    parser.add_argument(
        "--clips", type=int, default=64, help="number of its clips, evenly over the names (64)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the student's checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    if args.out.suffix != ".pt":
        raise InputError(f"--out {args.out}: run.sh --student takes a .pt file")
    if (args.width is None) != (args.data is None):
        raise InputError("--width and --data go together: the layers are fitted to clips")

    source = source_path(args.source)
    check_written(args.out, source)
    weights = detect.load(source)
    layers = []
    for side, count in (
        ("encoder", weights.dims.n_audio_layer),
        ("decoder", weights.dims.n_text_layer),
    ):
        try:
            layers.append(choose_layers(getattr(args, f"{side}_layers"), count))
        except InputError as e:
            raise InputError(f"{source}: --{side}_layers {e}") from e
    if args.width is not None:
        vocabulary_tokenizer(weights.dims, source)
        try:
            check_width(weights.dims, args.width)
        except InputError as e:
            raise InputError(f"{source}: --width {e}") from e
    weights = shallow(weights, *layers)
    if args.seconds is not None:
        try:
            weights = shorten(weights, args.seconds)
        except InputError as e:
            raise InputError(f"--seconds {e}") from e
    if args.width is not None:
        weights = narrow(
            weights, args.width, PromptedClips(args.data, args.clips, weights.dims, 1.0)
        )
    write("openai", args.out, weights, {}, weights.lossless(weights.state))
    dims = weights.dims
    say(
        f"{args.out}: {dims.n_audio_layer} encoder layers (of the source's "
        f"{', '.join(map(str, layers[0]))}), {dims.n_text_layer} decoder layers "
        f"({', '.join(map(str, layers[1]))}), {dims.n_text_state} channels, "
        f"windows of {dims.n_audio_ctx * SAMPLES_PER_POSITION / SAMPLE_RATE:g} s"
    )
    return 0


if __name__ == "__main__":
    run(main)
