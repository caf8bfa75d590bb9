"""The command's files and errors, and what stage 3 and the runtimes make of the files."""

import json

import numpy as np
import pytest
import torch
import whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.init_student import main as init_student
from espnet_dq.bin.make_student import main
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.write import write
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.forward import encode, log_mel
from tests import toys


@pytest.fixture
def data(tmp_path):
    """A Kaldi folder of four short noises."""
    data, random = KaldiDir(), torch.Generator().manual_seed(0)
    for utt in "abcd":
        save_wav(tmp_path / f"{utt}.wav", (torch.randn(4000, generator=random) * 0.1).numpy())
        data.add(utt, tmp_path / f"{utt}.wav", f"this is {utt}", utt, "en")
    data.save(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.slow
def test_a_student_of_fewer_layers_and_channels(save_toy, data, tmp_path):
    """openai-whisper loads it strictly and runs it, and stage 3 takes it."""
    source, student = str(save_toy(seed=0, state=128, layers=3)), tmp_path / "student.pt"
    options = ["--encoder_layers", "2", "--decoder_layers", "1", "--width", "64"]
    assert main(["--from", source, "--out", str(student), *options, "--data", str(data)]) == 0
    model = whisper.load_model(str(student), device="cpu")
    dims = model.dims
    assert (dims.n_audio_layer, dims.n_text_layer, dims.n_audio_state, dims.n_text_head) == (
        2,
        1,
        64,
        1,
    )
    with torch.no_grad():
        logits = model(torch.zeros(1, 80, 3000), torch.tensor([[50258, 50259]]))
    assert logits.shape == (1, 2, 51865) and logits.isfinite().all()
    options = ["--teacher", source, "--grid", "ct2_int8", "--out", str(tmp_path / "init")]
    assert init_student(["--from", str(student), *options]) == 0


def test_all_of_it_is_the_source_in_its_own_precision(weights_dir, data, tmp_path):
    """Whatever is asked for in full: layers by number or by list, and the width."""
    source, student = weights_dir / "tiny.pt", tmp_path / "student.pt"
    options = ["--encoder_layers", "4", "--decoder_layers", "0,1,2,3", "--width", "384"]
    main(["--from", str(source), "--out", str(student), *options, "--data", str(data)])
    first, last = (torch.load(p, weights_only=True) for p in (source, student))
    assert first["dims"] == last["dims"]
    assert first["model_state_dict"].keys() == last["model_state_dict"].keys()
    for name, tensor in last["model_state_dict"].items():
        assert tensor.dtype == torch.float16
        assert torch.equal(first["model_state_dict"][name], tensor), name


@pytest.mark.parametrize(
    "options,message",
    [
        (["--decoder_layers", "3"], r"toy0_128_2\.pt: --decoder_layers 3 layers: there are 2"),
        (["--encoder_layers", "0,2"], r"toy0_128_2\.pt: --encoder_layers layer 2: there are 2"),
        (["--decoder_layers", "all"], "--decoder_layers all: neither a number"),
        (["--width", "96", "--data", "."], r"toy0_128_2\.pt: --width 96: a multiple of 64"),
        (["--width", "192", "--data", "."], "--width 192: .* 128 at most"),
        (["--width", "64"], "--width and --data go together"),
        (["--data", "."], "--width and --data go together"),
        (["--width", "64", "--data", "nowhere"], "nowhere"),
        (["--out", "student.bin"], r"--out student\.bin: .* takes a \.pt file"),
    ],
)
def test_mistakes(save_toy, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    source = str(save_toy(seed=0, state=128, layers=2))
    with pytest.raises(InputError, match=message):
        main(["--from", source, "--out", "student.pt", *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "form,place,runtime",
    [
        ("ct2", "cut", "faster-whisper"),
        ("ggml", "cut.bin", "whisper.cpp"),
        ("onnx", "cut", "onnx"),
    ],
)
def test_runtimes_take_an_unusual_depth(make_toy, tmp_path, form, place, runtime):
    """3 encoder and 2 decoder layers, which no Whisper has: it says what it says in torch."""
    source, cut = toys.save_model(tmp_path / "toy.pt", toys.ending(make_toy(layers=4))), "cut.pt"
    options = ["--encoder_layers", "3", "--decoder_layers", "2", "--out", str(tmp_path / cut)]
    main(["--from", str(source), *options])
    write(form, tmp_path / place, openai.load(tmp_path / cut), {}, "float16")
    noise = [np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)]
    said, expected = (
        load_runtime(name, tmp_path / path, threads=1).decode(noise, "it")
        for name, path in ((runtime, place), ("torch", cut))
    )
    assert said == expected and len(said[0].text.split()) > 3


@pytest.mark.slow
def test_a_student_that_hears_15_s(make_toy, tmp_path):
    """Its encoder is the source's on the first half; faster-whisper gets windows of 15 s."""
    tiny, out = toys.save_model(tmp_path / "toy.pt", toys.ending(make_toy())), tmp_path / "short.pt"
    assert main(["--from", str(tiny), "--seconds", "15", "--out", str(out)]) == 0
    short, long = (whisper.load_model(str(p), device="cpu") for p in (out, tiny))
    assert short.dims.n_audio_ctx == 750
    audio = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
    mel = log_mel(audio[None], torch.tensor([len(audio)]), 80, 15 * 16000)
    with torch.no_grad():
        assert torch.equal(short.encoder(mel), encode(long.encoder, mel))

    ct2 = tmp_path / "ct2"
    convert(["--from", str(out), "--to", "ct2", "--out", str(ct2)])
    assert json.loads((ct2 / "preprocessor_config.json").read_text())["chunk_length"] == 15
    runtime = load_runtime("faster-whisper", ct2, 1, 1)
    assert runtime.window == 15
    text = runtime.decode([audio.numpy()], "ru")
    assert text == load_runtime("torch", out, 1, 1).decode([audio.numpy()], "ru") and text[0].text
    with pytest.raises(InputError, match="--seconds 30: the window must be 1 s"):
        main(["--from", str(tiny), "--seconds", "30", "--out", str(out)])
