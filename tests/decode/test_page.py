"""examples/page.py: the text and the subtitles of a recording, and, where gradio is, the page."""

import runpy
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest

from espnet_dq.bin.transcribe import main
from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = runpy.run_path(str(ROOT / "examples/page.py"))


@pytest.fixture
def audio(tmp_path) -> Path:
    """A recording, of which the toy says a few words."""
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    save_wav(tmp_path / "a talk.wav", noise)
    return tmp_path / "a talk.wav"


@pytest.fixture
def printed(audio, toy_models, capsys) -> dict[str, str]:
    """What the command prints of it, by suffix."""
    options = [str(audio), "--model", str(toy_models["faster-whisper"]), "--language", "en"]
    said = {}
    for suffix, kind in (("txt", "text"), ("srt", "srt")):
        assert main([*options, "--format", kind]) == 0
        said[suffix] = capsys.readouterr().out
    return said


def test_the_page_gives_what_the_command_prints(audio, printed, toy_models):
    model = str(toy_models["faster-whisper"])
    text, *files = PAGE["write"](str(audio), model, " english ")
    assert text == printed["txt"].strip() != ""
    for path in map(Path, files):
        assert path.stem == "a talk" and path.read_text() == printed[path.suffix[1:]]
    for given, line in ((None, "no recording"), (str(audio) + "x", "a talk.wavx: ")):
        with pytest.raises(InputError, match=line):
            PAGE["write"](given, model, "en")


def test_only_this_machine_reaches_the_page(audio, printed, toy_models, monkeypatch):
    """Started as the command does, and asked as a browser asks."""
    gradio = pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    launch, model = gradio.Blocks.launch, str(toy_models["faster-whisper"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ask(blocks, **options):  # as a command it would wait
        launch(blocks, **options, prevent_thread_lock=True, quiet=True)
        client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        text, *files = client.predict(handle_file(audio), model, "en", api_name="/transcribe")
        assert text == printed["txt"].strip()
        assert [Path(path).read_text() for path in files] == [*printed.values()]
        for asked, line in (((model, "klingon"), "no such language"), (("/", "en"), "choices")):
            with pytest.raises(Exception, match=line):
                client.predict(handle_file(audio), *asked, api_name="/transcribe")
        for address in {*socket.gethostbyname_ex(socket.gethostname())[2]} - {"127.0.0.1"}:
            with pytest.raises(OSError):
                socket.create_connection((address, port), 2).close()
        blocks.close()

    monkeypatch.setattr(gradio.Blocks, "launch", ask)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert PAGE["main"]([model, "--port", str(port)]) == 0
    assert not Path(tempfile.tempdir).exists()
