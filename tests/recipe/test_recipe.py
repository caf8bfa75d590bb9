"""The recipe from a Kaldi corpus to a report, with toy models: every stage, and a second run."""

import fcntl
import html
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import espnet_dq as dq
from espnet_dq.data.audio import load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.student.checkpoint import CHECKPOINT
from tests import toys
from tests.toys import RECIPE


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """train, dev and test of noise, in two languages."""
    return toys.save_corpus(tmp_path_factory.mktemp("my data"))


def command(folder: Path, *options: str) -> list[str]:
    return [str(RECIPE / "run.sh"), "--expdir", str(folder / "exp"), "--dumpdir",
            str(folder / "dump"), "--canary", "none", *options]  # fmt: skip


def run(folder: Path, *options: str, code: int = 0) -> str:
    done = subprocess.run(
        command(folder, *options),
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


@contextmanager
def run_that_waits(lock: Path, words: str, said: Path, *given: str) -> Iterator[None]:
    """Begin a run while another has a lock; the block is entered once it has said that it waits."""
    with open(lock) as file, open(said, "w") as err:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = subprocess.Popen(command(said.parent, *given), stderr=err)
        deadline = time.monotonic() + 60
        while words not in said.read_text():
            assert time.monotonic() < deadline and second.poll() is None, said.read_text()
            time.sleep(0.02)
        yield
    assert second.wait(120) == 0


def save_canary(data_root: Path, folder: Path) -> Path:
    """A user's own folder of other voices; beside it toys in the place of Debian's."""
    test = KaldiDir.load(data_root / "test")
    for name, lang, count in (
        ("tuxpaint_others", "ru", 1),
        ("tuxpaint", "ro", 1),
        ("own", None, 2),
    ):
        data = KaldiDir()
        for utt in sorted(test.wav)[1 : 1 + count]:
            own = f"{name}-{utt}"
            speaker = "bob" if lang is None else own  # nobody knows
            data.add(own, test.wav[utt], test.text[utt], speaker, lang or test.utt2lang[utt])
        data.save(folder / ("own" if lang is None else f"dump/canary/parts/{name}"))
    return folder / "own"


def _check_canary(canary: dict, exp: Path) -> None:
    assert list(canary["systems"]) == ["student", "teacher", "untouched"]
    noise = ["other voices, babble at 10 dB", "other voices, stationary noise at 10 dB"]
    for of in canary["systems"].values():
        assert list(of["kinds"]) == ["other voices", "other languages", *noise]
        assert of["kinds"]["other languages"].keys() == {"mean", "tuxpaint ro"}
        voices = {"mean", "own en", "own ru", "tuxpaint_others ru"}
        assert all(of["kinds"][kind].keys() == voices for kind in ("other voices", *noise))
        assert of["words_a_minute"]["silence"] > 0  # toys always say something
    assert canary["systems"]["untouched"]["kinds"]["other voices"]["mean"]["ratio"] == 1
    for name in ("RESULTS.md", "report.html"):
        shown = html.unescape((exp / name).read_text(encoding="utf-8"))
        assert "Other people, other languages, noise" in shown and "tuxpaint_others ru" in shown


def _check_merged(exp: Path, results: dict) -> float:
    """The share of kd that --merge auto took; the training on the grid began there."""
    found = results["merge"]
    assert {"0.25", "0.5", "0.75"} <= {*found["tried"]}
    for kinds in found["tried"].values():
        assert list(kinds) == ["dev", "other voices", "other languages"]
    assert found["together"][f"{found['share']:g}"] <= found["together"]["0.5"]
    for name in ("RESULTS.md", "report.html"):
        assert "Where the training on the grid began" in (exp / name).read_text(encoding="utf-8")
    start, trained, merged = (
        torch.load(exp / name) for name in ("init/student.pth", f"kd/{CHECKPOINT}", "kd/merged.pth")
    )
    share = found["share"]
    for name, weight in start.items():
        mean = (1 - share) * weight.double() + share * trained[name].double()
        assert torch.equal(merged[name], mean.float())
    return share


def _check_rounded(exp: Path) -> None:
    """Few bits are rounded by clips of the training's data, and said to be; others are not."""
    student, grid = dq.load(exp / "export/student.pt"), "uniform4_g16"
    wanted = dq.quantize(student, grid, exp / "data/train").quantized
    nearest = dq.quantize(student, grid).quantized
    for file in (f"export/rounded_{grid}", f"publish/rounded_{grid}/model"):
        found = dq.load(exp / f"{file}.safetensors").quantized
        assert found.keys() == wanted.keys()
        assert all(torch.equal(q.integers, wanted[name].integers) for name, q in found.items())
    assert any(not torch.equal(q.integers, nearest[name].integers) for name, q in wanted.items())
    how = "by clips of its training data"
    for name, by_clips in ((grid, True), ("onnx_int8", False)):
        assert (how in (exp / f"publish/rounded_{name}/README.md").read_text()) == by_clips
        assert (exp / f"export/rounded_{name}_by_clips.safetensors").exists() == by_clips
    assert f"rounded to {grid} {how}, not trained on it" in (exp / "RESULTS.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_every_stage(trim, tmp_path):
    data_root = toys.save_corpus(tmp_path / "my data")
    changed = "preprocessor_conf: {voice: 0.5, room: 0.5, noise: 0.5, line: 0.5}\n"
    (tmp_path / "train.yaml").write_text(toys.config("tuning/train_language") + changed)
    qat = toys.config("qat").replace("    preset: full", "    preset: full\n    ranges: gptq")
    (tmp_path / "qat.yaml").write_text(qat)
    large_v3 = dict(mels=128, n_vocab=51866)  # what it hears and says, in a fine-tune's folder
    heard, student = (
        toys.save_model(
            tmp_path / f"{name}.pt", toys.ending(toys.make_model(text_ctx=128, **given))
        )
        for name, given in (("v3", dict(seed=1, state=32, layers=3) | large_v3), ("my_student", {}))
    )
    teacher = dq.save(dq.load(heard), tmp_path / "my_teacher", to="hf")
    # ESPnet writes every token into each configuration, and many commands read these.
    shutil.copy(trim(student, [word for words in toys.WORDS.values() for word in words]), student)
    options = [
        "--corpus", "kaldi", "--data_root", str(data_root), "--teacher", str(teacher),
        "--student", str(student), "--train_config", str(tmp_path / "train.yaml"),
        "--qat_config", str(tmp_path / "qat.yaml"), "--singles", "2", "--nj", "1",
        "--cachedir", str(tmp_path / "shared"),
        "--systems", "untouched teacher untouched_rounded student student_torch",
        "--data_name", "Ann's voice", "--data_licence", "CC0-1.0",
        "--also", "onnx_int8, uniform4_g16", "--canary", str(save_canary(data_root, tmp_path)),
    ]  # fmt: skip
    run(tmp_path, *options, "--stop_stage", "10")
    run(tmp_path, *options, "--stage", "12")  # stage 11 has its own test
    (exp,) = (tmp_path / "exp").iterdir()
    assert exp.name == f"kaldi_{teacher.stem}_{student.stem}_ct2_int8"
    results = json.loads((exp / "results.json").read_text())
    assert results["parity"]["mismatched"] == 0 and results["parity"]["tensors"] > 50
    roles = {s["name"]: s["role"] for s in results["systems"]}
    assert roles["student"] == roles["student_torch"] == "student"
    assert set(roles) >= {"untouched", "teacher", "untouched_rounded"}
    for system in results["systems"]:
        assert set(system["wer"]) == {"en", "ru", "mean"} and system["utterances"] == 4
        assert system["bytes_on_disk"] > 0
    assert (exp / "report.html").stat().st_size > 10_000
    _check_canary(results["canary"], exp)
    assert results["data_name"] == "Ann's voice" and results["data_licence"] == "CC0-1.0"
    cards = [*exp.glob("publish/*/README.md")]
    assert len(cards) == 5
    for grid in ("onnx_int8", "uniform4_g16"):
        assert roles[f"rounded_{grid}"] == "student_rounded"
        assert "not trained on" in (exp / f"publish/rounded_{grid}/README.md").read_text()
        assert (exp / f"verify_rounded_{grid}.txt").read_text().endswith(" 0 mismatched\n")
    _check_rounded(exp)
    for path in (exp / "report.html", exp / "RESULTS.md", *cards):
        shown = html.unescape(path.read_text(encoding="utf-8"))
        assert str(tmp_path) not in shown and str(Path.home()) not in shown, path
        assert "Ann's voice" in shown and "CC0-1.0" in shown
        # What decides the result, each option once, in its order, without the folders.
        begin = "run.sh --corpus kaldi --teacher "
        end = "--train_config train.yaml --qat_config qat.yaml --singles 2 --systems "
        assert shown.count("--corpus") == 1 and begin in shown and end in shown
        given = "--grid ct2_int8 --canary DIR --data_root DIR"
        assert given in shown and "--stop_stage" not in shown
        assert "--data_name 'Ann'\"'\"'s voice' --data_licence CC0-1.0" in shown
        assert "train.yaml qat.yaml" in shown
    assert "teacher: `my_teacher/`, a folder of the user's" in cards[0].read_text()
    assert "start: `my_student.pt`, a file of the user's" in cards[0].read_text()
    assert (exp / "espnet_model.zip").is_file()
    log = (exp / "kd/train.log").read_text()
    assert "[train] Batch sampler: FoldedBatchSampler" in log
    assert log.index("0epoch results: [valid]") < log.index("1/1epoch started")  # dev comes first
    assert "dev was best after" in (exp / "RESULTS.md").read_text().lower()
    trained, rounded = (torch.load(exp / name) for name in (f"kd/{CHECKPOINT}", "init/rounded.pth"))
    name = "decoder.net.blocks.0.mlp.0.weight"
    assert not torch.equal(trained[name], rounded[name]) and f"{name}_range" in rounded
    assert "init/rounded.pth" in (exp / "qat/run.sh").read_text()
    merged = _check_merged(exp, results)
    # dq.distil is the same training, and chooses the same share.
    parts = tmp_path / "dump/canary/parts"
    canary = {name: parts / name for name in ("tuxpaint_others", "tuxpaint")}
    canary["own"] = tmp_path / "own"
    ours = dq.distil(
        data_root / "train", data_root / "dev", teacher, student, tmp_path / "ours",
        train_config=[tmp_path / "train.yaml", tmp_path / "qat.yaml"], singles=2, nj=1,
        canary=canary,
    )  # fmt: skip
    assert json.loads((tmp_path / "ours/merge.json").read_text())["share"] == merged
    for name in ("model.bin", "vocabulary.json", "config.json"):
        assert (ours / name).read_bytes() == (exp / "export/student" / name).read_bytes()
    for name in ("kd", "qat"):
        one, other = (torch.load(f / name / CHECKPOINT) for f in (exp, tmp_path / "ours"))
        assert one.keys() == other.keys()
        for key, tensor in one.items():  # NaN: a weight that is set in the first step, if at all
            assert torch.equal(tensor.nan_to_num(), other[key].nan_to_num()), key
    log = (tmp_path / "ours/qat/train.log").read_text()
    finished = dq.distil(
        data_root / "train", data_root / "dev", teacher, student, tmp_path / "ours",
        train_config=[tmp_path / "train.yaml", tmp_path / "qat.yaml"], singles=2, canary=canary,
    )  # fmt: skip
    assert finished == ours and (tmp_path / "ours/qat/train.log").read_text() == log
    shared = ("data/train", "data/dev", "cache/train", "cache/dev", "decode/teacher",
              "decode/untouched_rounded")  # fmt: skip
    assert {path.name for path in (exp / "decode").iterdir() if not path.is_symlink()} == {
        "student", "student_torch", "rounded_onnx_int8", "rounded_uniform4_g16"
    }  # fmt: skip
    for path in shared:
        assert (exp / path).is_symlink() and (exp / path).resolve().is_dir()
        assert (exp / path).resolve().parents[1] == tmp_path / "shared"

    said = run(tmp_path, *options, "--stop_stage", "10")  # what is finished is not done again
    assert said.count("finished before") == 10 and "done in" not in said
    assert "other settings" in run(tmp_path, *options, "--seed", "7", code=2)
    said = run(tmp_path, *options, "--also", "uniform8", code=2)
    assert "also onnx_int8, uniform4_g16, now uniform8: --stage 9 scores again" in said

    # Going on from that student: its float weights, which lie on no grid.
    for kept in (RECIPE / "downloads/weights").glob(f"{exp.name}-*"):  # by an earlier run of this
        kept.unlink()
    said = run(tmp_path, *options, "--student", str(exp), "--tag", "on", "--skip_data", "true",
               "--skip_train", "true", "--stop_stage", "3")  # fmt: skip
    assert f"made of {exp} (a training's float weights)" in said
    (further,) = (tmp_path / "exp").glob("*_on")
    start, trained = torch.load(further / "init/student.pth"), torch.load(exp / "qat" / CHECKPOINT)
    assert start.keys() <= trained.keys() and len(start) > 50
    assert all(torch.equal(tensor, trained[name]) for name, tensor in start.items())

    # Another sound under an old name: what was made of the old one is made again, from the new one.
    run(tmp_path, *options, "--stage", "10", "--stop_stage", "10")
    assert (exp / "done/9").exists() and not (exp / "done/12").exists()
    made = [exp / name for name in ("data/train/utt2sha256", "cache/train/cache.json",
                                    "kd/valid.loss.ave.pth")]  # fmt: skip
    before = [path.read_bytes() for path in made]
    clip = min(KaldiDir.load(data_root / "train").wav.values())
    save_wav(Path(clip), load_audio(clip) / 2)
    run(tmp_path, *options, "--stage", "1", "--stop_stage", "5")
    content = json.loads((exp / "settings").read_text())["teacher_content"]
    checkpoint = RECIPE / f"downloads/weights/{teacher.name}-{content}.pt"  # made of its folder
    checkpoint.unlink()
    run(tmp_path, *options, "--stage", "6", "--stop_stage", "6")
    assert checkpoint.exists()
    for path, old in zip(made, before, strict=True):
        assert path.read_bytes() != old, path
    # Nothing is made of what the student before has left.
    assert (exp / "results.json").exists() and (exp / "decode/student/text").exists()
    for stage, needed in ((8, 7), (9, 8), (10, 9), (12, 10)):
        said = run(tmp_path, *options, "--stage", str(stage), code=2)
        assert f"stage {needed} is not finished: run --stage {needed}" in said


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_usage_and_mistakes(tmp_path):
    assert "unknown option --corpsu" in run(tmp_path, "--corpsu", "x", code=2)
    assert "no.pt: no such file" in run(tmp_path, "--student", "no.pt", code=2)
    assert "needs --data_root" in run(tmp_path, "--corpus", "kaldi", code=2)
    assert not (tmp_path / "exp").exists()
    assert "needs cmd_backend=slurm in cmd.sh" in run(tmp_path, "--num_nodes", "2", code=2)
    (tmp_path / "cmd.sh").write_text("cmd_backend=pbs\n")
    cmd = str(tmp_path / "cmd.sh")
    assert "cmd_backend=pbs: local or slurm" in run(tmp_path, "--cmd", cmd, code=2)
    done = subprocess.run([str(RECIPE / "run.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--stage", "--skip_train", "--corpus", "--grid", "--tag", "--upload_to"):
        assert option in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_data_that_another_run_makes_meanwhile(data_root, save_toy, tmp_path):
    toy = str(save_toy(seed=0))
    options = ["--corpus", "kaldi", "--data_root", str(data_root), "--teacher", toy, "--student",
               toy, "--nj", "1"]  # fmt: skip
    making, enough = "data.sh:", "has made what this one needs"
    assert making in run(tmp_path, *options, "--tag", "first", "--stop_stage", "2")
    (made,) = (tmp_path / "dump").rglob(".made")
    content = made.read_text()
    for tag, last, more, needed in (
        ("same", "2", [], False),
        ("other", "1", ["--max_left_out", "7"], True),
        ("asked", "1", ["--stage", "1"], True),
    ):
        said, given = tmp_path / tag, [*options, *more, "--tag", tag, "--stop_stage", last]
        made.write_text(content)
        words = "is making the data: waiting"
        with run_that_waits(made.with_name(".lock"), words, said, *given):
            made.write_text(f"1{content}")
        assert (making in said.read_text()) == needed != (enough in said.read_text())
        # Gone where data are being made, else as it was left.
        assert made.exists() != needed and (needed or made.read_text() == f"1{content}")
    first, same = (tmp_path / "exp").glob("*/data/train/text")
    assert first.read_bytes() == same.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_data_that_have_changed(save_toy, tmp_path):
    """In the source, or where two experiments share them; and a source that is gone."""
    toy, root = str(save_toy(seed=0)), toys.save_corpus(tmp_path / "my data")
    options = ["--corpus", "kaldi", "--data_root", str(root), "--teacher", toy, "--student", toy,
               "--nj", "1", "--stop_stage", "2"]  # fmt: skip
    run(tmp_path, *options)
    assert "finished before" in run(tmp_path, *options)
    text = root / "train/text"
    before = text.read_text()
    text.write_text(before.replace("alpha", "zulu"))
    said = run(tmp_path, *options, code=2).splitlines()[-1]
    assert f"{root}: has changed since stage 1 read it: 4 recordings with another text" in said
    run(tmp_path, *options, "--tag", "new")
    text.write_text(before)
    said = run(tmp_path, *options, code=2).splitlines()[-1]
    assert "another experiment has made these data again: 4 recordings with another text" in said
    run(tmp_path, *options, "--stage", "1")
    root.rename(tmp_path / "away")
    said = run(tmp_path, *options)
    assert f"warning: {root}: is not there" in said and said.count("finished before") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_audio_only_and_what_training_needs(data_root, save_toy, tmp_path):
    """Stage 1 of folders without text; a training that cannot begin leaves the markers alone."""
    toy, root = str(save_toy(seed=0)), tmp_path / "data"
    for split in ("train", "dev", "test"):
        KaldiDir.load(data_root / split).save(root / split)
    (root / "dev/text").unlink()
    options = ["--corpus", "kaldi", "--data_root", str(root), "--teacher", toy, "--student", toy,
               "--nj", "1"]  # fmt: skip
    said = run(tmp_path, *options, "--local_data_opts", "--untranscribed", code=2)
    assert "--labels replace is needed" in said
    options += ["--labels", "replace"]
    run(tmp_path, *options, "--stop_stage", "1")
    (text,) = (tmp_path / "dump").rglob("data/train/text")
    assert all(len(line.split()) == 1 for line in text.read_text().splitlines())
    (exp,) = (tmp_path / "exp").iterdir()
    (exp / "done/6").touch()
    for finished, said in (
        ([], "stage 3 is not finished: run --stage 3"),
        ([3, 5], "stage 4 is not finished: run --stage 4, or --skip_teacher_pass true"),
        ([4], "no windows: run --stage 2"),
    ):
        for stage in finished:
            (exp / f"done/{stage}").touch()
        assert said in run(tmp_path, *options, "--stage", "6", code=2)
        assert (exp / "done/6").exists()
    # What jobs of a killed run have done counts for the stage that goes on, not for others.
    for part in ("train", "dev"):
        (exp / "data" / part).mkdir(parents=True)
        for table in ("utt2sha256", "text", "utt2lang"):
            (exp / "data" / part / table).touch()
    (exp / "done/2").touch()
    (exp / "done/4").unlink()
    (exp / "cache/train").mkdir(parents=True)
    (exp / "cache/windows").write_text("1 2\n")
    ended = [exp / f"logs/{stage}/.x.JOB.log/1.code" for stage in (2, 4, 5)]
    for path in ended:
        path.parent.mkdir(parents=True)
        path.touch()
    said = run(tmp_path, *options, "--stop_stage", "4", code=2)
    assert "data/dev/wav.scp: no such file" in said and "stage 4: teacher pass" in said
    assert [path.exists() for path in ended] == [True, True, False]
    # The teacher's answers to other windows go, before it is asked for those to the present ones;
    # where these cannot be read they stay.
    assert not (exp / "cache/train").exists() and (exp / "cache/windows").exists()
    (exp / "cache/train").mkdir()
    (exp / "data/dev/text").unlink()
    said = run(tmp_path, *options, "--stage", "4", "--stop_stage", "4", code=2)
    assert "data/dev/text: No such file or directory" in said and (exp / "cache/train").exists()
    assert [path.exists() for path in ended] == [True, False, False]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_run_waits_for_what_a_killed_one_left_at_work(save_toy, tmp_path, monkeypatch):
    """Here, and on Slurm, of which these are stand-ins."""
    for name, does in (
        ("scancel", 'echo "$0 $*" >> asked'),
        ("squeue", "grep -q scancel.*$3 asked || echo $3"),
    ):
        toys.save_program(tmp_path / name, f"cd {tmp_path}; {does}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    toy = str(save_toy(seed=0))
    options = ["--teacher", toy, "--student", toy, "--stop_stage", "0"]
    run(tmp_path, *options)
    (exp,) = (tmp_path / "exp").iterdir()
    left, settings = exp / ".model.tmp-host-123-0a1b2c3d.pt", (exp / "settings").stat().st_mtime_ns
    left.touch()
    notes = [exp / part / "slurm" for part in ("kd/.train.log", "logs/2/.format.JOB.log")]
    for number, note in enumerate(notes, 7):
        note.parent.mkdir(parents=True)
        note.write_text(str(number))
    words = "is at work there: waiting for it"
    with run_that_waits(exp / ".lock", words, tmp_path / "said", *options):
        assert left.exists() and not (tmp_path / "asked").exists()
    assert not left.exists() and not any(note.exists() for note in notes)
    asked = (tmp_path / "asked").read_text()
    assert all(f"scancel {number}\n" in asked for number in (7, 8))
    # Nothing that decides about an experiment is written again, so no kill can cut it short.
    assert (exp / "settings").stat().st_mtime_ns == settings


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_folder_that_is_no_experiment_is_left_alone(save_toy, tmp_path):
    """Where an experiment would be cleaned and made again, a user's own files stand."""
    toy = str(save_toy(seed=0))
    options = ["--teacher", toy, "--student", toy, "--stop_stage", "0"]
    run(tmp_path, *options)
    (exp,) = (tmp_path / "exp").iterdir()
    settings = (exp / "settings").read_text()
    shutil.rmtree(exp)
    (exp / "cache").mkdir(parents=True)
    mine = [exp / "cache/windows", exp / ".x.tmp12", exp / ".y.tmp-host-1-0a1b2c3d"]
    for path in mine:
        path.write_text("mine")
    assert "is no experiment, it holds" in run(tmp_path, *options, code=2)
    assert sorted(exp.iterdir()) == sorted([exp / "cache", *mine[1:]])
    assert {path.read_text() for path in mine} == {"mine"}
    # In an experiment only what a killed run has left goes, by the whole form of its name.
    (exp / "settings").write_text(settings)
    run(tmp_path, *options)
    assert mine[1].exists() and not mine[2].exists()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_preset_that_the_format_cannot_hold_stops_before_training(save_toy, tmp_path):
    toy, config = str(save_toy(seed=0)), tmp_path / "qat.yaml"
    text = (RECIPE / "conf/qat.yaml").read_text()
    config.write_text(text.replace("preset: full", "preset: paper"))
    options = ["--teacher", toy, "--student", toy, "--qat_config", str(config)]
    said = run(tmp_path, *options, "--grid", "ggml_q8_0", "--skip_data", "true", code=2)
    assert f"{config}: preset paper does not fit ggml" in said.splitlines()[-1]


# Last: pytest-xdist lets nobody steal what a worker has next, and this takes as long as the first.
@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_joint_on_broken_data(data_root, trim, tmp_path):
    """On the grid from the first step, decoder only; broken clips and texts are counted."""
    root = tmp_path / "data"
    for split in ("train", "dev", "test"):
        data = KaldiDir.load(data_root / split)
        if split == "train":
            cut, mute, wordless, *_ = sorted(data.wav)
            content = Path(data.wav[cut]).read_bytes()
            for utt, wrong in ((cut, content[:900]), (mute, content[:44] + bytes(32000))):
                copy = tmp_path / f"{utt}.wav"
                copy.write_bytes(wrong)
                data.wav[utt] = str(copy)
            data.text[wordless] = ""
        data.save(root / split)
    config = toys.config("joint").replace("full\npre", "paper\npre")
    assert config.count("preset: paper") == 1
    config = config.replace("use_matplotlib: false\n", "")  # here they are drawn
    (tmp_path / "joint.yaml").write_text(config)
    toy = toys.save_model(tmp_path / "toy.pt", toys.ending(toys.make_model(text_ctx=128)))
    toy = trim(toy, [word for words in toys.WORDS.values() for word in words])
    options = [
        "--corpus", "kaldi", "--data_root", str(root), "--teacher", str(toy), "--student",
        str(toy), "--mode", "joint", "--train_config", str(tmp_path / "joint.yaml"),
        "--singles", "2", "--nj", "1", "--systems", "student", "--test_clips", "1",
        "--test_windows", "true",
    ]  # fmt: skip
    said = run(tmp_path, *options, "--stop_stage", "2", code=2).splitlines()[-1]
    assert "more than --max_left_out 10 %" in said and "left_out.tsv" in said
    options += ["--max_left_out", "20"]
    run(tmp_path, *options, "--stop_stage", "10")
    run(tmp_path, *options, "--stage", "12", "--stop_stage", "12")
    (exp,) = (tmp_path / "exp").iterdir()
    assert not (exp / "kd").exists()
    results = json.loads((exp / "results.json").read_text())
    assert [(s["name"], s["utterances"]) for s in results["systems"]] == [("student", 2)]
    assert {p.name for p in (exp / "decode").iterdir()} == {"student"}
    assert json.loads((exp / "run.json").read_text())["data"] == str(exp / "data/test_windows")
    drawn, scored = (KaldiDir.load(exp / "data" / name) for name in ("test", "test_windows"))
    assert sorted(drawn.text.values()) == sorted(scored.text.values()) and len(drawn.wav) == 2
    assert (
        drawn.wav.items() <= KaldiDir.load(next((tmp_path / "dump").rglob("raw/test"))).wav.items()
    )
    report = json.loads((exp / "verify.json").read_text())
    assert report["mismatched"] == 0
    grids = {row["name"]: row["grid"] for row in report["rows"]}
    assert grids["encoder/layer_0/ffn/linear_0/weight"] == "float16"
    assert grids["decoder/layer_0/ffn/linear_0/weight"] == "ct2_int8"
    page = (exp / "report.html").read_text()
    assert "1 silence" in page and "truncated audio" in page and "empty text" in page
    # What is scored may change without training again.
    log = (exp / "qat/train.log").read_bytes()
    other = [*options, "--test_clips", "2", "--test_windows", "false"]
    said = run(tmp_path, *other, code=2).splitlines()[-1]
    assert "was scored with other settings: test_clips 1, now 2; test_windows true, now fal" in said
    run(tmp_path, *other, "--stage", "9", "--stop_stage", "10")
    run(tmp_path, *other, "--stage", "12", "--stop_stage", "12")
    results = json.loads((exp / "results.json").read_text())
    assert [s["utterances"] for s in results["systems"]] == [4]
    assert "--test_clips 2 --test_windows false --max" in (exp / "RESULTS.md").read_text()
    assert (exp / "qat/train.log").read_bytes() == log
    (listed,) = (tmp_path / "dump").rglob("raw/left_out.tsv")
    assert [line.split("\t")[0] for line in listed.read_text().splitlines()[1:]] == [
        cut, wordless, mute,
    ]  # fmt: skip
