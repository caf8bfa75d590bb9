"""A page in your own browser: drop or record audio, read its text, take it as a file of subtitles.

    python -P examples/page.py tiny_int8 tiny_q4.bin

Each MODEL is a file, a folder or a name as `bin.transcribe` takes it, and a line of the page's
list. Only this machine reaches the page (127.0.0.1). Audio and texts stay on it until the page
ends; gradio's own statistics are off. What it needs: `pip install ".[page]"`; CONTRIBUTING.md says
how beside requirements.lock.
"""

import argparse
import os
import signal
import tempfile
from functools import cache
from pathlib import Path

from espnet_dq import transcribe
from espnet_dq.data.texts import glue
from espnet_dq.decode.subtitles import HEAD, cue
from espnet_dq.decode.transcribe import BEAM
from espnet_dq.errors import DQError, InputError, run
from espnet_dq.runtimes import load_runtime
from espnet_dq.runtimes.interface import Segment, sets_times

# Read when gradio is imported.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


@cache
def loaded(model: str):
    """A model in its runtime, loaded once."""
    return load_runtime(None, model, nj=1, beam_size=BEAM, context="auto")


def write(audio: str | None, model: str, language: str) -> tuple[str, str, str]:
    """The text of a recording, and two files: of the text and of subtitles (srt).

    Raises:
        InputError: no recording, one that cannot be read, or an unknown language.
    """
    if not audio:
        raise InputError("no recording: drop a file, or record one")
    engine = loaded(model)
    segments = list(transcribe(audio, engine, language.strip() or None, sets_times(engine)))
    text = joined(segments)
    folder = Path(tempfile.mkdtemp())
    files = [folder / f"{Path(audio).stem}.{suffix}" for suffix in ("txt", "srt")]
    cues = (cue("srt", number, segment) for number, segment in enumerate(segments, 1))
    files[0].write_text(text + "\n", encoding="utf-8")
    files[1].write_text(HEAD["srt"] + "".join(cues), encoding="utf-8")
    return text, *map(str, files)


def joined(segments: list[Segment]) -> str:
    """What is said, in one line."""
    language = segments[0].language if segments else ""
    return glue((segment.text for segment in segments), language)


def page(models: list[str]):
    """The page, a `gradio.Blocks`."""
    import gradio

    def answer(audio: str | None, model: str, language: str) -> tuple[str, str, str]:
        try:
            return write(audio, model, language)
        except DQError as e:
            raise gradio.Error(str(e)) from e

    with gradio.Blocks(title="espnet_dq", analytics_enabled=False) as blocks:
        audio = gradio.Audio(type="filepath", sources=["upload", "microphone"], label="Audio")
        model = gradio.Dropdown(models, value=models[0], label="Model")
        language = gradio.Textbox(label="Language", placeholder="code or name; empty: detected")
        button = gradio.Button("Transcribe", variant="primary")
        text = gradio.Textbox(label="Text", lines=8)
        files = [gradio.File(label=label) for label in ("Text", "Subtitles")]
        button.click(answer, [audio, model, language], [text, *files], api_name="transcribe")
    return blocks


def main(argv: list[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="file, folder, or openai:NAME")
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1 (%(default)s)")
    args = parser.parse_args(argv)
    for model in args.models:
        loaded(model)  # what cannot be read is said here
    try:
        from gradio.themes import Base
    except ImportError as e:
        raise InputError('gradio is not installed: pip install ".[page]"') from e
    with tempfile.TemporaryDirectory(prefix="espnet_dq-") as folder:
        tempfile.tempdir = folder  # gradio's too: nobody else reads it, and nothing stays
        # gradio ends by it, and what `run` raises again would come in the middle of that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        page(args.models).launch(
            server_name="127.0.0.1",
            server_port=args.port,
            share=False,
            theme=Base(font="sans-serif", font_mono="monospace"),  # no fonts from another server
            footer_links=[],
        )
    return 0


if __name__ == "__main__":
    run(main)
