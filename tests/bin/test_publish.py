"""Folders ready to publish: verified, described with the measured numbers, and they run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib import metadata

import faster_whisper
import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from whisper.tokenizer import get_tokenizer

from espnet_dq.api import publishing as module
from espnet_dq.bin.publish import main as publish
from espnet_dq.bin.transcribe import main as transcribe
from espnet_dq.errors import InputError, WorkError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect, integers
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.transformers_js import TransformersJs
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.report.model_card import render
from espnet_dq.report.origin import data_of
from espnet_dq.student.checkpoint import CHECKPOINT, load_student
from espnet_dq.whisper.dims import SIZES
from tests.report.fake_hub import TOKEN, Hub
from tests.report.made_up import build

pytestmark = pytest.mark.usefixtures("warm")  # files run in a process of their own
FIRST, END = 1000, 50257  # tokens; the last is <|endoftext|>
# After the prompt of four tokens, up to the tenth.
SAID = get_tokenizer(multilingual=True).decode(list(range(FIRST + 3, FIRST + 10)))


def experiment(folder, make_toy, grid, audio_ctx=1500):
    """A made-up report beside a toy student."""
    exp = build(folder, clips=2)
    run = json.loads((exp / "run.json").read_text())
    systems = []
    for system in run["systems"]:
        rates = {"en": 10.0, "ru": 20.5, "mean": 15.25}
        measured = {"wer": rates, "cer": rates, "utterances": 24, "data": run["data"]}
        measured["unit"] = {"en": "words", "ru": "words"}
        systems.append(system | measured)
    (exp / "results.json").write_text(json.dumps({"systems": systems}))
    minutes = {
        code: {"given": 9.0, "heard": n} for code, n in (("en", 9.0), ("cs", 0.0), ("fr", 1))
    }
    (exp / "data/train.minutes.json").write_text(json.dumps(minutes))
    model = make_toy(seed=7, text_ctx=64, audio_ctx=audio_ctx)
    with torch.no_grad():
        # Strong positions decide each token: SAID, then the end.
        embedding, positions = (
            model.decoder.token_embedding.weight,
            model.decoder.positional_embedding,
        )
        positions.copy_(20 * embedding[FIRST : FIRST + len(positions)])
        positions[10:] = 20 * embedding[END]
    state = {k.replace(".", ".net.", 1): v for k, v in model.state_dict().items()}
    (exp / "qat").mkdir(exist_ok=True)
    torch.save(state, exp / "qat" / CHECKPOINT)
    config = {
        "encoder": "dq_whisper",
        "decoder": "dq_whisper",
        "encoder_conf": {"dims": vars(model.dims)},
        "model_conf": {"grid": grid, "preset": "full"},
    }
    (exp / "qat/config.yaml").write_text(yaml.safe_dump(config))
    return exp


@pytest.fixture
def exp(tmp_path, make_toy):
    """On a grid that a folder for transformers and a packed one hold."""
    return experiment(tmp_path, make_toy, "uniform4")


@pytest.fixture(scope="module")
def published(make_toy, tmp_path_factory):
    """Function: grid, encoder's positions -> an experiment, published."""

    @cache
    def make(grid, audio_ctx=1500):
        exp = experiment(tmp_path_factory.mktemp(grid), make_toy, grid, audio_ctx)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("espnet_dq.fetch.npm.which", lambda _: None)
            assert publish(["--exp", str(exp), "--data_licence", "CC-BY-SA-3.0"]) == 0
        return exp

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid,forms",
    [("ct2_int8", {"ct2", "hf", "packed"}), ("ggml_q5_0", {"ggml", "hf", "packed"}),
     ("ggml_q4_0", {"ggml", "onnx", "transformers_js", "hf", "packed"}),
     ("onnx_int8", {"onnx", "transformers_js", "hf", "packed"}), ("uniform4", {"hf", "packed"})],
)  # fmt: skip
def test_a_folder_for_each_runtime_that_holds_the_grid(published, grid, forms, capsys):
    exp = published(grid)
    folders = {path.name: path for path in (exp / "publish").iterdir()}
    assert set(folders) == forms
    weights = load_student(exp).reference_weights()
    for form, folder in folders.items():
        path = {"ggml": "model.bin", "packed": "model.safetensors"}.get(form, "")
        state = detect.load(folder / path).state
        name = "decoder.blocks.0.mlp.0.weight"
        assert torch.equal(state[name].float(), weights[name]), form
        card = (folder / "README.md").read_text()
        check_head(card, form, {"en": 10.0, "ru": 20.5})
        assert "It was trained for: en, fr. Measured in: en, ru." in card
        assert "15.2 / 15.2|10.0 / 10.0|20.5 / 20.5|" in card and "CC-BY-SA-3.0" in card
        assert "0 mismatched values in" in card
        if form == "ct2":
            assert 'WhisperModel("PATH", compute_type="default")' in card
        if form == "transformers_js":
            assert f'dtype: "{ {"ggml_q4_0": "q4", "onnx_int8": "int8"}[grid] }"' in card
        run = json.loads((exp / "run.json").read_text())
        size = bytes_on_disk(folder) - sum(bytes_on_disk(folder / name) for name in module.BESIDE)
        licence = metadata.distribution("openai-whisper").read_text("licenses/LICENSE")
        assert licence.strip() in (folder / "LICENSE").read_text()
        data = "training data: Asterisk's core sounds; licence: CC-BY-SA-3.0"
        for item in (run["command"], data, f"{size / 1e6:.1f} MB"):
            assert item in card, item
        assert ("it was not measured" in card) == (
            form in ("ggml", "onnx", "transformers_js", "hf")
        )
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.network
def test_a_page_around_the_model(make_toy, tmp_path, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    monkeypatch.setattr(module, "FORMATS", {TransformersJs.name: FORMATS[TransformersJs.name]})
    exp = experiment(tmp_path, make_toy, "ggml_q4_0")
    assert publish(["--exp", str(exp)]) == 0
    web = exp / "publish/web"
    about = json.loads((web / "about.json").read_text())
    assert [code for code, _ in about["languages"][:2]] == ["en", "fr"]
    assert "15.2 % in" in about["about"] and "core sounds" in about["about"]
    assert "Mean word error rate on" in about["about"]
    assert about["about"].endswith("WER counts words in all languages.")
    same, theirs = (detect.load(x).state for x in (web / "model", exp / "publish/transformers_js"))
    assert all(torch.equal(same[name], tensor) for name, tensor in theirs.items())
    assert publish(["--exp", str(exp)]) == 0  # again, in its place


def test_what_is_left_out_is_said_and_what_stays(tmp_path, capsys):
    module._left_out(tmp_path / "web", WorkError("no npm"))
    (tmp_path / "web").mkdir()
    module._left_out(tmp_path / "web", WorkError("no npm"))
    first, again = capsys.readouterr().out.splitlines()
    assert first == "web: left out: no npm"
    assert again == "web: left out, and stays as an earlier run wrote it: no npm"


def check_head(card, form, rates):
    """The Hub's own library reads it: what is known by names of its own, and each rate."""
    head = huggingface_hub.ModelCard(card).data
    libraries = {"ct2": "ctranslate2", "hf": "transformers", "ggml": "whisper.cpp",
                 "onnx": "sherpa-onnx", "transformers_js": "transformers.js",
                 "packed": "espnet_dq"}  # fmt: skip
    assert head.library_name == libraries[form] and head.base_model == "openai/whisper-tiny"
    assert head.language == ["en", "fr"] and head.metrics == ["wer", "cer"]
    assert head.license_link == "LICENSE"  # one of the two names that the Hub takes
    assert head.pipeline_tag == "automatic-speech-recognition"
    found = {(r.metric_type, r.dataset_config): r for r in head.eval_results or []}
    assert {key: r.metric_value for key, r in found.items()} == {
        (kind, lang): rate for kind in ("wer", "cer") for lang, rate in rates.items()
    }
    assert {r.dataset_name for r in found.values()} <= {"Asterisk's core sounds"}


@pytest.mark.slow
@pytest.mark.parametrize("measured,by_clips", [(False, False), (True, True)])
def test_other_grids_are_said_to_be_rounded(make_toy, tmp_path, measured, by_clips, capsys):
    """With their own rates, or the word that nobody measured them.

    Nearest to what was trained, or the integers that were made, and scored, by clips.
    """
    exp, grid = experiment(tmp_path, make_toy, "uniform4"), "ggml_q5_0"
    run, results = (json.loads((exp / f).read_text()) for f in ("run.json", "results.json"))
    system = {"name": f"rounded_{grid}", "role": "student_rounded", "runtime": "whisper.cpp"}
    system |= {"grid": grid, "path": str(exp / f"export/rounded_{grid}.bin"), "by_clips": by_clips}
    system |= {"grids": {}, "preset": "full"}
    run["systems"].append(system)
    (exp / "run.json").write_text(json.dumps(run))
    seen = load_student(exp).reference_weights()
    expected = {name: get_grid(grid).quantize(tensor) for name, tensor in seen.items()
                if name in assign_grids(load_student(exp).dims, grid)}  # fmt: skip
    if by_clips:
        expected = {
            name: replace(q, integers=-q.integers.clamp(min=-15)) for name, q in expected.items()
        }
        weights = replace(load_student(exp).weights, state=seen)
        packed = exp / "export/rounded_ggml_q5_0_by_clips.safetensors"
        packed.parent.mkdir(exist_ok=True)
        write("packed", packed, weights, expected, "float16")
    rates = {"en": 11.0, "ru": 22.125, "mean": 16.5625}
    if measured:
        rated = {"wer": rates, "cer": rates, "utterances": 24, "data": run["data"]}
        results["systems"].append(system | rated)
        (exp / "results.json").write_text(json.dumps(results))
    if by_clips:
        kept = packed.rename(tmp_path / "kept")
        with pytest.raises(
            InputError, match=r"_by_clips\.safetensors: is not there: run --stage 9"
        ):
            publish(["--exp", str(exp)])
        assert not (exp / "publish").exists()
        kept.rename(packed)
    assert publish(["--exp", str(exp)]) == 0
    out = capsys.readouterr().out
    assert "verified, rounded, not trained on that grid" in out and "left as" not in out
    assert {path.name for path in (exp / "publish").iterdir()} == {"hf", "packed", system["name"]}
    card = (exp / "publish" / system["name"] / "README.md").read_text()
    how = " by clips of its training data" * by_clips
    said = f"on the grid `ct2_int8`, then **rounded to the grid `ggml_q5_0`{how}, which it was not "
    assert said in card and "rounded" not in (exp / "publish/hf/README.md").read_text()
    check_head(card, "ggml", {k: round(v, 2) for k, v in rates.items() if k != "mean"}
               if measured else {})  # fmt: skip
    assert ("**The error rates of this file were not measured.**" in card) is not measured
    assert ("|this model|whisper.cpp|16.6 / 16.6|11.0 / 11.0|22.1 / 22.1|" in card) is measured
    assert "|the trained one, on `ct2_int8`|" in card
    stored = integers.load(exp / "publish" / system["name"] / "model.bin")
    assert stored.keys() == expected.keys()
    for name, q in stored.items():
        assert torch.equal(q.integers, expected[name].integers), name
        assert torch.equal(q.scale, expected[name].scale), name
    if by_clips and measured:
        run["systems"].pop()
        (exp / "run.json").write_text(json.dumps(run))
        assert publish(["--exp", str(exp)]) == 0
        assert f"{system['name']}: left as an earlier run wrote it" in capsys.readouterr().out
        assert integers.load(exp / "publish" / system["name"] / "model.bin").keys() == stored.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid,forms",
    [("ct2_int8", ["ct2"]), ("ggml_q5_0", ["ggml"]), ("onnx_int8", ["onnx"]),
     ("uniform4", ["hf", "packed"])],
)  # fmt: skip
def test_the_card_says_how_to_run_it(grid, forms, published, tmp_path, monkeypatch, capfd):
    """Its own code, with nothing but the folder: the tokenizer is there, too. 48 kHz, stereo."""
    exp = published(grid)
    samples = np.random.default_rng(0).normal(0, 0.1, (96000, 2))
    soundfile.write(tmp_path / "audio.wav", samples, 48000)
    monkeypatch.chdir(tmp_path)
    for form in forms:
        folder = shutil.copytree(exp / "publish" / form, tmp_path / form)
        assert SAID.strip() in run_card(folder, capfd), form


def run_card(folder, capfd):
    """What a card's own code prints of audio.wav."""
    card = (folder / "README.md").read_text()
    kind, code = re.search(r"```(python|sh)\n(.*?)```", card, re.DOTALL).groups()
    code = code.replace("PATH", str(folder))
    capfd.readouterr()
    if kind == "python":
        exec(code, {})
    else:
        transcribe(shlex.split(code, comments=True)[3:])
    return capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid,form,seconds",
    [("ct2_int8", "ct2", 15), ("ggml_q4_0", "ggml", 15), ("ggml_q4_0", "onnx", 15),
     ("ggml_q4_0", "onnx", 30), ("ggml_q4_0", "hf", 15), ("ggml_q4_0", "hf", 30),
     ("ggml_q4_0", "packed", 15)],
)  # fmt: skip
def test_the_cards_code_hears_all_of_a_long_file(
    grid, form, seconds, published, tmp_path, monkeypatch, capfd
):
    """Each window that the audio fills is seen by the encoder, or said."""
    folder, heard, length = published(grid, 50 * seconds) / "publish" / form, [], 50
    soundfile.write(
        tmp_path / "audio.wav", np.random.default_rng(0).normal(0, 0.1, length * 16000), 16000
    )
    monkeypatch.chdir(tmp_path)
    encode = faster_whisper.WhisperModel.encode
    monkeypatch.setattr(
        faster_whisper.WhisperModel, "encode", lambda *given: heard.append(1) or encode(*given)
    )
    see = register_module_forward_hook(
        lambda net, *_: heard.append(1) if isinstance(net, WhisperEncoder) else None
    )
    try:
        said = run_card(folder, capfd)
    finally:
        see.remove()
    assert SAID.strip() in said
    # transformers and faster-whisper do not say twice what they take for the same.
    assert (len(heard) or said.count(SAID.strip())) >= length / seconds


@pytest.mark.slow
def test_the_card_asks_for_what_computes_exactly(make_toy, tmp_path, capsys):
    exp = experiment(tmp_path, make_toy, "ct2_int8")
    config = exp / "qat/config.yaml"
    config.write_text(config.read_text().replace("preset: full", "preset: paper"))
    publish(["--exp", str(exp), "--data_licence", "CC-BY-SA-3.0"])
    card = (exp / "publish/ct2/README.md").read_text()
    assert 'WhisperModel("PATH", compute_type="float32")' in card
    capsys.readouterr()


def test_the_card_names_data_and_licences_and_no_path():
    """Of a user's own data and weights; what is not known is said to be so."""
    rates = {"de": 31.8, "mean": 31.8}
    own = {"name": "student", "role": "student", "runtime": "torch", "grid": "uniform4",
           "wer": rates, "cer": rates, "utterances": 60, "path": "/home/ann/exp/s.safetensors",
           "data": "/home/ann/dump/test"}  # fmt: skip
    difference = {"system": "student", "against": "untouched", "role": "untouched", "rate": "wer",
                  "lang": "mean", "points": -1.4, "low": -4.1, "high": 1.2, "utterances": 60,
                  "differing": 21, "verdict": "not distinguishable"}  # fmt: skip
    run = {
        "corpus": "kaldi",
        "sources": [],
        "teacher": "big.pt",
        "student": "tiny",
        "command": "run.sh --corpus kaldi --data_root /home/ann/de --teacher /home/ann/big.pt",
        "config": "conf/train.yaml '/home/ann/my qat.yaml'",
        "seed": 0,
        "commit": "0123abc",
        "date": "2026-11-28",
    }
    known = {"systems": [own], "differences": [difference], "languages": ["nn", "de"]}
    dims = replace(SIZES["tiny"], n_audio_ctx=500)

    def card(name=None, licence=None):
        results = known | data_of(run, name, licence)
        parity = {"tensors": 9, "mismatched": 0}
        return render("packed", run, results, 10**6, parity, "default", dims)

    text = card("Ann's  voice", "CC0-1.0")
    for said in (
        "# Whisper for nn, de: Ann's voice\n",
        "It was trained for: nn, de. Measured in: de.\n",
        "on the test part of: Ann's voice (60 utterances), padded to 10 s, greedy",
        "- training data: Ann's voice; licence: CC0-1.0\n",
        "- start: OpenAI's Whisper tiny, MIT licence\n",
        "- teacher: `big.pt`, a file of the user's: its licence is not stated\n",
        "`run.sh --corpus kaldi --data_root DIR --teacher big.pt`",
        "`conf/train.yaml 'my qat.yaml'`",
        "untouched small Whisper: −1.4 points (95 % interval −4.1 to +1.2): not distinguishable\n",
    ):
        assert said in text, said
    assert "/home" not in text and "de: kaldi" not in text
    assert "|model|runtime|de|\n|---|---|---|\n" in text and "mean" not in text
    assert "kaldi" not in yaml.safe_load(text.split("---")[1])["tags"]
    assert "- training data: data of the user's own; licence: not stated\n" in card()
    run["sources"] = [{"name": "A", "licence": "GPL-2"}, {"name": "B", "licence": "CC-BY-SA-3.0"}]
    both = "- training data: A; B; licence: GPL-2 (A); CC-BY-SA-3.0 (B)\n"
    assert both in card() and "start: not stated" not in card()
    own["data"] = "/home/ann/exp/data/test_windows"
    assert "(60 windows of joined utterances), padded to 10 s" in card()


@pytest.mark.slow
def test_the_users_word_on_the_data(exp, capsys):
    """In the place of what stands in results.json, which is in the place of run.json's."""
    results = json.loads((exp / "results.json").read_text())
    results |= {"data_name": "Ann's voice", "data_licence": "CC0-1.0"}
    (exp / "results.json").write_text(json.dumps(results))
    publish(["--exp", str(exp), "--data_licence", "CC-BY-4.0"])
    for form in ("hf", "packed"):
        card = (exp / "publish" / form / "README.md").read_text()
        assert "- training data: Ann's voice; licence: CC-BY-4.0\n" in card
        for path in (exp / "publish" / form).iterdir():
            assert str(exp.parent).encode() not in path.read_bytes(), path
    capsys.readouterr()


def test_without_a_report(exp):
    (exp / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json"):
        publish(["--exp", str(exp), "--data_licence", "x"])
    assert not (exp / "publish").exists()


@pytest.mark.slow
def test_uploads_what_it_wrote(exp, tmp_path, monkeypatch):
    monkeypatch.delenv("ESPNET_DQ_WARM")  # where the Hub is, its library asks when it is imported
    command = [sys.executable, "-m", "espnet_dq.bin.publish", "--exp", str(exp)]
    command += ["--data_licence", "CC-BY-SA-3.0", "--upload_to", "me/toy"]
    with Hub() as hub:
        done = subprocess.run(
            command, env=hub.env(tmp_path / "home"), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert hub.files == {
        f"me/toy-{folder.name}": {file.name: file.read_bytes() for file in folder.iterdir()}
        for folder in (exp / "publish").iterdir()
    }
    assert set(hub.files) == {"me/toy-hf", "me/toy-packed"}
    assert f"uploaded to {hub.url}/me/toy-hf" in done.stdout


@pytest.mark.slow
def test_nothing_is_uploaded_unless_all_is_verified(exp, tmp_path, monkeypatch, capsys):
    """The last format is damaged when it is written; the first one is sound."""

    def damaged(form, path, *arguments):
        write(form, path, *arguments)
        if form == "packed":
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

    monkeypatch.setattr(module, "write", damaged)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        with pytest.raises(WorkError, match=r"1 values differ"):
            publish(["--exp", str(exp), "--data_licence", "x", "--upload_to", "me/toy"])
    assert {path.name for path in (exp / "publish").iterdir()} == {"hf"}
    assert not hub.requests
    capsys.readouterr()


def test_a_wrong_name_is_told_before_the_work(exp):
    with pytest.raises(InputError, match="toy-ct2: no name of a repository"):
        publish(["--exp", str(exp), "--data_licence", "x", "--upload_to", "toy"])
    assert not (exp / "publish").exists()
