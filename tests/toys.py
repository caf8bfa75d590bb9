"""Toys with which the whole recipe runs in minutes: random models, a corpus of noise, few steps."""

from pathlib import Path

import numpy as np
import torch
import yaml
from whisper.model import ModelDimensions, Whisper

from espnet_dq.config import CHECKPOINT
from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.whisper.dims import espnet_name

RECIPE = Path(__file__).parents[1] / "egs2/dq_whisper/asr1"
END = 50257  # <|endoftext|>
WORDS = {
    "en": ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"],
    "ru": ["альфа", "браво", "чарли", "дельта", "эхо", "фокстрот", "гольф", "отель"],
}


def make_model(
    seed: int = 0,
    state: int = 64,
    layers: int = 2,
    mels: int = 80,
    n_vocab: int = 51865,
    text_ctx: int = 448,  # fewer where `verify` runs it: it does through all of them
    audio_ctx: int = 1500,  # positions, of 20 ms
) -> Whisper:
    """A random Whisper in eval mode, of the real vocabulary and context, and little else."""
    torch.manual_seed(seed)
    model = Whisper(
        ModelDimensions(
            n_mels=mels,
            n_audio_ctx=audio_ctx,
            n_audio_state=state,
            n_audio_head=2,
            n_audio_layer=layers,
            n_vocab=n_vocab,
            n_text_ctx=text_ctx,
            n_text_state=state,
            n_text_head=2,
            n_text_layer=layers,
        )
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("positional_embedding"):
                p.normal_(std=0.02)
    return model.eval()


def ending(model: Whisper, after: int = 10) -> Whisper:
    """`model`, changed: it says the same few words of anything. Random weights go on for ever.

    Strong positions decide each token, and that at position `after` ends the text.
    """
    words, positions = model.decoder.token_embedding.weight, model.decoder.positional_embedding
    with torch.no_grad():
        positions.copy_(20 * words[1000 : 1000 + len(positions)])
        positions[after] = 20 * words[END]
    return model


def save_training(exp: Path, model: Whisper, quant: dict, **encoder: str) -> Path:
    """What ESPnet leaves of a training in EXP/qat, with these `model_conf` and `encoder_conf`."""
    (exp / "qat").mkdir(parents=True)
    state = {espnet_name(name): tensor for name, tensor in model.state_dict().items()}
    torch.save(state, exp / "qat" / CHECKPOINT)
    config = dict.fromkeys(("encoder", "decoder"), "dq_whisper")
    config |= {"encoder_conf": {"dims": vars(model.dims), **encoder}, "model_conf": quant}
    (exp / "qat/config.yaml").write_text(yaml.safe_dump(config))
    return exp


def save_model(path: Path, model: Whisper) -> Path:
    """Write a `.pt` that openai-whisper loads; returns its path."""
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, path)
    return path


def save_corpus(root: Path) -> Path:
    """Write train, dev and test of noise, in two languages, to `root`, and return it."""
    random, number = np.random.default_rng(0), 0
    for split, count in (("train", 8), ("dev", 4), ("test", 4)):
        data = KaldiDir()
        for _ in range(count):
            utt, number = f"spk{number % 2}-{number:03d}", number + 1
            wav = root / "wav" / f"{utt}.wav"
            wav.parent.mkdir(parents=True, exist_ok=True)
            save_wav(wav, random.normal(0, 0.05, 16000).astype(np.float32))
            lang = ("en", "ru")[number % 2]
            text = f"{WORDS[lang][number % 8]} {WORDS[lang][number // 8]}"
            data.add(utt, wav, text, utt.split("-")[0], lang)
        data.save(root / split)
    return root


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """(samples,) float32 at 16 kHz, in which models hear what they like."""
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * SAMPLE_RATE))
    return samples.astype(np.float32)


def save_program(path: Path, script: str) -> Path:
    """A stand-in for a program that is not here, in Bash."""
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


def config(name: str, epochs: int = 1) -> str:
    """A configuration of the recipe with two steps an epoch, of two windows each."""
    text = (RECIPE / f"conf/{name}.yaml").read_text()
    length = f"batch_size: 2\nmax_epoch: {epochs}\nnum_iters_per_epoch: 2"
    return text.replace("batch_size: 4", length)
