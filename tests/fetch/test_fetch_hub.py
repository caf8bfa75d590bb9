"""`hf:USER/NAME`: from a hub on a local port, by huggingface_hub itself."""

import socket

import pytest
from huggingface_hub import constants

import espnet_dq as dq
from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.hub import parse, snapshot
from espnet_dq.fetch.names import source_path
from espnet_dq.formats.registry import FORMATS
from tests import toys
from tests.report.fake_hub import Hub

CODE = {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"a pickle", "README.md": b"#"}
OTHERS = {"checkpoint-5/model.safetensors": b"old", "model.fp32-00001-of-00002.safetensors": b"x"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A toy as transformers has it, by the names of its files."""
    place = tmp_path_factory.mktemp("toy")
    path = toys.save_model(place / "toy.pt", toys.make_model(state=32, layers=1, text_ctx=32))
    dq.save(dq.load(path), place / "hf", to="hf")
    return {file.name: file.read_bytes() for file in (place / "hf").iterdir()}


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Function (address): the library knows that hub only, and an empty cache."""

    def use(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        url = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    return use


@pytest.fixture
def hub(at):
    with Hub() as running:
        at(running.url)
        yield running


@pytest.fixture
def nobody(at):
    """An address at which nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        at(f"http://127.0.0.1:{closed.getsockname()[1]}")
        yield


@pytest.mark.slow
def test_weights_and_what_belongs_to_them_and_no_code(hub, folder):
    hub.files["me/toy"] = folder | CODE | OTHERS
    path = source_path("hf:me/toy")
    assert {file.name: file.read_bytes() for file in path.iterdir()} == folder
    assert dq.load("hf:me/toy").dims.n_audio_state == 32
    fetched = [request for request in hub.requests if "/resolve/" in request]
    assert not [name for name in CODE | OTHERS if any(name in x for x in fetched)]


@pytest.mark.slow
def test_a_revision(hub, folder):
    hub.files["me/toy"] = {"model.safetensors": b"new"}
    hub.files["me/toy@v1"] = folder
    assert (snapshot("hf:me/toy@v1") / "config.json").read_bytes() == folder["config.json"]
    assert (snapshot("hf:me/toy") / "model.safetensors").read_bytes() == b"new"
    with pytest.raises(WorkError, match=r"^hf:me/toy@v2: cannot be downloaded: .*404"):
        snapshot("hf:me/toy@v2")


def test_pickles_come_where_there_is_nothing_else(hub):
    hub.files["me/old"] = CODE | {"config.json": b"{}", "training_args.bin": b"a pickle"}
    assert {file.name for file in snapshot("hf:me/old").iterdir()} == {
        "config.json", "pytorch_model.bin",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if form.card])
def test_what_is_published_is_loaded_from_there(form, hub, nobody, at, tmp_path, capfd):
    """As stage 13 writes and uploads it: the model's files, and a card."""
    nowhere = constants.ENDPOINT
    at(hub.url)
    model = dq.load(toys.save_model(tmp_path / "toy.pt", toys.make_model(0, 32, 1)))
    if grids := FORMATS[form].grids:
        model = dq.quantize(model, grids[0])
    place = FORMATS[form].place(tmp_path / "published")
    (tmp_path / "published").mkdir()
    dq.save(model, place, to=form)
    (tmp_path / "published/README.md").write_text("# Card")
    files = [path for path in (tmp_path / "published").rglob("*") if path.is_file()]
    hub.files["me/toy"] = {
        str(path.relative_to(tmp_path / "published")): path.read_bytes() for path in files
    } | CODE | {"checkpoint-5/model.safetensors": b"old"}  # fmt: skip
    del hub.files["me/toy"]["pytorch_model.bin"]
    capfd.readouterr()
    found = dq.load("hf:me/toy")
    assert found.quantized.keys() == model.quantized.keys()
    here = dq.load(place).weights.state
    assert all(here[name].equal(values) for name, values in found.weights.state.items())
    fetched = {path.partition("/resolve/")[2][41:] for path in hub.requests if "/resolve/" in path}
    assert fetched == {str(path.relative_to(tmp_path / "published")) for path in files
                       if path.name != "README.md"}  # fmt: skip
    assert "No files matched" not in capfd.readouterr().err
    at(nowhere)
    assert dq.load("hf:me/toy").weights.state.keys() == here.keys()


def test_of_a_repository_of_many_graphs_one_pair_comes(hub):
    sides = ("encoder_model", "decoder_model_merged")
    kinds = ("", "_fp16", "_int8", "_q4", "_quantized")
    names = [f"onnx/{side}{kind}.onnx" for side in sides for kind in kinds]
    hub.files["me/many"] = dict.fromkeys(names, b"graph") | {"config.json": b"{}"}
    folder = snapshot("hf:me/many")
    assert {file.name for file in (folder / "onnx").iterdir()} == {
        f"{side}_quantized.onnx"
        for side in sides  # which is read here, whoever wrote it
    }


def test_graphs_of_two_grids_come_together(hub):
    """Floats in the encoder, four bits in the decoder, and both in float16, which is not asked."""
    names = ("encoder_model", "encoder_model_fp16", "decoder_model_merged_q4",
             "decoder_model_merged_q4f16")  # fmt: skip
    hub.files["me/two"] = {f"onnx/{name}.onnx": b"graph" for name in names} | {"config.json": b"{}"}
    folder = snapshot("hf:me/two")
    found = {file.name for file in (folder / "onnx").iterdir()}
    assert found == {"encoder_model.onnx", "decoder_model_merged_q4.onnx"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("me/nothing", "cannot be downloaded: .*404"),
        ("me/text", "holds no weights that are read here"),
    ],
)
def test_what_is_not_there(name, said, hub):
    hub.files["me/text"] = {"README.md": b"#", "config.json": b"{}"}
    with pytest.raises(WorkError, match=f"^hf:{name}: {said}") as caught:
        snapshot(f"hf:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_file_that_changes_on_its_way(hub, folder):
    hub.files["me/toy"] = folder
    hub.damage = lambda name, data: data[::-1] if name == "model.safetensors" else data
    with pytest.raises(InputError, match="wrong hash"):
        snapshot("hf:me/toy")


@pytest.mark.slow
def test_without_a_network(hub, folder, nobody, at):
    with pytest.raises(
        WorkError, match=r"^hf:me/toy: cannot be downloaded: .*[Cc]onnect"
    ) as caught:
        dq.load("hf:me/toy")
    assert "\n" not in str(caught.value)
    hub.files["me/toy"] = folder
    address = constants.ENDPOINT
    at(hub.url)
    before = snapshot("hf:me/toy")
    at(address)
    assert snapshot("hf:me/toy") == before  # what is there is taken


def test_names():
    assert parse("hf:me/toy") == ("me/toy", None)
    assert parse("hf:me/toy@refs/pr/1") == ("me/toy", "refs/pr/1")
    for name in ("hf:", "hf:toy", "hf:me/", "hf:/toy", "hf:me/x y", "hf:a/b/c", "hf:me/toy@"):
        with pytest.raises(InputError, match=r"no name of a repository|no revision"):
            parse(name)
