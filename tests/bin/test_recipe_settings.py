"""The settings of an experiment: what of them may change, and what is said of the rest."""

import json
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from espnet_dq.bin import recipe
from espnet_dq.data.kaldi import read_wav
from espnet_dq.errors import InputError
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.recipe import settings
from espnet_dq.recipe.options import DEFAULTS
from espnet_dq.whisper.dims import SIZES
from tests import toys
from tests.bin.test_recipe_options import in_the_recipe, settle  # noqa: F401 - a fixture
from tests.toys import RECIPE


@pytest.fixture
def experiment(tmp_path):
    """Function: options -> what bash gets as a run with them begins an experiment, or goes on."""

    def begin(**given):
        settled = settle({"expdir": str(tmp_path), **given})
        exp = Path(settled["exp"])
        texts = settings.check(exp, settled)
        (exp / "done").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (exp / name).write_text(f"{text}\n")
        return exp

    return begin


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": "7"}, "seed 0, now 7"),
        ({"max_hours": "2", "singles": "1"}, "singles 30, now 1; max_hours inf, now 2"),
        ({"steps": "70"}, "steps not set, now 70"),
        ({"labels": "check"}, "labels text, now check"),
        ({"train_args": "optim_conf.lr=1.0e-3"}, "train_config: optim_conf.lr 4e-05, now 0.001"),
        ({"qat_args": "x=[1]"}, "qat_config: x not set, now [1]"),
        ({"mode": "joint"}, "mode kd_qat, now joint; "),
        (
            {"mode": "joint", "train_config": "conf/train.yaml"},
            "mode kd_qat, now joint; qat_config of ",
        ),
    ],
)
def test_what_differs_is_named(given, said, experiment):
    exp = experiment()
    with pytest.raises(InputError) as error:
        experiment(**given)
    begin, end = f"{exp} was made with other settings: ", ": use --tag NAME, or remove it"
    assert str(error.value).startswith(begin + said) and str(error.value).endswith(end)
    experiment()
    experiment(nj="3", ngpu="1", cachedir="/c", max_left_out="50", data_name="x")


def test_a_canary_that_chooses_is_a_setting_of_the_training(experiment, tmp_path):
    own = str(toys.save_corpus(tmp_path / "corpus") / "test")
    experiment()
    said = r"settings: canary debian, now .*test; canary_content not set, now \w{16}: use --tag"
    with pytest.raises(InputError, match=said):
        experiment(canary=own)
    # What is trained can be scored on others, or on none, and a killed run goes on with them.
    for canary in (own, "none"):
        exp = experiment(canary=canary, stage="9")
        (exp / "done/7").touch()
        assert experiment(canary=canary) == exp
        assert json.loads((exp / "settings").read_text())["canary"] == "debian"
        assert json.loads((exp / "scoring").read_text())["canary"] == canary
    with pytest.raises(InputError, match="other settings: canary debian, now none: use --tag"):
        experiment(canary="none", stage="7")


def test_a_canary_that_has_changed(experiment, tmp_path):
    """Not only where it lies: what it holds chooses the share, and is scored."""
    own = toys.save_corpus(tmp_path / "corpus") / "test"
    exp = experiment(canary=str(own))
    clip = Path(next(iter(read_wav(own).values())))
    clip.write_bytes(clip.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(InputError, match=r"other settings: canary_content .*, now .*: use --tag"):
        experiment(canary=str(own))
    for done in ("7", "9"):
        (exp / "done" / done).touch()
    with pytest.raises(InputError, match=r"scored with other settings: canary_content .*--stage 9"):
        experiment(canary=str(own))
    experiment(canary=str(own), stage="9")


def test_a_number_is_the_same_however_it_is_written(experiment, tmp_path):
    given = {"merge": "0.5", "max_hours": "2.5", "temperature": "1.5"}
    exp = experiment(**given | {"merge": "0.50"})
    assert experiment(merge=".50", max_hours="2.50", temperature="15e-1") == exp
    assert settle({"expdir": str(tmp_path), **given})["merge"] == "0.50"  # as it began
    for one, other in (
        ("12e4567890123456", "34e5678901234567"),
        ("9007199254740993", "9007199254740992"),
    ):
        assert not settings.same_number(one, other)  # hashes
    assert recipe.read(["--merge", "1.0", "--lr=2.0"]) == {"merge": "1", "lr": "2"}
    with pytest.raises(InputError, match=r"merge 0\.50, now 0\.51"):
        experiment(**given | {"merge": "0.51"})


def test_a_file_of_ranges_is_a_setting(experiment, tmp_path):
    """Found in the folder of who calls, and by what it holds."""
    ranges = tmp_path / "ranges.json"
    layers = [name.removesuffix(".weight") for name in assign_grids(SIZES["tiny"], "ct2_int8")]
    entries = {layer: {"range": 1.0} for layer in layers if ".conv" not in layer}
    ranges.write_text(json.dumps({"layers": entries}))
    keys = f"model_conf.activations=int8_static model_conf.activation_ranges={ranges}"
    exp = experiment(stage="0", qat_args=keys)
    named = keys.replace(str(ranges), ranges.name)
    texts = [settle({"qat_args": k, "expdir": str(tmp_path)}, str(tmp_path)) for k in (keys, named)]
    assert texts[0]["qat_yaml"] == texts[1]["qat_yaml"]
    later = settle({"qat_args": keys.replace(ranges.name, "x.json"), "expdir": "/no"}, "/tmp")
    assert f"activation_ranges: {tmp_path / 'x.json'}" in later["qat_yaml"]  # not there yet
    ranges.write_text(ranges.read_text().replace("1.0", "2.0", 1))
    with pytest.raises(InputError, match=r"other settings: qat_ranges .*, now "):
        experiment(qat_args=keys)
    assert (exp / "settings").exists()


def test_an_experiment_keeps_its_share(experiment):
    exp = experiment(canary="none")
    assert experiment(stage="9") == exp  # on Debian's canary
    with pytest.raises(InputError, match=r"other settings: merge 1, now 0\.5: use --tag"):
        experiment(canary="none", merge="0.5")


@pytest.mark.parametrize(
    ("given", "merge"),
    [
        ({}, "auto"),
        ({"canary": "none"}, "1"),
        ({"mode": "joint"}, "1"),
        ({"train_args": "encoder_conf.window=random"}, "1"),
        ({"merge": "0.5"}, "0.5"),
    ],
)
def test_what_is_merged_by_default(given, merge, experiment):
    exp = experiment(**given)
    assert json.loads((exp / "settings").read_text())["merge"] == merge


def test_without_apt_it_is_said_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "a.csv").touch()
    given = {"corpus": "csv", "data_root": "a.csv", "expdir": "exp", "dumpdir": "dump"}
    monkeypatch.setattr("espnet_dq.recipe.settle.which", lambda _: None)
    monkeypatch.setattr("espnet_dq.recipe.settle.glob", lambda _: [])  # whatever is there by now
    with pytest.raises(InputError, match="--canary debian: apt-get fetches it, which is not here"):
        settle(given, str(tmp_path))
    assert settle(given | {"canary": "none"}, str(tmp_path))["merge"] == "1"
    assert settle(given | {"merge": "0.5"}, str(tmp_path))["merge"] == "0.5"
    (tmp_path / "dump/canary/parts").mkdir(parents=True)  # fetched before
    assert settle(given, str(tmp_path))["merge"] == "auto"


def test_grids_in_a_file_are_settings(experiment, tmp_path):
    grids = tmp_path / "grids.yaml"
    grids.write_text("decoder.token_embedding.weight: uniform4\n")
    experiment(grid=str(grids))
    grids.write_text("decoder.token_embedding.weight: uniform8\n")
    with pytest.raises(
        InputError, match=r"grids: decoder\.token_embedding\.weight uniform4, now u"
    ):
        experiment(grid=str(grids))


@pytest.fixture
def folder(tmp_path):
    """What looks like a model of Hugging Face's: more is not asked before any work."""
    path = tmp_path / "mine/checkpoint-9"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text("weights")
    return path


def test_models_that_one_has(folder, tmp_path):
    """Where their checkpoints are, how the experiment and the reports call them."""
    name = f"hf:me/my-whisper@{'a' * 40}"
    for given, called, checkpoint, shown in (
        ("base", "base", "downloads/weights/base.pt", "base"),
        ("openai:turbo", "turbo", "downloads/weights/turbo.pt", "turbo"),
        (name, "my-whisper", f"downloads/weights/me--my-whisper--{'a' * 40}.pt", name),
        ("mine/checkpoint-9/", "checkpoint-9", "downloads/weights/checkpoint-9-*.pt",
         "checkpoint-9/"),
    ):  # fmt: skip
        settled = settle({"teacher": given, "expdir": "e"}, str(tmp_path))
        assert Path(settled["exp"]).name == f"asterisk_{called}_tiny_ct2_int8"
        assert settled["teacher_name"] == called and settled["teacher_shown"] == shown
        assert fnmatchcase(settled["teacher_pt"], checkpoint)
        openais = checkpoint.endswith(("base.pt", "turbo.pt"))
        assert settled["teacher_own"] == ("" if openais else settled["teacher_pt"])
    folder.rename(tmp_path / "tiny")
    settled = settle({"teacher": "./tiny", "expdir": "e"}, str(tmp_path))
    assert settled["teacher_shown"] == "tiny/"
    for name in ("tiny", "tiny/"):  # by the one rule: what is here comes first
        found = settle({"teacher": name, "expdir": "e"}, str(tmp_path))
        assert found["teacher_pt"] == settled["teacher_pt"] and settled["teacher_own"]
    # Nor is the student that run.sh names such a folder.
    ours = dict(
        re.findall(r"^(teacher|student)=(\S+)", (RECIPE / "run.sh").read_text(), re.MULTILINE)
    )
    for given in (ours, {}):
        found = settle(given | {"expdir": "e"}, str(tmp_path))
        assert found["student_pt"] == "downloads/weights/tiny.pt" and found["student"] == "tiny"
    found = settle({"teacher": "openai:tiny", "expdir": "e"}, str(tmp_path))
    assert found["teacher_pt"] == "downloads/weights/tiny.pt" and not found["teacher_own"]


def test_teachers_of_one_name_have_data_of_their_own(experiment, tmp_path):
    """What they split and label."""
    called = {}
    for seed, (name, file, stem) in enumerate(
        [("a", "best.pt", "best"), ("b", "best.pt", "best"), ("c", "best-v2.1", "best-v2.1")]
    ):
        (tmp_path / name).mkdir()
        model = toys.make_model(state=32, layers=1, seed=seed)
        path = str(toys.save_model(tmp_path / name / file, model))
        exp = experiment(teacher=path, tag=name)
        called[name] = settle({"teacher": path, "tag": name, "expdir": str(tmp_path)})["of_teacher"]
        known = json.loads((exp / "settings").read_text())
        assert called[name] == f"{stem}-{known['teacher_content']}"
    assert called["a"] != called["b"]
    assert settle({"teacher": "base", "expdir": str(tmp_path)})["of_teacher"] == "base"


def test_a_model_that_has_changed(folder, experiment):
    """A folder or a file under the same name."""
    experiment(teacher=str(folder))
    experiment(teacher=f"{folder}/")
    (folder / "trainer.log").write_text("x")
    experiment(teacher=str(folder))
    (folder / "model.safetensors").write_text("other weights")
    with pytest.raises(InputError, match=r"other settings: teacher_content \w{16}, now \w{16}:"):
        experiment(teacher=str(folder))


def test_what_is_scored_may_change(experiment):
    """Before anything is decoded, or with --stage 9; what was scored stays so with the others."""
    exp = experiment()
    other = {"test_clips": "40", "systems": "student"}
    experiment(**other)
    experiment()
    (exp / "done/9").touch()
    said = (
        f"{exp} was scored with other settings: test_clips 0, now 40; systems "
        f"{DEFAULTS['systems']}, now student: --stage 9 scores again, without training"
    )
    for stage in ("0", "10", "12"):
        with pytest.raises(InputError) as error:
            experiment(**other, stage=stage)
        assert str(error.value) == said
    for allowed in ({"stop_stage": "8"}, {"stage": "13"}, {"skip_eval": "true"}, {"stage": "2"}):
        experiment(**other, **allowed)
        experiment(stage="9")
    experiment(**other, stage="9")
    experiment(**other)


def test_damaged_settings(experiment):
    """A key that is not there is a difference; what is no JSON is named, and nothing goes."""
    exp = experiment()
    known = json.loads((exp / "settings").read_text())
    for key, said in (("long", "long not set, now drop"), ("merge", "merge not set, now auto")):
        (exp / "settings").write_text(json.dumps({k: known[k] for k in known if k != key}))
        with pytest.raises(InputError, match=f"was made with other settings: {said}: use --tag"):
            experiment()
    (exp / "settings").write_text(json.dumps(known | {"merge": ["auto"]}))
    with pytest.raises(InputError, match=r"other settings: merge \['auto'\], now auto: use --tag"):
        experiment()
    for name in ("scoring", "settings"):
        whole = json.dumps(known)
        for text, why in (
            (whole[:40], ":1: not JSON: .*"),
            ("", ":1: not JSON: .*"),
            ("[]", ": not a JSON object"),
        ):
            (exp / "settings").write_text(whole)
            (exp / name).write_text(text)
            with pytest.raises(InputError, match=rf"{name}{why}: use --tag NAME, or remove {exp}$"):
                experiment()


def test_data_on_a_disk_that_is_not_there(experiment, tmp_path):
    """An experiment that has read them goes on, as audio without text if that is what it was."""
    root = tmp_path / "away"
    (root / "train").mkdir(parents=True)
    given = {"corpus": "kaldi", "data_root": str(root), "labels": "replace"}
    exp = experiment(**given)
    root.rename(tmp_path / "there")
    with pytest.raises(InputError, match=f"--data_root {root}: no such folder"):
        experiment(**given)
    (exp / "done/1").touch()
    experiment(**given)
    with pytest.raises(InputError, match=f"--data_root {root}: no such folder"):
        experiment(**given, stage="1")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_another_key_is_another_setting(tmp_path):
    """As another configuration file is: the folder of an experiment takes none."""
    command = [str(RECIPE / "run.sh"), "--expdir", str(tmp_path), "--dumpdir",
               str(tmp_path / "dump"), "--stop_stage", "0"]  # fmt: skip
    assert subprocess.run(command, capture_output=True).returncode == 0
    (exp,) = tmp_path.glob("asterisk*")
    before = {path: path.read_text() for path in exp.iterdir() if path.is_file()}
    said = subprocess.run([*command, "--train_args", "max_epoch=2"], capture_output=True, text=True)
    assert (
        said.returncode == 2 and "made with other settings: train_config: max_epoch " in said.stderr
    )
    assert {path: path.read_text() for path in exp.iterdir() if path.is_file()} == before
