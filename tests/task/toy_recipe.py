"""A toy corpus and a toy recipe for ESPnet's own commands."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.init_student import main as init_student
from espnet_dq.bin.trim_vocabulary import main as trim_vocabulary
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir

TEXTS = ["hello there", "guten Tag", "привет", "buongiorno a tutti", "one two three", "adiós"]
LANGUAGES = ["en", "de", "ru", "it", "en", "es"]


def make_corpus(folder: Path, texts: Sequence[str] = TEXTS) -> Path:
    """Utterances of noise, half a second and longer, with texts in five languages."""
    data, random = KaldiDir(), np.random.default_rng(0)
    for i, text in enumerate(texts):
        samples = random.normal(0, 0.05, 8000 + 1600 * i).astype(np.float32)
        wav = folder / f"u{i}.wav"
        save_wav(wav, samples)
        lang = LANGUAGES[i % len(LANGUAGES)]
        data.add(f"u{i}", wav, text, f"u{i}", lang, utt2num_samples=len(samples))
    data.save(folder / "data")
    return folder / "data"


class Recipe:
    """A student's start and its teacher, and the commands that train it.

    Args:
        folder: made, for the start.
        corpus: the data of training and validation.
        student, teacher: `.pt` files.
    """

    def __init__(self, folder: Path, corpus: Path, student: Path, teacher: Path):
        self.folder, self.corpus, self.teacher = folder, corpus, teacher
        given = ["--from", str(student), "--teacher", str(teacher), "--grid", "ct2_int8"]
        init_student([*given, "--out", str(folder)])
        self.dims = {
            n: json.loads((folder / f"{n}.dims").read_text()) for n in ("student", "teacher")
        }

    def command(
        self,
        out: Path,
        *options: str,
        module: str = "espnet2.bin.asr_train",
        data: Path | None = None,
        **model_conf,
    ) -> list[str]:
        """ESPnet's trainer into `out`; `module` may be another that ends in it."""
        data = data or self.corpus
        config = {
            "encoder": "dq_whisper",
            "encoder_conf": {"dims": self.dims["student"], "window": "batch"},
            "decoder": "dq_whisper",
            "decoder_conf": {"dims": self.dims["student"]},
            "model": "dq_whisper",
            "model_conf": {
                "teacher": str(self.teacher),
                "teacher_dims": self.dims["teacher"],
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
            "use_matplotlib": False,  # its curves take longer than the training
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
        return [
            sys.executable, "-m", "espnet_dq", module,
            "--config", str(out / "given.yaml"), "--output_dir", str(out),
            "--token_list", str(self.folder / "tokens.txt"), "--token_type", "bpe",
            "--bpemodel", "dq_whisper", "--init_param", str(self.folder / "student.pth"),
            "--allow_variable_data_keys", "true", "--ngpu", "0", "--resume", "true",
            *given, *options,
        ]  # fmt: skip


def short_windows(folder: Path, texts: Sequence[str]) -> Recipe:
    """A recipe of models whose window is 3 s, a tenth of the work; the student is trimmed."""
    folder.mkdir(parents=True)
    for name, seed, state, layers in (("whole", 0, 64, 2), ("teacher", 1, 32, 3)):
        dims = ModelDimensions(80, 150, state, 2, layers, 51865, 448, state, 2, layers)
        torch.manual_seed(seed)
        weights = Whisper(dims).state_dict()
        for key in ("encoder.positional_embedding", "decoder.positional_embedding"):
            weights[key] = 0.02 * torch.randn(weights[key].shape)
        content = {"dims": vars(dims), "model_state_dict": weights}
        torch.save(content, folder / f"{name}.pt")
    (folder / "words").write_text("\n".join(texts[:2]), encoding="utf-8")
    student = folder / "student.pt"
    given = ["--from", str(folder / "whole.pt"), "--words", str(folder / "words")]
    trim_vocabulary([*given, "--out", str(student)])
    corpus = make_corpus(folder / "corpus", texts)
    return Recipe(folder / "init", corpus, student, folder / "teacher.pt")
