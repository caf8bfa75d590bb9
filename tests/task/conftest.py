"""A toy corpus and a toy recipe for ESPnet's own commands."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.plugin import register

DEADLINE = 300  # seconds, of a run of toys: processes that wait for each other would wait for ever
TEXTS = ["hello there", "guten Tag", "привет", "buongiorno a tutti", "one two three", "adiós"]
LANGUAGES = ["en", "de", "ru", "it", "en", "es"]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Six utterances of noise with texts in five languages."""
    folder = tmp_path_factory.mktemp("corpus")
    data, random = KaldiDir(extra={"utt2num_samples": {}}), np.random.default_rng(0)
    for i, (text, lang) in enumerate(zip(TEXTS, LANGUAGES, strict=True)):
        samples = random.normal(0, 0.05, 8000 + 1600 * i).astype(np.float32)
        wav = folder / f"u{i}.wav"
        save_wav(wav, samples)
        data.wav[f"u{i}"], data.text[f"u{i}"] = str(wav), text
        data.utt2spk[f"u{i}"], data.utt2lang[f"u{i}"] = f"u{i}", lang
        data.extra["utt2num_samples"][f"u{i}"] = str(len(samples))
    data.save(folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def build(save_toy):
    """Function (**model_conf) -> DQWhisperModel with toy student and teacher, weights loaded.

    `student` and `teacher` may be other `.pt` files; `checkpointing` is that of both halves.
    """
    register()
    from espnet2.asr.ctc import CTC

    from espnet_dq.formats import openai
    from espnet_dq.task.decoder import DQWhisperDecoder
    from espnet_dq.task.encoder import DQWhisperEncoder
    from espnet_dq.task.model import DQWhisperModel
    from espnet_dq.task.tokenizer import token_list
    from espnet_dq.whisper.vocabulary import numbers

    def make(window="batch", load=True, student=None, checkpointing=False, **conf):
        student = openai.load(student or save_toy(seed=0))
        dims, size = numbers(student.dims), student.dims.n_vocab
        teacher = save_toy(seed=1, state=32, layers=3, mels=128)  # as large-v3 hears
        conf = {
            "teacher": str(teacher),
            "teacher_dims": torch.load(teacher, weights_only=True)["dims"],
            "preset": "none",
            **conf,
        }
        saving = {"checkpointing": checkpointing}
        encoder = DQWhisperEncoder(dims=dims, window=window, **saving)
        decoder = DQWhisperDecoder(size, encoder.output_size(), dims=dims, **saving)
        model = DQWhisperModel(
            size, token_list(student.dims), None, None, None, None, encoder, None, decoder,
            CTC(size, encoder.output_size()), None, **conf,
        )  # fmt: skip
        if load:
            state = model.state_dict()
            for name, value in student.state.items():
                state[name.replace(".", ".net.", 1)] = value
            model.load_state_dict(state)
        return model

    return make


@pytest.fixture(scope="session")
def trimmed(save_toy, trim) -> Path:
    """A student with the tokens of some texts only; it spells the others."""
    return trim(save_toy(seed=0), TEXTS[:2])


@pytest.fixture(scope="session")
def train(corpus, trimmed, save_toy, tmp_path_factory):
    """Function (out, *options, **model_conf) that runs stock `espnet2.bin.asr_train`.

    A trimmed student learns from a teacher of 100 languages. `launch` comes before the command.
    """
    from espnet_dq.bin.init_student import main as init_student

    folder = tmp_path_factory.mktemp("recipe")
    teacher = save_toy(seed=1, state=32, layers=3, n_vocab=51866)
    init_student(
        [
            "--from",
            str(trimmed),
            "--teacher",
            str(teacher),
            "--grid",
            "ct2_int8",
            "--out",
            str(folder),
        ]
    )
    dims = {n: json.loads((folder / f"{n}.dims").read_text()) for n in ("student", "teacher")}

    def run(
        out: Path,
        *options: str,
        log: str = "log",
        data: Path = corpus,
        launch: tuple[str, ...] = (),
        **model_conf,
    ) -> Path:
        config = {
            "encoder": "dq_whisper",
            "encoder_conf": {"dims": dims["student"], "window": "batch"},
            "decoder": "dq_whisper",
            "decoder_conf": {"dims": dims["student"]},
            "model": "dq_whisper",
            "model_conf": {
                "teacher": str(teacher),
                "teacher_dims": dims["teacher"],
                "teacher_window": "student",
                **model_conf,
            },
            "preprocessor": "dq_whisper",
            "input_size": 1,
            "normalize": None,
            "batch_type": "unsorted",
            "batch_size": 2,
            "max_epoch": 2,
            "optim": "adamw",
            "optim_conf": {"lr": 1e-3},
            "num_workers": 0,
            "use_tensorboard": False,
            "best_model_criterion": [["valid", "loss", "min"]],
            "keep_nbest_models": 5,
        }
        out.mkdir(parents=True, exist_ok=True)
        (out / "given.yaml").write_text(yaml.safe_dump(config))
        given = [
            f"--{side}_data_path_and_name_and_type={data}/{entry}"
            for side in ("train", "valid")
            for entry in ("wav.scp,speech,sound", "text,text,text", "utt2lang,lang,text")
        ]
        given += [f"--{side}_shape_file={data}/utt2num_samples" for side in ("train", "valid")]
        done = subprocess.run(
            [*launch, sys.executable, "-m", "espnet_dq", "espnet2.bin.asr_train",
             "--config", str(out / "given.yaml"), "--output_dir", str(out),
             "--token_list", str(folder / "tokens.txt"), "--token_type", "bpe",
             "--bpemodel", "dq_whisper", "--init_param", str(folder / "student.pth"),
             "--allow_variable_data_keys", "true", "--ngpu", "0", "--resume", "true",
             *given, *options],
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        (out / log).write_text(done.stderr)
        assert done.returncode == 0, done.stderr[-2000:]
        return out

    return run
