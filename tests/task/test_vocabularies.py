"""Students and teachers of different vocabularies; `test_espnet.py` trains such a pair."""

import json
import math

import numpy as np
import pytest
import torch
import whisper
import yaml
from whisper.tokenizer import get_tokenizer

from espnet_dq.bin.teacher_pass import main as teacher_pass
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.distill.teacher import Teacher
from espnet_dq.errors import InputError
from espnet_dq.formats.openai import read as openai
from espnet_dq.task.preprocessor import DQWhisperPreprocessor
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text

TEXTS = ["hello there", "adiós"]


@pytest.fixture(scope="module")
def files(save_toy, trim):
    """What is a student or a teacher here, each with weights of its own."""
    small = {"state": 32, "layers": 1}
    return {
        "99": save_toy(seed=2, **small),
        "100": save_toy(seed=3, n_vocab=51866, mels=128, **small),
        "trimmed": trim(save_toy(seed=4, **small), TEXTS),
        "trimmed of 100": trim(save_toy(seed=5, n_vocab=51866, **small), ["hello"]),
    }


@pytest.fixture(scope="module")
def utterances(corpus):
    """Two of the corpus as the recipe's loader gives them, for a vocabulary."""
    from espnet2.train.collate_fn import CommonCollateFn
    from espnet2.train.dataset import ESPnetDataset

    def load(dims, more=()):
        kinds = [
            ("wav.scp", "speech", "sound"),
            ("text", "text", "text"),
            ("utt2lang", "lang", "text"),
        ]
        entries = [(f"{corpus}/{file}", name, kind) for file, name, kind in kinds]
        entries += [(f"{path}/{name}.scp", name, "kaldi_ark") for path, name in more]
        preprocess = DQWhisperPreprocessor(True, "dq_whisper", token_list(dims))
        data = ESPnetDataset(entries, preprocess=preprocess)
        collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
        names, batch = collate([data[name] for name in ("u0", "u5")])
        return {"utt_id": names, **batch}

    return load


def by_bytes(path):
    """Token -> id of a checkpoint's model, ordinary ones as bytes, by openai-whisper's tables."""
    saved = torch.load(path, weights_only=True)
    kept = saved.get("kept_tokens", torch.arange(saved["dims"]["n_vocab"])).tolist()
    encoding = get_tokenizer(True, num_languages=kept[-1] - 51765).encoding
    names = {i: name for name, i in encoding._special_tokens.items()}
    tokens = [names.get(i) or encoding.decode_single_token_bytes(i) for i in kept]
    return {token: i for i, token in enumerate(tokens)}


def reference(student, teacher, corpus, temperature):
    """T^2 KL(teacher || student) over the tokens that both have, a position at a time."""
    ours, theirs = by_bytes(student), by_bytes(teacher)
    shared = [token for token in ours if token in theirs]
    tokenizer, names = (
        vocabulary_tokenizer(openai.load(student).dims),
        {i: t for t, i in ours.items()},
    )
    data, total, count = KaldiDir.load(corpus), 0.0, 0
    models = [whisper.load_model(str(path), device="cpu").eval() for path in (student, teacher)]
    for utt in ("u0", "u5"):
        audio = load_audio(data.wav[utt])
        text = [names[i] for i in encode_text(tokenizer, data.text[utt], data.utt2lang[utt])]
        assert b"".join(text).decode().strip() == data.text[utt]
        tokens = ["<|startoftranscript|>", f"<|{data.utt2lang[utt]}|>", "<|transcribe|>"]
        tokens += ["<|notimestamps|>", *text]
        logits = []
        for model, ids in zip(models, (ours, theirs), strict=True):
            mel = whisper.log_mel_spectrogram(audio, model.dims.n_mels, padding=480000)
            mel = whisper.pad_or_trim(mel[:, : len(audio) // 160], 3000)[None]
            with torch.no_grad():
                prompt = torch.tensor([[ids[token] for token in tokens]])
                logits.append(model(mel, prompt)[0].double().numpy() / temperature)
        q = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
        p = logits[1][:, [theirs[token] for token in shared]]
        p = p - np.log(np.exp(p).sum(-1, keepdims=True))
        kl = (np.exp(p) * (p - q[:, [ours[token] for token in shared]])).sum(-1)
        total += kl[0] + kl[3:].sum()  # the language, the text and its end
        count += len(tokens) - 3
    return temperature**2 * total / count


# The last student has no token for "there" and "adiós": it spells them.
PAIRS = [("99", "100"), ("100", "99"), ("trimmed", "100"), ("99", "trimmed"),
         ("trimmed of 100", "99")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("student,teacher", PAIRS)
def test_kl_over_the_tokens_that_both_have(student, teacher, files, build, utterances, corpus):
    student, teacher = files[student], files[teacher]
    model = build(student=student, teacher=str(teacher), matching="logits", temperature=2.0)
    model.eval()
    with torch.no_grad():
        found = model(**utterances(model.decoder.dims))[1]["loss_kl"]
    expected = reference(student, teacher, corpus, 2.0)
    assert math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("student,teacher", [("trimmed", "100"), ("100", "99")])
def test_cached_as_live(student, teacher, files, build, utterances, corpus, tmp_path, monkeypatch):
    """Through stage 4's own command; with timestamps, which are the student's tokens, too."""
    conf = {"matching": "logits", "timestamp_share": 1.0, "preset": "none"}
    model = build(student=files[student], teacher=str(files[teacher]), **conf)
    model.eval()
    config = {"model_conf": conf, "freeze_param": []}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    size = min(model.decoder.dims.n_vocab, 51865)
    monkeypatch.setattr("espnet_dq.distill.cache_settings.TOP_K", size)
    options = {
        "data": corpus, "out": tmp_path / "cache", "teacher": files[teacher],
        "student": files[student], "grid": "ct2_int8",
        "train_config": tmp_path / "train.yaml",
    }  # fmt: skip
    assert teacher_pass([str(o) for k, v in options.items() for o in (f"--{k}", v)]) == 0
    names = ("teacher_ids", "teacher_log_probs", "teacher_end")
    with torch.no_grad():
        live = model(**utterances(model.decoder.dims))[1]
        model.teacher.path = tmp_path / "gone"
        cached = model(**utterances(model.decoder.dims, [(tmp_path / "cache", n) for n in names]))[
            1
        ]
    assert math.isclose(live["loss_kl"], cached["loss_kl"], rel_tol=2e-4)
    assert live["loss_ce"] == cached["loss_ce"]
    description = json.loads((tmp_path / "cache/cache.json").read_text())
    assert len(description["vocabulary"]) == 64


def test_a_token_that_the_teacher_lacks(files):
    dims = openai.load(files["100"]).dims
    tokens = get_tokenizer(True, num_languages=100)
    prompt = torch.tensor([[tokens.sot, tokens.to_language_token("yue")]])
    teacher = Teacher(files["99"], dims)
    audio, _ = teacher.hear(torch.zeros(1, 3200), torch.tensor([3200]), 480000)
    with pytest.raises(InputError, match=r"the teacher has no token <\|yue\|>"):
        teacher(audio, prompt, None)


def test_what_is_suppressed(files, build):
    """In stock `asr_inference`, by the token list alone."""
    whole, ours = (build(student=files[name], alpha=0.0).decoder for name in ("99", "trimmed"))
    suppressed = {ours.dims.kept[i] for i in ours.suppressed.tolist()}
    assert suppressed == {*whole.suppressed.tolist()}
