"""Stock ESPnet commands through `python -m espnet_dq`."""

import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
import yaml

from espnet_dq.__main__ import main
from espnet_dq.config import QuantConfig
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.student.checkpoint import load_student
from espnet_dq.task import plugin
from espnet_dq.task.checkpoints import repair
from espnet_dq.task.plugin import register


def espnet(*command, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "espnet_dq", *map(str, command)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


@pytest.mark.parametrize("name", ["nonsense", "espnet2.bin.nonsense", "no.such.thing", ".bin", ""])
def test_a_module_that_is_not_there_is_one_line(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["espnet_dq", name, "--help"])
    with pytest.raises(InputError, match=f"there is no module '{re.escape(name)}'$"):
        main()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_train_resume_and_pack(train, trimmed, tmp_path):
    """A run that goes on after its first epoch ends with the same weights, projector included.

    Regression: the projection layers were left out of the saved state.
    """
    tensorboard = ("--use_tensorboard", "true")
    whole = train(tmp_path / "whole", *tensorboard, matching="dynamic", preset="full")
    assert list(whole.glob("tensorboard/train/events*"))
    a = torch.load(whole / "2epoch.pth", weights_only=True)
    start = torch.load(whole / "1epoch.pth", weights_only=True)
    assert a.keys() == start.keys()
    assert {"projector.weight", "projector.batches"} <= a.keys()
    assert not any("teacher" in k or "parametrizations" in k for k in a)
    del a["projector.term_weight"]  # not a number: the weight was given
    assert not torch.equal(a["projector.weight"], start["projector.weight"])
    assert not torch.equal(a["decoder.net.ln.weight"], start["decoder.net.ln.weight"])

    # Of a damaged checkpoint the one before is used, and training ends where it would have.
    half = shutil.copytree(whole, tmp_path / "half")
    last, model = half / "checkpoint.pth", half / "2epoch.pth"
    sound = last.read_bytes()
    damaged = bytearray(sound)
    damaged[len(sound) // 2] ^= 1
    last.write_bytes(damaged)
    model.write_bytes(b"torn")
    (half / "1epoch.pth").unlink()
    said = "\n".join(repair(half))
    assert "is damaged" in said
    assert "training goes on from the checkpoint before" in said and "1epoch.pth: is miss" in said
    train(half, matching="dynamic", preset="full")
    resumed = torch.load(model, weights_only=True)
    assert all(torch.equal(a[name], resumed[name]) for name in a)

    # A kill between a checkpoint and its epoch's model costs nothing.
    assert not repair(half)
    model.unlink()
    assert "2epoch.pth: is missing; written again" in repair(half)[0]
    again = torch.load(model, weights_only=True)
    assert all(torch.equal(a[name], again[name]) for name in a)
    # Without one it starts again, instead of failing for ever.
    for path in (last, half / "checkpoint.before.pth"):
        path.write_bytes(sound[:-1000])
    repair(half)
    assert not list(half.glob("*.pth"))

    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["encoder"] == "dq_whisper"
    student = load_student(whole)
    assert student.quant == QuantConfig("ct2_int8", preset="full")
    assert student.dims == openai.load(trimmed).dims  # its vocabulary, too
    assert torch.equal(student.state["decoder.ln.weight"], a["decoder.net.ln.weight"])

    pack = ["asr", "--asr_train_config", whole / "config.yaml", "--asr_model_file",
            whole / "2epoch.pth", "--outpath", tmp_path / "m.zip"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "espnet2.bin.pack", *pack], check=True)
    assert any(n.endswith("2epoch.pth") for n in zipfile.ZipFile(tmp_path / "m.zip").namelist())


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_stock_inference_decodes_russian(weights_dir, clips, tmp_path):
    """tiny through stock `asr_inference`, against openai-whisper's own greedy decoding."""
    import whisper

    from espnet_dq.bin.init_student import main as init_student

    register()
    from espnet2.tasks.asr import ASRTask

    tiny = str(weights_dir / "tiny.pt")
    init_student(["--from", tiny, "--teacher", tiny, "--grid", "ct2_int8", "--out", str(tmp_path)])
    args = ASRTask.get_parser().parse_args(
        ["--output_dir", str(tmp_path), "--token_list", str(tmp_path / "tokens.txt"),
         "--token_type", "bpe", "--bpemodel", "dq_whisper", "--encoder", "dq_whisper",
         "--decoder", "dq_whisper", "--model", "dq_whisper", "--preprocessor", "dq_whisper",
         "--input_size", "1", "--normalize", "none", "--model_conf", "alpha=0.0",
         "--model_conf", "preset=none",
         "--encoder_conf", "dims=tiny", "--decoder_conf", "dims=tiny",
         "--decoder_conf", "language=ru"]
    )  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    path, lang, _ = clips[4]
    assert lang == "ru"
    (tmp_path / "wav.scp").write_text(f"u1 {path}\n")
    espnet("-m", "espnet2.bin.asr_inference", "--ngpu", 0, "--beam_size", 1, "--ctc_weight", 0,
           "--maxlenratio", "-60", "--data_path_and_name_and_type",
           f"{tmp_path}/wav.scp,speech,sound", "--asr_train_config", tmp_path / "config.yaml",
           "--asr_model_file", tmp_path / "student.pth",
           "--output_dir", tmp_path / "out")  # fmt: skip
    found = (tmp_path / "out/1best_recog/text").read_text().split(maxsplit=1)[1].strip()
    model = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu")
    told = whisper.transcribe(
        model, load_audio(path), language="ru", without_timestamps=True, temperature=0.0, fp16=False
    )
    assert found == told["text"].strip()


@pytest.mark.slow
def test_registration_reaches_spawned_children():
    """ESPnet pickles `ASRTask.main_worker` for its children: it must name our function.

    That this one registers in a process in which nothing is imported, `test_ddp` shows.
    """
    register()
    from espnet2.tasks.asr import ASRTask

    assert pickle.loads(pickle.dumps(ASRTask.main_worker)) is plugin.main_worker


def test_usage_is_one_line():
    done = espnet(code=2)
    assert done.stderr.count("\n") == 1 and "usage" in done.stderr
