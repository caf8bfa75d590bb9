"""A smaller Whisper cut from a larger one: fewer layers, a shorter window, fewer channels."""

from pathlib import Path

from espnet_dq.data.prompted import PromptedClips
from espnet_dq.errors import InputError
from espnet_dq.fetch.names import source_path
from espnet_dq.files import check_replaceable
from espnet_dq.formats import detect
from espnet_dq.formats.write import write
from espnet_dq.student.checkpoint import check_written
from espnet_dq.student.depth import choose_layers, shallow, shorten
from espnet_dq.student.width import check_width, narrow
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import SAMPLE_RATE, SAMPLES_PER_POSITION

CLIPS = 64


def make_student(
    source: str | Path,
    out: Path,
    encoder_layers: str | None = None,
    decoder_layers: str | None = None,
    seconds: int | None = None,
    width: int | None = None,
    data: Path | None = None,
    clips: int = CLIPS,
) -> str:
    """Write the student's checkpoint.

    Args:
        source: A Whisper's path or name.
        out: The `.pt` file.
        encoder_layers, decoder_layers: How many to keep, or which, see `choose_layers`; None: all.
        seconds: Its window; None: the source's.
        width: Its channels, a multiple of 64; None: all.
        data: A Kaldi folder with texts, to whose clips the layers of a `width` are fitted.
        clips: How many of these, evenly over the names.

    Returns:
        What it has, in a line.

    Raises:
        InputError: What does not fit, cannot be read, or may not be written.
    """
    check_replaceable(out)
    if out.suffix != ".pt":
        raise InputError(f"--out {out}: run.sh --student takes a .pt file")
    if (width is None) != (data is None):
        raise InputError("--width and --data go together: the layers are fitted to clips")

    source = source_path(source)
    check_written(out, source)
    weights = detect.load(source)
    layers = []
    for side, kept, count in (
        ("encoder", encoder_layers, weights.dims.n_audio_layer),
        ("decoder", decoder_layers, weights.dims.n_text_layer),
    ):
        try:
            layers.append(choose_layers(kept, count))
        except InputError as e:
            raise InputError(f"{source}: --{side}_layers {e}") from e
    if width is not None:
        vocabulary_tokenizer(weights.dims, source)
        try:
            check_width(weights.dims, width)
        except InputError as e:
            raise InputError(f"{source}: --width {e}") from e
    weights = shallow(weights, *layers)
    if seconds is not None:
        try:
            weights = shorten(weights, seconds)
        except InputError as e:
            raise InputError(f"--seconds {e}") from e
    if width is not None:
        weights = narrow(weights, width, PromptedClips(data, clips, weights.dims, 1.0))
    write("openai", out, weights, {}, weights.lossless(weights.state))
    dims = weights.dims
    return (
        f"{out}: {dims.n_audio_layer} encoder layers (of the source's "
        f"{', '.join(map(str, layers[0]))}), {dims.n_text_layer} decoder layers "
        f"({', '.join(map(str, layers[1]))}), {dims.n_text_state} channels, "
        f"windows of {dims.n_audio_ctx * SAMPLES_PER_POSITION / SAMPLE_RATE:g} s"
    )
