"""What the runtimes say is what openai-whisper and faster-whisper say when called plainly."""

import os
import shutil
import subprocess
import sys

import ctranslate2
import faster_whisper
import numpy as np
import pytest
import torch
import whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import read_scp, write_scp
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import InputError
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes import guess_runtime, load_runtime
from espnet_dq.whisper.weights import Weights


@pytest.fixture
def real_data(clips, tmp_path):
    """Kaldi folder of real clips in several languages, two of one language among them."""
    data = tmp_path / "data"
    table = {f"{lang}_{i}": (str(path), lang) for i, (path, lang, _) in enumerate(clips)}
    write_scp(data / "wav.scp", {utt: path for utt, (path, _) in table.items()})
    write_scp(data / "utt2lang", {utt: lang for utt, (_, lang) in table.items()})
    return data


@pytest.mark.slow
def test_torch_batches_give_openai_whispers_text(real_data, weights_dir, tmp_path):
    decode_folder(weights_dir / "tiny.pt", "torch", real_data, tmp_path / "out", threads=1)
    model = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu")
    languages = read_scp(real_data / "utt2lang")
    expected = {}
    for utt, path in read_scp(real_data / "wav.scp").items():
        result = whisper.transcribe(
            model,
            load_audio(path),
            language=languages[utt],
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            fp16=False,
        )
        expected[utt] = result["text"].strip()
    assert len(set(expected.values())) == len(expected)
    assert read_scp(tmp_path / "out/text") == expected


@pytest.mark.slow
def test_faster_whisper_workers_give_its_own_text(real_data, tiny_in, tmp_path):
    folder = tiny_in("ct2")
    decode_folder(folder, "faster-whisper", real_data, tmp_path / "out", threads=2, nj=2)
    model = faster_whisper.WhisperModel(str(folder), device="cpu", cpu_threads=1)
    languages = read_scp(real_data / "utt2lang")
    expected = {}
    for utt, path in read_scp(real_data / "wav.scp").items():
        segments, _ = model.transcribe(
            str(path),  # read by its own code, too
            language=languages[utt],
            task="transcribe",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
        )
        expected[utt] = " ".join(segment.text.strip() for segment in segments)
    assert len(set(expected.values())) == len(expected)
    assert read_scp(tmp_path / "out/text") == expected


@pytest.mark.slow
def test_faster_whisper_runs_without_pytorch(toy_models):
    script = "import sys; from espnet_dq.runtimes import load_runtime\n"
    script += "load_runtime('faster-whisper', sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", script, str(toy_models["faster-whisper"])]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.slow
def test_preset_paper_runs_with_its_float_encoder(make_toy, tmp_path):
    """CTranslate2 by itself would round the encoder of a file whose decoder is int8."""
    model = make_toy(0, 64, 1)
    weights = Weights(model.dims, model.state_dict())
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    heard = {}
    for preset, expected in (("none", "float32"), ("paper", "float32"), ("full", "int8_float32")):
        folder = tmp_path / preset
        quantized = quantize(weights.state, assign_grids(model.dims, "ct2_int8", preset))
        ctranslate2_writer.save(folder, weights, quantized, float_dtype="float16")
        runtime = load_runtime("faster-whisper", folder, threads=1)
        assert runtime.compute_type == expected
        features = ctranslate2.StorageView.from_array(mel.numpy())
        heard[preset] = np.array(runtime.model.model.encode(features))
    assert np.array_equal(heard["paper"], heard["none"])
    assert not np.allclose(heard["full"], heard["none"], atol=1e-3)


def test_threads_where_none_are_given(toy_models, monkeypatch):
    for said, expected in (("3", 3), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert load_runtime("faster-whisper", toy_models["faster-whisper"]).threads == expected
    for said in ("", "0", "all"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        runtime = load_runtime("faster-whisper", toy_models["faster-whisper"])
        assert runtime.threads == len(os.sched_getaffinity(0))
    assert load_runtime("faster-whisper", toy_models["faster-whisper"], threads=3).threads == 3


def test_runtime_is_guessed_from_the_path(toy_models):
    assert {guess_runtime(path) for path in toy_models.values()} == set(toy_models)
    assert all(guess_runtime(path) == name for name, path in toy_models.items())


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_faster_whisper_never_looks_for_a_model_elsewhere(missing, toy_models, tmp_path):
    folder = tmp_path / "ct2"
    shutil.copytree(toy_models["faster-whisper"], folder)
    (folder / missing).unlink()
    with pytest.raises(InputError, match=f"{folder}: .*{missing} is missing"):
        load_runtime("faster-whisper", folder)


def test_what_ctranslate2s_own_folders_lack_is_written_by_convert(toy_models, tmp_path):
    """Its converter copies a tokenizer only when asked to, and faster-whisper would fetch one."""
    folder = shutil.copytree(toy_models["faster-whisper"], tmp_path / "ct2")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=f"tokenizer.json is missing: .* --from {folder} --to ct2"):
        load_runtime("faster-whisper", folder)
    convert(["--from", str(folder), "--to", "ct2", "--out", str(tmp_path / "whole")])
    assert load_runtime("faster-whisper", tmp_path / "whole", threads=1).languages


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_truncated_model_is_named(name, toy_models, tmp_path):
    folder = tmp_path / "ct2"
    shutil.copytree(toy_models["faster-whisper"], folder)
    with open(folder / name, "r+b") as f:
        f.truncate((folder / name).stat().st_size // 2)
    with pytest.raises(InputError, match=f"{folder}: faster-whisper cannot load it"):
        load_runtime("faster-whisper", folder)


def test_truncated_checkpoint_is_named(toy_models, tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(toy_models["torch"].read_bytes()[:100_000])
    with pytest.raises(InputError, match=f"{path}: "):
        load_runtime("torch", path)
