"""What dq.sh goes through, and words of commands: those read them as they were meant."""

from pathlib import Path

import pytest

from espnet_dq.bin import describe, format_data, make_data, plan, report
from espnet_dq.recipe.lists import lists
from espnet_dq.recipe.settle import settle
from tests import toys
from tests.toys import RECIPE


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch):
    """dq.sh asks from its own folder; ESPnet is not asked."""
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr("espnet_dq.task.check.check", lambda *_: None)


@pytest.fixture
def given(tmp_path):
    """Lists that follow from options."""
    return lambda **options: lists(settle({"expdir": str(tmp_path / "exp"), **options}, "/"))


def test_names_of_columns_may_have_spaces(given):
    for text, words in (
        ("--text_column 'Spoken text' --audio_column \"File name\"",
         ["--text_column", "Spoken text", "--audio_column", "File name"]),
        ("--x '$(touch here)*' --y a\\ b", ["--x", "$(touch here)*", "--y", "a b"]),
        ('--x "a\\"b" ""', ["--x", 'a"b', ""]), ("--languages de,sv", ["--languages", "de,sv"]),
        ("", []),
    ):  # fmt: skip
        told = given(local_data_opts=text)["make_data"]
        command = ["local/data.sh", "--corpus", "asterisk", "--downloads", "downloads"]
        assert told[told.index("--") + 1 :] == command + words


def test_of_a_corpus_of_the_users(given, tmp_path):
    (tmp_path / "a corpus").mkdir()
    root = str(tmp_path / "a corpus")
    told = given(corpus="kaldi", data_root=root, labels="replace", long="split", allow_pipes="true",
                 max_left_out="7", dumpdir=str(tmp_path))  # fmt: skip
    args = make_data.get_parser().parse_args(["--warn", *told["make_data"]])
    assert args.apart == [str(tmp_path), str(tmp_path / "exp")]
    assert args.command == ["local/data.sh", "--corpus", "kaldi", "--downloads", "downloads",
                            "--data_root", root, "--untranscribed", "--allow_pipes"]  # fmt: skip
    args = format_data.get_parser().parse_args(told["format_data"])
    assert (args.data, args.out.name) == (args.out.with_name("data"), "raw_split_base")
    assert args.untranscribed and args.allow_shared_text and args.allow_pipes
    assert (args.long, args.aligner.name, args.max_left_out) == ("split", "base.pt", 7)
    args = format_data.get_parser().parse_args(given()["format_data"])
    assert not (args.untranscribed or args.allow_shared_text or args.allow_pipes)
    assert (args.long, args.aligner, args.max_left_out) == ("drop", None, 10)


def test_what_is_scored_is_described(given, tmp_path):
    told = given(also="onnx_int8, uniform4_g16", systems="student teacher", seed="3")
    words = [*told["describe"], "--command", "run.sh"]
    args = describe.get_parser().parse_args(words)
    assert (args.systems, args.also) == (["student", "teacher"], ["onnx_int8", "uniform4_g16"])
    assert (args.systems, args.also) == (told["systems"], told["also"])
    assert (args.corpus, args.seed, args.config) == ("asterisk", 3, "conf/train.yaml conf/qat.yaml")
    assert (args.teacher_name, args.student_name) == ("base", "tiny")
    assert args.data == args.formatted / "test" and args.prepared.name == "data"


@pytest.mark.parametrize("options", [{}, {"steps": "70", "qat_steps": "7"}, {"epochs": "1.5"}])
def test_lengths(options, given):
    words = ["--data", "train", "dev", "--out", "x", "--grid", "g", "--", *given()["configs"]]
    args = plan.get_parser().parse_args([*given(**options)["lengths"], *words])
    for name in ("steps", "epochs", "qat_steps"):
        assert str(getattr(args, name)) == options.get(name, "None")


def test_configurations(given, tmp_path):
    assert given()["configs"] == ["conf/train.yaml", "conf/qat.yaml"]
    assert given(mode="joint")["configs"] == ["conf/joint.yaml"]
    own = str(tmp_path / "exp/asterisk_base_tiny_ct2_int8/train_config.yaml")
    assert given(train_args="grad_clip=0.25")["configs"] == [own, "conf/qat.yaml"]


def test_what_the_canary_is_made_of(given, tmp_path):
    parts = f"{Path.cwd()}/dump/canary/parts"
    others = f"tuxpaint_others={parts}/tuxpaint_others"
    told = given()
    assert told["stamp_sets"] == [others, f"tuxpaint={parts}/tuxpaint"] and not told["own_sets"]
    assert given(corpus="debian13")["stamp_sets"] == [others]  # it is trained on the other
    own = toys.save_corpus(tmp_path / "own") / "dev"
    told = given(canary=str(own))
    assert told["own_sets"] == [f"own={own}"] and told["stamp_sets"][0] == others


def test_names_that_begin_with_a_dash(given):
    """The commands of the last stages take them, behind hours of work."""
    told = given(data_name="-mine", data_licence="-x y")
    args = report.get_parser().parse_args(["--exp", "e", *told["about_data"]])
    assert (args.data_name, args.data_licence) == ("-mine", "-x y")


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {2: "1", 3: "2", 4: "2", 5: "2", 6: "3 4 5", 7: "3 4 5 6", 8: "7", 9: "8", 10: "9",
              11: "9", 12: "10", 13: "8"}),
        ({"skip_data": "true"}, {2: "", 3: "", 4: "", 5: "", 6: "3 4 5"}),
        ({"skip_teacher_pass": "true"}, {4: "2", 6: "3 5", 7: "3 5 6"}),
        ({"skip_train": "true"}, {2: "1", 3: "", 8: "", 9: "8"}),
        ({"mode": "joint"}, {6: "3 4 5", 7: "3 4 5", 8: "7"}),
    ],
)  # fmt: skip
def test_what_each_stage_goes_on_with(options, needs, given):
    told = given(**options)["needs"]
    assert len(told) == 14 and {stage: told[stage] for stage in needs} == needs
