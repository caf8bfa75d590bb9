import os
import pickle
import zipfile
from dataclasses import asdict

import pytest
import torch
import whisper

from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt


def test_stock_whisper_loads_what_is_saved(toy, tmp_path):
    save_pt(tmp_path / "toy.pt", toy)
    model = whisper.load_model(str(tmp_path / "toy.pt"))
    assert model.dims == toy.dims
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, toy.state[name].half().float()), name


def test_round_trip_keeps_type_and_bits(toy, tmp_path):
    for dtype in (torch.float16, torch.float32):
        save_pt(tmp_path / "toy.pt", toy, dtype=dtype)
        loaded = openai.load(tmp_path / "toy.pt")
        assert loaded.dims == toy.dims
        for name, tensor in toy.state.items():
            assert loaded.state[name].dtype == dtype
            assert torch.equal(loaded.state[name], tensor.to(dtype)), name


def test_missing_sinusoids_are_openais(toy, tmp_path):
    del toy.state["encoder.positional_embedding"]
    save_pt(tmp_path / "toy.pt", toy, dtype=torch.float32)
    loaded = openai.load(tmp_path / "toy.pt").state["encoder.positional_embedding"]
    assert torch.equal(loaded, whisper.model.Whisper(toy.dims).encoder.positional_embedding)


def test_a_path_that_torch_cannot_open(toy, tmp_path):
    """The file is whole."""
    path = tmp_path / os.fsdecode(b"caf\xe9.pt")
    save_pt(path, toy)
    with pytest.raises(InputError, match="opens no file whose path is not UTF-8"):
        openai.load(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.9, 0.9999])
def test_truncated(toy, tmp_path, share):
    path = tmp_path / "toy.pt"
    save_pt(path, toy)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"toy\.pt") as caught:
        openai.load(path)
    assert "\n" not in str(caught.value)


def _save(path, toy, **changes):
    content = {"dims": asdict(toy.dims), "model_state_dict": toy.state} | changes
    torch.save(content, path)
    return path


def test_wrong_contents(toy, tmp_path):
    path = tmp_path / "x.pt"
    name = "decoder.blocks.1.mlp.0.weight"
    state = dict(toy.state)
    wrong = {
        "no such file": None,
        "needs the keys": [1, 2],
        f"{name} is missing": {k: v for k, v in state.items() if k != name},
        "extra.weight is not a Whisper weight": state | {"extra.weight": torch.zeros(1)},
        rf"{name} has shape \(3,\)": state | {name: torch.zeros(3)},
        "expected floats": state | {name: state[name].to(torch.int8)},
        "is not a tensor": state | {name: 3},
    }
    for message, content in wrong.items():
        if isinstance(content, list):
            torch.save(content, path)
        elif content is not None:
            _save(path, toy, model_state_dict=content)
        with pytest.raises(InputError, match=message):
            openai.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_vocab": 0},
        {"n_vocab": -1},
        {"n_audio_state": 1 << 40},
        {"n_text_head": 7},
        {"n_text_layer": 10**6},
        {"n_text_ctx": 2.5},
        {"n_text_ctx": None},
        {"more": 1},
    ],
)
def test_wrong_dimensions(toy, tmp_path, change):
    path = _save(tmp_path / "x.pt", toy, dims=asdict(toy.dims) | change)
    with pytest.raises(InputError, match=r"x\.pt"):
        openai.load(path)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for writer in (torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))):
        writer(Payload(), tmp_path / "x.pt")
        with pytest.raises(InputError, match=r"x\.pt"):
            openai.load(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_no_memory_for_more_than_the_file_holds(toy, tmp_path):
    """torch would unpack a compressed member, and one that two entries share, twice."""
    path = tmp_path / "toy.pt"
    save_pt(path, toy)
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert torch.load(packed, weights_only=True)["dims"] == asdict(toy.dims)
    with pytest.raises(InputError, match=r"packed\.pt: holds compressed members"):
        openai.load(packed)
    shared = tmp_path / "shared.pt"
    with zipfile.ZipFile(shared, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        largest = max(archive.filelist, key=lambda info: info.file_size)
        archive.filelist += [largest] * 3
    with pytest.raises(InputError, match=r"shared\.pt: holds the member .* twice"):
        openai.load(shared)


def test_failed_save_leaves_the_old_file(toy, tmp_path):
    path = tmp_path / "toy.pt"
    path.write_bytes(b"old")
    del toy.state["decoder.ln.weight"]
    with pytest.raises(InputError, match=r"decoder\.ln\.weight is missing"):
        save_pt(path, toy)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
