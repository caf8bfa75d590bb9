"""Fine-tunes in `pytorch_model.bin`, whole or in parts; and folders that hold an adapter only."""

import json
import pickle
import shutil

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.formats.hf import FILE, PICKLE, PICKLE_INDEX
from espnet_dq.formats.hf.write import save as save_hf

PROJECTION = "proj_out.weight"


@pytest.fixture(scope="module")
def plain(toy_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "hf"
    save_hf(folder, toy_weights(), {}, float_dtype="float32")
    (folder / "tokenizer.json").unlink()  # its size says which it is, and reading it takes time
    return folder


@pytest.fixture
def copied(plain, tmp_path):
    """The folder without its weights, and transformers' own state dict of them."""
    folder = shutil.copytree(plain, tmp_path / "hf")
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    (folder / FILE).unlink()
    return folder, model.state_dict()


def equals_plain(folder, plain):
    found, expected = detect.load(folder), detect.load(plain)
    assert found.dims == expected.dims and found.state.keys() == expected.state.keys()
    assert all(torch.equal(t, expected.state[name]) for name, t in found.state.items())


@pytest.mark.parametrize("tied", ["as transformers ties it", "copied", "left out"])
def test_state_dict_of_transformers(tied, copied, plain):
    folder, state = copied
    assert PROJECTION in state
    if tied == "copied":
        state[PROJECTION] = state[PROJECTION].clone()
    if tied == "left out":
        del state[PROJECTION]
    torch.save(state, folder / PICKLE)
    assert detect.detect(folder) == "hf"
    equals_plain(folder, plain)


def in_parts(folder, state):
    names, table = sorted(state), {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{i}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        table |= dict.fromkeys(part, file)
    (folder / PICKLE_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return table


def test_in_parts(copied, plain):
    folder, state = copied
    in_parts(folder, state)
    assert detect.detect(folder) == "hf"
    equals_plain(folder, plain)


def test_safetensors_go_first(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "hf")
    (folder / PICKLE).write_bytes(b"not read")
    equals_plain(folder, plain)


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda state, _: state.pop("model.encoder.conv1.bias"), "conv1.bias is missing"),
        (lambda state, _: state.update(more=torch.zeros(1)), "more is not a Whisper weight"),
        (
            lambda state, _: state.update({PROJECTION: torch.ones(51865, 64)}),
            "proj_out.weight is n",
        ),
        (lambda state, _: state.update({5: torch.zeros(1)}), "5 is not the name of a tensor"),
        (lambda state, _: state.update(note="words"), "note is not a tensor"),
        (
            lambda state, name: state.update({name: state[name].expand(2, *state[name].shape)}),
            "is larger than what the file holds",
        ),
        (
            lambda state, name: state.update({name: state[name].int()}),
            "holds torch.int32, expected floats",
        ),
        (lambda state, name: state.update({name: state[name] / 0}), "not all finite"),
    ],
)
def test_bad_pickles(edit, message, copied):
    folder, state = copied
    state = dict(state)
    edit(state, "model.encoder.layer_norm.weight")
    torch.save(state, folder / PICKLE)
    with pytest.raises(InputError, match=message) as caught:
        detect.load(folder)
    assert PICKLE in str(caught.value) and "\n" not in str(caught.value)


class Harm:
    """What a pickle may do: it makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return __import__("os").mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["alone", "in a part", "as plain pickle"])
def test_no_code_runs(where, copied, tmp_path):
    folder, state = copied
    harm, file = Harm(tmp_path / "harm"), folder / PICKLE
    if where == "as plain pickle":
        file.write_bytes(pickle.dumps({"a": harm}))
    elif where == "alone":
        torch.save(dict(state) | {"a": harm}, file)
    else:
        file = folder / in_parts(folder, state)[PROJECTION]
        torch.save({"a": harm}, file)
    with pytest.raises(InputError, match=str(file)):
        detect.load(folder)
    assert not (tmp_path / "harm").exists()


def test_an_index_names_pickles_beside_it(copied, tmp_path):
    folder, state = copied
    table = in_parts(folder, state)
    outside = tmp_path / "outside.bin"
    torch.save(dict(state), outside)
    for file in (f"../{outside.name}", str(outside), "model.safetensors", 3):
        changed = table | {PROJECTION: file}
        (folder / PICKLE_INDEX).write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(InputError, match="which is no file beside it"):
            detect.load(folder)
    name = "model.encoder.conv1.bias"
    del table[name]
    (folder / PICKLE_INDEX).write_text(json.dumps({"weight_map": table}))
    with pytest.raises(InputError, match=f"{name} is in the files only"):
        detect.load(folder)


@pytest.mark.parametrize("weights", ["safetensors", "bin"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_is_called_one(weights, whole, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "lora")
    tensors = {"base_model.model.model.decoder.layers.0.fc1.lora_A.weight": torch.zeros(2, 64)}
    torch.save(tensors, folder / f"adapter_model.{weights}")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    if not whole:
        (folder / FILE).unlink()
        (folder / "config.json").unlink()
    with pytest.raises(
        InputError, match=f"{folder}/adapter_config.json: a LoRA .*convert --from {folder} "
    ):
        detect.load(folder)
