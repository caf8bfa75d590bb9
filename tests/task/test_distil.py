"""`dq.distil`: what does not fit is one line, before the work.

That it trains as the recipe does is shown where the recipe runs: tests/recipe/test_recipe.py.
"""

import inspect
import json
from pathlib import Path

import pytest

import espnet_dq as dq
from espnet_dq.api import training
from espnet_dq.api.training import CONFIGS, SETTINGS
from espnet_dq.bin.distil import get_parser, main
from espnet_dq.data.kaldi import read_wav
from espnet_dq.data.pack import Balance
from espnet_dq.errors import InputError
from espnet_dq.formats.format import Format
from espnet_dq.quant.prepare import assign_grids, candidates
from espnet_dq.recipe.settle import settle
from espnet_dq.whisper.dims import SIZES
from espnet_dq.whisper.weights import EMBEDDING
from tests import toys


@pytest.fixture(scope="module")
def given(tmp_path_factory, save_toy) -> dict:
    """A corpus, two models and a training of few steps."""
    folder = toys.save_corpus(tmp_path_factory.mktemp("given"))
    (folder / "qat.yaml").write_text(toys.config("qat"))
    models = {"teacher": save_toy(seed=1, state=32, layers=3), "student": save_toy()}
    data = {name: folder / name for name in ("train", "dev")}
    return {**data, **models, "train_config": [folder / "qat.yaml"]}


def test_the_recipes_configurations_come_along():
    for path, name in zip(CONFIGS, ("train", "qat"), strict=True):
        assert path.read_text() == (toys.RECIPE / f"conf/{name}.yaml").read_text()


def test_what_does_not_fit_is_one_line_and_leaves_nothing(given, tmp_path):
    for change, message in (
        ({"train": tmp_path / "no"}, "no: no such folder"),
        ({"dev": given["train"]}, "is in both train and dev"),
        ({"canary": tmp_path / "no", "train_config": None}, "no: no such folder"),
        ({"canary": given["dev"]}, "canary: nothing is chosen by it"),
        ({"canary": given["dev"], "train_config": None, "merge": 0.5}, "canary: nothing is chosen"),
        ({"teacher": tmp_path / "no.pt"}, r"no\.pt: no such file"),
        ({"student": "openai:tini"}, "known models are tiny"),
        ({"train_config": [tmp_path / "no.yaml"]}, r"no\.yaml: no such file"),
        ({"train_config": CONFIGS * 2}, "train_config: 4, not one or two"),
        ({"grid": str(tmp_path / "no.yaml")}, r"no\.yaml: no such file"),
        ({"merge": 1.5}, "merge: 1.5 is not a number of 0 to 1"),
        ({"merge": "0.5"}, "merge: '0.5' is not a number"),
        ({"steps": -5}, "steps: -5 is not a whole number of 1 or more"),
        ({"out": tmp_path / "a:b"}, "ESPnet takes no path with : in it"),
        ({"out": given["train"]}, "is not empty"),
    ):
        with pytest.raises(InputError, match=message) as error:
            dq.distil(**{"out": tmp_path / "exp", **given, **change})
        assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_an_experiment_has_one_set_of_settings(given, tmp_path):
    out = tmp_path / "exp"
    for grid, message in (("ct2_int9", "unknown grid"), ("uniform4_g7", "no multiple of 7")):
        with pytest.raises(InputError, match=message):
            dq.distil(**given, out=out, grid=grid, nj=1)
        assert [path.name for path in out.iterdir()] == [SETTINGS]  # which the next may replace
    (out / "raw").mkdir()
    for change, key in (({"seed": 1}, "seed"), ({"grid": "uniform4"}, "grid")):
        with pytest.raises(InputError, match=rf"exp: made with other settings \({key}\): give"):
            dq.distil(**given, out=out, **{"grid": "uniform4_g7", **change})
    clip = Path(next(iter(read_wav(given["train"]).values())))
    clip.write_bytes(clip.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(InputError, match=r"made with other settings \(audio\): give"):
        dq.distil(**given, out=out, grid="uniform4_g7")
    whole = (out / SETTINGS).read_text()
    for text, why in (
        (json.dumps({k: v for k, v in json.loads(whole).items() if k != "merge"}),
         r"exp: made with other settings \(merge\): give"),
        (whole[:40], rf"{SETTINGS}:\d+: not JSON"),
        ("[]", f"{SETTINGS}: not a JSON object"),
    ):  # fmt: skip
        (out / SETTINGS).write_text(text)
        with pytest.raises(InputError, match=why):
            dq.distil(**given, out=out, grid="uniform4_g7")
        assert (out / "raw").is_dir()


@pytest.mark.parametrize("grids", [["ggml_q4_0"], ["ggml_q8_0", "ggml_q4_0"]], ids=len)
def test_a_table_is_trained_for_pytorch_as_the_recipe_does(given, grids, tmp_path, monkeypatch):
    """Also one of whisper.cpp's grids: its file would hold but one of them, for all matrices."""

    class Begun(Exception):
        pass

    def begin(*of):
        raise Begun(of)

    monkeypatch.setattr(training, "_Steps", begin)
    table = tmp_path / "grids.yaml"
    of = dict.fromkeys(candidates(SIZES["tiny"]), "none") | assign_grids(SIZES["tiny"], grids[0])
    table.write_text(json.dumps(of | {EMBEDDING: grids[-1]}))
    with pytest.raises(Begun) as begun:
        dq.distil(**given, out=tmp_path / "exp", grid=str(table), nj=1)
    (form,) = (each for each in begun.value.args[0] if isinstance(each, Format))
    monkeypatch.chdir(toys.RECIPE)
    settled = settle({"grid": str(table), "expdir": str(tmp_path)}, "/")
    ours = [settled[name] for name in ("format", "padding", "exported")]
    assert ours == [form.name, form.padding, form.exported]
    assert ours == ["packed", "zeros", "student.safetensors"]


def test_the_command_has_the_functions_defaults():
    taken = {name: p.default for name, p in inspect.signature(dq.distil).parameters.items()}
    parser = get_parser()
    for name in ("grid", "train_config", "singles", "seed", "nj", "ngpu"):
        assert parser.get_default(name) == taken[name], name
    assert Balance(*map(parser.get_default, ("temperature", "max_hours"))) == Balance()


def test_the_command_hands_each_option_on(monkeypatch, tmp_path):
    said = {}

    def called(*args, **kwargs):
        said.update(inspect.signature(dq.distil).bind(*args, **kwargs).arguments)
        return tmp_path

    monkeypatch.setattr("espnet_dq.bin.distil.distil", called)
    given = {"teacher": "t", "student": "s", "grid": "uniform4"}
    given |= {"singles": 3, "steps": 4, "qat_steps": 5, "merge": 0.5, "seed": 6, "nj": 7, "ngpu": 8}
    paths = {name: tmp_path / name for name in ("train", "dev", "out", "canary")}
    words = [word for name, value in (given | paths).items() for word in (f"--{name}", str(value))]
    assert (
        main(
            [*words, "--epochs", "1.5", "--train_config", "a.yaml", "b.yaml", "--temperature", "2"]
        )
        == 0
    )
    configs, balance = said.pop("train_config"), said.pop("balance")
    assert [path.name for path in configs] == ["a.yaml", "b.yaml"] and balance.temperature == 2
    assert said == given | paths | {"epochs": 1.5}
