"""The recipe's options: what is refused before any work, and what bash gets of the others."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_dq.bin import recipe
from espnet_dq.config import merge, parse_keys
from espnet_dq.errors import InputError
from tests.toys import RECIPE


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch, request):
    """dq.sh asks from its own folder. ESPnet, which takes seconds to answer, is asked once."""
    monkeypatch.chdir(RECIPE)
    if request.function is not test_espnet_is_asked_before_any_work:
        monkeypatch.setattr("espnet_dq.task.check.check", lambda *_: None)


def settle(given, caller="/"):
    """What dq.sh gets of options."""
    return recipe.settle(given, caller)


CSV = ("--corpus", "csv", "--data_root", __file__)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--corpsu", "x"], "unknown option --corpsu: the nearest is --corpus "),
        (["--corpus", "asterix"], "--corpus asterix: asterisk"),
        (["--corpus", "kaldi"], "--corpus kaldi needs --data_root"),
        (["--corpus=kaldi", "--data_root=/nope"], "--data_root /nope: no such folder"),
        (["--corpus=mls", "--data_root", "no pe"], "--data_root no pe: no such folder"),
        (["--corpus=kaldi", "--data_root", __file__], f"--data_root {__file__}: is no folder"),
        (["--teacher", "/nope/my.pt"], "--teacher /nope/my.pt: no such file"),
        (["--student", "no.pt"], "--student no.pt: no such file"),
        (["--grid", "no.yaml"], "--grid no.yaml: no such file"),
        (["--train_config", "no.yaml"], "--train_config no.yaml: no such file"),
        (["--qat_config", "/nope.yaml"], "--qat_config /nope.yaml: no such file"),
        (["--cmd", "no.sh"], "--cmd no.sh: no such file"),
        (["--expdir", __file__], f"--expdir {__file__}: is no folder"),
        (["--dumpdir", __file__], f"--dumpdir {__file__}: is no folder"),
        (["--cachedir", __file__], f"--cachedir {__file__}: is no folder"),
        (["--upload_to", "me"], "--upload_to me: USER/NAME"),
        (["--nj", "many"], "--nj many"),
        (["--systems", "student it"], "--systems: it: unknown"),
        (["--systems", "teacher"], "--systems teacher: without student"),
        (["--qat_arg=x=1"], "unknown option --qat_arg: the nearest is --qat_args "),
        (["corpus", "x"], "unknown option corpus: the nearest is --corpus "),
        (["--tag"], "--tag needs a value"),
        (["--grid="], "--grid needs a value"),
        (["--max_left_out", "500"], "--max_left_out 500: '500' is not a percentage, 0 to 100"),
        (["--max_left_out=nan"], "--max_left_out nan: "),
        (["--max_left_out=-1"], "--max_left_out -1: "),
        (["--temperature", "0.5"], "--temperature 0.5: '0.5' is not a number of 1 or more"),
        (["--max_hours", "0"], "--max_hours 0: "),
        (["--nj", "0"], "--nj 0: "),
        (["--num_nodes", "0"], "--num_nodes 0: "),
        (["--seed=-1"], "--seed -1: "),
        (["--seed", "20261129190342"], "--seed 20261129190342: '20261129190342' is above 4000000"),
        (["--stage", "1.5"], "--stage 1.5: "),
        (["--skip_train", "True"], "--skip_train True: true or false"),
        (["--mode", "qat"], "--mode qat: kd_qat or joint"),
        (["--grid", "uniform9"], "--grid uniform9: unknown grid: the nearest is uniform8 "),
        (["--also", "onnx_int"], "--also onnx_int: unknown grid: the nearest is onnx_int8 "),
        (["--also", "onnx_int8,ct2_in8"], "--also ct2_in8: unknown grid: the nearest is ct2_int8"),
        (["--also", "onnx_int8,"], "--also : unknown grid"),
        (["--also", "ct2_int8"], "--also ct2_int8: that is --grid, on which the student is tr"),
        (["--also", "onnx_int8,onnx_int8"], "--also onnx_int8,onnx_int8: onnx_int8 comes twice"),
        (["--student", "tiny.en"], "--student tiny.en: knows English only: tiny, base, small, "),
        (["--teacher", "bas"], "--teacher bas: no such file or folder, nor a name of OpenAI's (ti"),
        (["--teacher", __file__], f"--teacher: {__file__}: neither "),
        (["--student", str(RECIPE)], f"--student: {RECIPE}: holds neither "),
        (["--teacher", "hf:whisper"], "--teacher: whisper: no name of a repository (USER/NAME"),
        (["--teacher", "turbo", "--student", "large"], "--teacher turbo is smaller than --student"),
        (["--mode", "joint", "--qat_args", "max_epoch=2"], "--qat_args: --mode joint has one"),
        (["--mode", "joint", "--qat_config", "conf/qat_long.yaml"], "--qat_config: --mode joint "),
        (["--mode", "joint", "--merge", "1.0"], None),
        (["--mode", "joint", "--merge", "0.5"], "--merge: --mode joint has one training"),
        (["--mode", "joint", "--merge", "auto"], "--merge: --mode joint has one training"),
        (["--merge", "auto", "--canary", "none"], "--merge auto: the share is chosen by a canary"),
        (["--merge", "most"], "--merge most: 'most' is not a number"),
        (["--lr", "inf"], "--lr inf: 'inf' has no end"),
        (["--lr", "0"], "--lr 0: '0' is not a number above 0"),
        (
            ["--upload_to", "a/b", "--skip_pack", "true"],
            "--upload_to: stage 13 uploads, which",
        ),
        (["--stage", "14"], "--stage 14: is behind --stop_stage 13"),
        (["--stage", "9", "--stop_stage", "8"], "--stage 9: is behind --stop_stage 8"),
        (["--epochs", "inf"], "--epochs inf: a training without an end"),
        (["--systems", "student teacher student"], "--systems student teacher student: student c"),
        (["--train_args", "max_epoch"], "--train_args: 'max_epoch': KEY=VALUE is needed"),
        (["--train_args", ".lr=1"], "--train_args: '.lr=1': KEY=VALUE is needed"),
        (["--train_args", "max_epoch=2 max_epoch=3"], "--train_args: max_epoch is set twice"),
        (["--train_args", "optim_conf={} optim_conf.lr=1"], None),  # says the same once
        (["--train_args", "optim_conf.lr=1 optim_conf=3"], "--train_args: optim_conf is set twice"),
        (["--train_args", "optim=3 optim.lr=1"], "--train_args: optim.lr: optim is set, too"),
        (["--train_args", "optim_conf.lr=1e-5"], "--train_args: optim_conf.lr: '1e-5' is no num"),
        (["--train_args", "optim_conf=adam"], "--train_args: optim_conf: 'adam' is no mapping"),
        (["--qat_args", "seed=3"], "--qat_args: seed: that is set by the recipe"),
        (["--qat_args", "model_conf.grid=x"], "--qat_args: model_conf.grid: that is set by"),
        (
            ["--teacher", "tiny", "--student", "small"],
            "--teacher tiny is smaller than --student "
            "small, who learns from it: did you mean --teacher small --student tiny?",
        ),
        (["--language", "de"], "--language goes with --corpus csv or kaldi or lhotse_cuts or hf_"),
        (["--split=8/1/1"], "--split goes with --corpus csv or kaldi"),
        ([*CSV, "--language", "klingon"], "--language klingon: not a language of Whisper"),
        ([*CSV, "--split", "80:20"], "--split 80:20: not three whole numbers above 0, as in 80/"),
        (
            [*CSV, "--split=8/1/1", "--local_data_opts", "--split 8/1/1"],
            "--split: --local_data_opts",
        ),
        (
            [*CSV, "--language=de", "--local_data_opts", "--language=fr"],
            "--language: --local_data_opts",
        ),
        ([*CSV, "--split=8/1/1", "--local_data_opts", "--text_column 'my --split col'"], None),
        ([*CSV, "--local_data_opts", "--text_column 'my --untranscribed col'"], None),
        (["--train_args", "log_level=WARNING"], "--train_args: log_level: that is set by"),
        (["--train_args", "use_amp=true"], "conf/train.yaml: use_amp is for GPUs (--ngpu): on a"),
        (["--train_args", "use_amp=true", "--ngpu", "1"], None),
        (["--train_args", "use_amp=true", "--stop_stage", "5"], None),  # it trains elsewhere
        (["--train_args", "use_amp=true", "--stage", "8"], None),
        (["--expdir", "caf\udce9"], "--expdir caf\udce9: is not UTF-8"),
        (["--qat_args", "x='"], "--qat_args: No closing quotation"),
        ([*CSV, "--local_data_opts", "--x 'y"], "--local_data_opts: No closing quotation"),
        ([*CSV, "--local_data_opts", "--x 'y\nz'"], "--local_data_opts: a word of several lines"),
        (["--qat_args", "x=[1"], "--qat_args: x: '[1' is no YAML"),
        (["--qat_args", "x=2001-99-99"], "--qat_args: x: '2001-99-99' is no YAML"),
        (["--qat_args", "x=0x" + "f" * 9000], "--qat_args: x: '0xfff"),
    ],
)
def test_mistakes(words, said, tmp_path):
    given = ["--expdir", str(tmp_path), *words]
    exp = tmp_path / "asterisk_base_tiny_ct2_int8"
    exp.mkdir()
    (exp / "settings").touch()  # ESPnet was asked before
    if said is None:
        settle(recipe.read(given))
        return
    with pytest.raises(InputError) as error:
        settle(recipe.read(given))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("tag", "a,b", "ESPnet takes no path with : or , in it"),
     ("cachedir", "a/JOB", "JOB in a path would become a job's number")],
)  # fmt: skip
def test_paths_that_those_who_get_them_cannot_take(name, value, said, tmp_path):
    with pytest.raises(InputError, match=f"{value}: {said}"):
        settle({"expdir": str(tmp_path / "exp"), name: value})


def test_data_may_be_a_file_of_paths_and_texts(tmp_path):
    file = tmp_path / "x.csv"
    file.touch()
    given = ["--expdir", str(tmp_path), "--corpus", "csv", "--data_root", "x.csv"]
    exp = tmp_path / "csv_base_tiny_ct2_int8"
    exp.mkdir()
    (exp / "settings").touch()
    assert settle(recipe.read(given), str(tmp_path))["data_root"] == str(file)
    with pytest.raises(InputError, match=r"^--data_root x\.csv: is no folder"):
        settle(recipe.read([*given, "--corpus", "fleurs"]), str(tmp_path))
    file.unlink()
    with pytest.raises(InputError, match=r"^--data_root x\.csv: no such file or folder"):
        settle(recipe.read(given), str(tmp_path))


@pytest.mark.parametrize("folders", [["."], ["train"], ["train", "dev", "test"]])
def test_labels_in_place_of_texts(folders, tmp_path):
    """One Kaldi folder has texts for its test; of three, those of train and dev are not read."""
    for folder in folders:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "text").touch()
    given = ["--expdir", str(tmp_path), "--corpus", "kaldi", "--data_root", str(tmp_path)]
    exp = tmp_path / "kaldi_base_tiny_ct2_int8"
    exp.mkdir()
    (exp / "settings").touch()
    settled = settle(recipe.read([*given, "--labels", "replace"]))
    assert ("--untranscribed" in settled["local_data_opts"]) == (folders != ["."])


READS = """mapfile -d '' -t variables < <("$@"); wait $!\n"""
READS += re.search(r"(?ms)^    for variable in .*?done\n", (RECIPE / "dq.sh").read_text())[0]


def bash(script, *arguments):
    """What a script prints, cut at its null bytes."""
    command = ["bash", "-euc", script, "-", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_bash_reads_what_was_given(tmp_path):
    """Whatever a value holds, bash has it to the letter, and runs nothing of it."""
    odd = ["it's", 'a "b"', "$(touch here)`touch here`", "two\nlines", "-x", "*", "\\", "ß", "a=b"]
    names = ["data_name", "data_licence", "local_data_opts"]
    heard = """printf '%s\\0' "$data_name" "$data_licence" "$local_data_opts" "${#about_data[@]}" \
        "${about_data[@]}" "${also[@]}" "$command_line" """
    ours = [sys.executable, "-P", "-m", "espnet_dq.bin.recipe", "--caller", str(tmp_path)]
    ours += ["--expdir", str(tmp_path)]  # where no experiment has other settings
    for values in (odd[:3], odd[3:6], odd[6:]):
        words = [w for name, value in zip(names, values, strict=True) for w in (f"--{name}", value)]
        *said, line, _ = bash("also=mine; " + READS + heard, *ours, *words)
        about = [f"--{name}={value}" for name, value in zip(names[:2], values, strict=False)]
        assert said == [*values, "2", *about]
        *typed, _ = bash(f"run.sh() {{ printf '%s\\0' \"$@\"; }}; {line}")
        assert typed == words
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("cmd", "said"),
    [
        ("", "c.sh: cmd_backend=: local or slurm"),
        ("cmd_backend=pbs", "c.sh: cmd_backend=pbs: local or slurm"),
        ("cmd_backend=local", "c.sh: cmd_split is not set"),
        ("{}; unset cmd_threads", "c.sh: cmd_threads is not set"),
        ("{}; unset cmd_train_options", "c.sh: cmd_train_options is not set"),
        ("{}; cmd_split=yes", "c.sh: cmd_split=yes: true or false"),
        ("{}; cmd_threads=00", "c.sh: cmd_threads=00: not a whole number above 0"),
        ("{}; cmd_threads='4 8'", "c.sh: cmd_threads=4 8: not a whole number above 0"),
        ("{}; cmd_backend=slurm cmd_options='-C \"x'", "c.sh: cmd_options: No closing quotation"),
        (
            "{}; cmd_split=true cmd_train_options=\\'",
            "c.sh: cmd_train_options: No closing quotation",
        ),
        ("{}; unset cmd_split; cmd_backend=slurm", ""),
        ("{}; cmd_split=true cmd_options='-C \"x y\"'", ""),
        ("{}", ""),
    ],
)
def test_where_work_runs(cmd, said, tmp_path):
    """What lacks or is broken in a file for --cmd is said before any work."""
    lines = (RECIPE / "dq.sh").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith('. "$(realpath "$cmd")"'))
    last = lines.index("", first)
    (tmp_path / "c.sh").write_text(f". {RECIPE}/cmd.sh{cmd[2:]}\n" if "{}" in cmd else cmd)
    script = ['die() { echo "$*"; exit 2; }', "cmd=c.sh num_nodes=1", *lines[first:last]]
    done = subprocess.run(
        ["bash", "-euc", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (2 * bool(said), said, "")


def test_the_command_that_is_shown_makes_the_same_anew(tmp_path, capsys):
    """Not what was left to do when it was typed, nor where; and it is read as it stands."""
    words = ["--corpus", "debian7", "--stage", "8", "--nj=2", "--skip_train", "true", "--seed", "3"]
    words += ["--upload_to", "me/mine", "--cachedir", "/c", "--corpus", "asterisk", "--also"]
    words += ["uniform4_g16, onnx_int8", "--expdir", str(tmp_path)]
    recipe.main(["--caller", "/", *words])
    said = tmp_path / "said"
    said.write_text(capsys.readouterr().out)
    heard = """printf '%s\\0' "$command_line" "${also[@]}" "${scored[@]}" """
    line, *told, _ = bash(READS + heard, "cat", str(said))
    shown = "run.sh --corpus asterisk --seed 3 --also 'uniform4_g16, onnx_int8'"
    assert line == shown
    assert recipe.read(shlex.split(shown)[1:])["also"] == "uniform4_g16, onnx_int8"
    assert told == [
        "uniform4_g16",
        "onnx_int8",
        "untouched:faster-whisper:export/untouched",
        "teacher:faster-whisper:export/teacher",
        "untouched_rounded:faster-whisper:export/untouched_rounded",
        "teacher_rounded:faster-whisper:export/teacher_rounded",
        "float_student:faster-whisper:export/float_student",
        "student:faster-whisper:export/student",
        "student_torch:torch:qat/valid.loss.ave.pth",
        "rounded_uniform4_g16:torch:export/rounded_uniform4_g16.safetensors",
        "rounded_onnx_int8:onnx:export/rounded_onnx_int8",
    ]


@pytest.mark.parametrize(
    ("options", "drawn", "test"),
    [
        ({}, "dump/csv/SUM/raw/test", "dump/csv/SUM/raw/test"),
        ({"test_clips": "9"}, "EXP/data/test", "EXP/data/test"),
        ({"test_windows": "true"}, "dump/csv/SUM/raw/test", "EXP/data/test_windows"),
        ({"long": "split"}, *["dump/csv/SUM/raw_split_base/test"] * 2),
        ({"test_clips": "9", "test_windows": "true"}, "EXP/data/test", "EXP/data/test_windows"),
    ],
)
def test_where_data_are(options, drawn, test, tmp_path):
    """Of each corpus of the user's, and of each way to read it, in a folder of its own."""
    (tmp_path / "my ü.csv").touch()
    (tmp_path / "here").symlink_to("my ü.csv")
    words = "--text_column 'Spoken text'"
    given = {"corpus": "csv", "data_root": "here", "local_data_opts": words, "expdir": "exp"}
    settled = settle(given | {"dumpdir": "dump"} | options, str(tmp_path))
    # As a shell would say it.
    (sums,) = bash('printf "%s\\n%s" "$@" | sha256sum', f"{tmp_path}/my ü.csv", words)
    shown = {"SUM": sums[:10], "EXP": settled["exp"]}
    for name, path in (("data", "dump/csv/SUM/data"), ("drawn", drawn), ("test", test)):
        for placeholder, stands_for in shown.items():
            path = path.replace(placeholder, stands_for)
        assert settled[name] == str(tmp_path / path)
    assert settled["raw"] == os.path.dirname(settled["data"]) + (
        "/raw_split_base" if options.get("long") == "split" else "/raw"
    )
    assert settled["stamps"] == f"{tmp_path}/dump/canary"


def test_names_of_folders_stay(tmp_path):
    """What was prepared of a corpus, or fetched, is not prepared again."""
    settled = settle({"expdir": str(tmp_path)})
    assert settled["data"] == str(Path.cwd() / "dump/asterisk/data")


@pytest.mark.parametrize(
    ("options", "first", "learned"),
    [
        ({}, "kd", "merged.pth"),
        ({"merge": "1"}, "kd", "valid.loss.ave.pth"),
        ({"mode": "joint"}, "qat", "valid.loss.ave.pth"),
    ],
)
def test_what_the_training_on_the_grid_begins_with(options, first, learned, tmp_path):
    settled = settle({"expdir": str(tmp_path), **options})
    assert (settled["first"], settled["learned"]) == (first, learned)
    assert settled["checkpoint"] == "valid.loss.ave.pth"


def test_a_folder_whose_name_is_not_utf_8():
    """The shell would get another, which is made then."""
    with pytest.raises(InputError, match=r"^/tmp/caf.: is not UTF-8$"):
        recipe.main(["--caller", "/tmp/caf\udce9"])


def test_both_ways_to_write_an_option():
    """The last value counts; the order is that of the first ones, as the report shows it."""
    one = recipe.read(["--tag", "a", "--seed=3", "--tag=b", "--local_data_opts", "--language ja"])
    assert list(one.items()) == [("tag", "b"), ("seed", "3"), ("local_data_opts", "--language ja")]
    settled = settle(one | {"expdir": "e", "data_name": ""}, "/some where")
    assert settled["exp"] == "/some where/e/asterisk_base_tiny_ct2_int8_b"
    assert settled["dumpdir"] == "dump" and settled["train_config"] == "conf/train.yaml"


@pytest.mark.parametrize(
    ("grid", "known"),
    [
        ("ct2_int8", ["ct2", "faster-whisper", "student", "zeros"]),
        ("ggml_q5_0", ["ggml", "whisper.cpp", "student.bin", "silence"]),
        ("onnx_int8", ["onnx", "onnx", "student_onnx", "zeros"]),
        ("uniform4_g16", ["packed", "torch", "student.safetensors", "zeros"]),
    ],
)
def test_what_follows_from_a_grid(grid, known, tmp_path):
    settled = settle({"grid": grid, "expdir": str(tmp_path)})
    assert [settled[name] for name in ("format", "runtime", "exported", "padding")] == known


def test_few_bits_of_a_section_that_is_none(tmp_path):
    with pytest.raises(InputError, match="--qat_args: model_conf: None is no mapping"):
        settle({"grid": "ggml_q4_0", "expdir": str(tmp_path), "qat_args": "model_conf="})


def test_keys_go_into_the_configuration():
    """Those that are given change, and nothing else; what is none stays a file."""
    base = yaml.safe_load((RECIPE / "conf/train.yaml").read_text())
    keys = parse_keys("max_epoch=3 optim_conf.lr=1.0e-3 new='a b' model_conf.terms='{x: 0.5}'", "")
    changed = yaml.safe_load((RECIPE / "conf/train.yaml").read_text())
    merge(changed, keys, "")
    expected = base | {"max_epoch": 3, "new": "a b"}
    expected["optim_conf"] = base["optim_conf"] | {"lr": 0.001}
    expected["model_conf"] = base["model_conf"] | {"terms": {"x": 0.5}}
    assert changed == expected and keys["new"] == "a b"


@pytest.mark.slow
def test_espnet_is_asked_before_any_work(tmp_path):
    given = {"expdir": str(tmp_path), "qat_args": "batch_siz=2"}
    with pytest.raises(InputError, match=r"^conf/qat\.yaml with --qat_args: unrec.*batch_siz"):
        settle(given)
    given["qat_args"] = "batch_size=0"
    with pytest.raises(InputError, match=r"^conf/qat\.yaml with --qat_args: batch_size: 0 is not"):
        settle(given)
    given["qat_args"] = "batch_size=2"
    assert yaml.safe_load(settle(given)["qat_yaml"])["batch_size"] == 2
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["german", "de-DE", "deu", "de"])
def test_the_language_of_all(name, tmp_path):
    """By any of its names it is the same experiment, also where it was an option of data.sh's."""
    given = {"corpus": "csv", "data_root": __file__, "expdir": str(tmp_path), "split": "8/1/1"}
    settled = settle(given | {"language": name})
    assert settled["local_data_opts"] == "--language de --split 8/1/1"
    given["local_data_opts"] = "--text_column said"
    settled = settle(given | {"language": name})
    assert settled["local_data_opts"] == "--text_column said --language de --split 8/1/1"
