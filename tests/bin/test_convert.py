import json

import pytest
import torch
import whisper
from faster_whisper import WhisperModel
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.convert import main
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import ctranslate2, openai
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids

TOY = ModelDimensions(80, 50, 64, 2, 1, 51865, 16, 64, 2, 1)


@pytest.fixture
def toy(tmp_path):
    """A toy checkpoint in float16."""
    torch.manual_seed(0)
    state = Whisper(TOY).state_dict()
    state["decoder.positional_embedding"].normal_()  # openai-whisper leaves it uninitialised
    openai.save(tmp_path / "toy.pt", Weights(TOY, state))
    return tmp_path / "toy.pt"


def convert(source, to, out, *more):
    assert main(["--from", str(source), "--to", to, "--out", str(out), *more]) == 0
    return out


def test_round_trip_changes_nothing(toy, tmp_path):
    folder = convert(toy, "ct2", tmp_path / "ct2")
    back = convert(folder, "openai", tmp_path / "back.pt")
    first, last = openai.load(toy), openai.load(back)
    assert first.dims == last.dims
    for name, tensor in first.state.items():
        assert last.state[name].dtype == torch.float16 and torch.equal(last.state[name], tensor)


def test_grid_reaches_both_formats_alike(toy, tmp_path):
    """The dequantized checkpoint and the int8 folder hold the same values, in float32."""
    folder = convert(toy, "ct2", tmp_path / "ct2", "--grid", "ct2_int8")
    checkpoint = convert(toy, "openai", tmp_path / "q.pt", "--grid", "ct2_int8")
    plain, ours, theirs = openai.load(toy), openai.load(checkpoint), ctranslate2.load(folder)
    on_grid = assign_grids(TOY, "ct2_int8")
    for name, tensor in plain.state.items():
        assert torch.equal(ours.state[name], theirs.state[name].float()), name
        expected = get_grid("ct2_int8").fake(tensor) if name in on_grid else tensor.float()
        assert torch.equal(ours.state[name], expected), name
    # Dequantized values are kept as they are on the way back, which takes float32.
    back = openai.load(convert(folder, "openai", tmp_path / "back.pt"))
    assert all(torch.equal(back.state[name], ours.state[name]) for name in on_grid)


def test_bad_input(toy, tmp_path):
    (tmp_path / "text").write_text("hello, this is no model")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(toy.read_bytes()[:100_000])
    for source in (tmp_path / "nothing", tmp_path / "text", cut, "openai:huge"):
        with pytest.raises(InputError) as caught:
            convert(source, "ct2", tmp_path / "out")
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="openai is a file"):
        convert(toy, "openai", tmp_path)
    with pytest.raises(InputError, match="ct2 is a folder"):
        convert(toy, "ct2", tmp_path / "text")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"toy.pt", "text", "cut.pt"}


def test_int8_tiny_runs_as_its_dequantized_checkpoint(weights_dir, clips, tmp_path):
    """Stock openai-whisper and faster-whisper say the same, each from its own file."""
    source = weights_dir / "tiny.pt"
    folder = convert(source, "ct2", tmp_path / "tiny", "--grid", "ct2_int8")
    checkpoint = convert(source, "openai", tmp_path / "tiny.pt", "--grid", "ct2_int8")
    assert bytes_on_disk(folder) <= 42_000_000
    heads = json.loads((folder / "config.json").read_text())["alignment_heads"]
    assert heads == [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]]

    torch_model = whisper.load_model(str(checkpoint), device="cpu")
    runtimes = [
        WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=1)
        for kind in ("float32", "int8")
    ]
    for path, language, _ in clips[:2]:
        audio = load_audio(path)
        options = {
            "language": language,
            "temperature": 0.0,
            "condition_on_previous_text": False,
            "without_timestamps": True,
        }
        ours = torch_model.transcribe(audio, fp16=False, **options)["text"].split()
        float32, int8 = (
            " ".join(s.text for s in runtime.transcribe(audio, beam_size=1, **options)[0]).split()
            for runtime in runtimes
        )
        assert ours == float32 and ours
        assert int8  # activations are rounded too, so a word may differ
