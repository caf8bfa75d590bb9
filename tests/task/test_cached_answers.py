"""The training model with the teacher's answers, and the encoder's, from a cache."""

from itertools import batched

import pytest
import torch
import whisper

from espnet_dq.config import QuantConfig
from espnet_dq.distill.cache import write_cache
from espnet_dq.distill.cache_settings import CacheSettings
from espnet_dq.errors import InputError
from espnet_dq.student.checkpoint import Student
from espnet_dq.task.preprocessor import DQWhisperPreprocessor
from espnet_dq.task.tokenizer import token_list


@pytest.mark.slow
@pytest.mark.parametrize("matching", ["logits", "dynamic"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_cache_gives_the_same_losses(build, save_toy, corpus, tmp_path, matching, share):
    from espnet2.train.collate_fn import CommonCollateFn
    from espnet2.train.dataset import ESPnetDataset

    model = build(matching=matching, timestamp_share=share, window="full", grid="ct2_int8",
                  preset="encoder")  # fmt: skip
    model.eval()
    if model.projector is not None:
        torch.nn.init.normal_(model.projector.weight)
    saved = torch.load(save_toy(seed=0), weights_only=True)
    settings = CacheSettings(
        tap="block" if matching != "logits" else None, temperature=1.0, top_k=51865,
        teacher_window="full", timestamp_share=share, encoder=True,
    )  # fmt: skip
    student = Student(
        whisper.model.ModelDimensions(**saved["dims"]), saved["model_state_dict"],
        QuantConfig("ct2_int8", preset="encoder"), tmp_path,
    )  # fmt: skip
    cache = write_cache(corpus, tmp_path / "cache", model.teacher, student, settings)
    model.encoder.requires_grad_(False)
    entries = [
        (f"{corpus}/wav.scp", "speech", "sound"),
        (f"{corpus}/text", "text", "text"),
        (f"{corpus}/utt2lang", "lang", "text"),
    ]
    preprocess = DQWhisperPreprocessor(True, "dq_whisper", token_list())
    collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)

    def loss(entries, **_):
        data = ESPnetDataset(entries, preprocess=preprocess)
        names, batch = collate([data[f"u{i}"] for i in range(6)])
        with torch.no_grad():
            return model(utt_id=names, **batch)

    live = loss(entries)
    kinds = sorted(p.stem for p in cache.glob("*.scp"))
    cached = loss(entries + [(f"{cache}/{k}.scp", k, "kaldi_ark") for k in kinds])
    assert "encoder_out" in kinds and ("teacher_hidden" in kinds) == (matching != "logits")
    for name, value in live[1].items():
        assert torch.allclose(value, cached[1][name], rtol=2e-4), name
    model.encoder.requires_grad_(True)
    with pytest.raises(InputError, match="freeze it"):
        loss([*entries, (f"{cache}/encoder_out.scp", "encoder_out", "kaldi_ark")])


@pytest.mark.slow
def test_several_windows_are_cached(build, save_toy, corpus, tmp_path):
    """The same losses as without a cache, in each window that training draws."""
    from espnet2.train.collate_fn import CommonCollateFn
    from espnet2.train.dataset import ESPnetDataset

    windows = [0.7, 4, 30]
    model = build(matching="logits", window=windows, grid="ct2_int8", preset="none")
    saved = torch.load(save_toy(seed=0), weights_only=True)
    student = Student(
        whisper.model.ModelDimensions(**saved["dims"]), saved["model_state_dict"],
        QuantConfig("ct2_int8", preset="none"), tmp_path,
    )  # fmt: skip
    settings = CacheSettings(None, 1.0, 51865, "full", 0.0, True, windows=tuple(windows))
    cache = write_cache(corpus, tmp_path / "cache", model.teacher, student, settings)
    model.encoder.requires_grad_(False)
    preprocess = DQWhisperPreprocessor(True, "dq_whisper", token_list())
    collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
    kinds = {p.stem: p for p in cache.glob("*.scp")}
    assert {k for k in kinds if k.startswith("enc")} == {
        "encoder_out", "encoder_out_0.7", "encoder_out_4"
    }  # fmt: skip
    entries = [
        (f"{corpus}/wav.scp", "speech", "sound"),
        (f"{corpus}/text", "text", "text"),
        (f"{corpus}/utt2lang", "lang", "text"),
    ]
    encoders = [(str(p), k, "kaldi_ark") for k, p in kinds.items()]
    batches = []
    for more in ([], encoders):
        data = ESPnetDataset(entries + more, preprocess=preprocess)
        by_length = sorted((len(data[f"u{i}"][1]["speech"]), f"u{i}") for i in range(6))
        batches.append([collate([data[u] for _, u in part]) for part in batched(by_length, 2)])
    seen = set()
    for (names, live), (_, cached) in zip(*batches, strict=True):
        longest = int(live["speech_lengths"].max())
        for seed in range(6):
            torch.manual_seed(seed)
            seen.add((longest > 11200, model.encoder.train().samples(longest)))
            losses = []
            for batch in (live, cached):
                torch.manual_seed(seed)
                with torch.no_grad():
                    losses.append(model.train()(utt_id=names, **batch)[0])
            assert torch.allclose(*losses, rtol=2e-4)
    assert seen == {
        (False, 11200), (False, 64000), (False, 480000), (True, 64000), (True, 480000)
    }  # fmt: skip
    # A training that draws other windows than the cache has.
    model.encoder.window = [2]
    with pytest.raises(InputError, match=r"nothing is cached of windows of 2 s: .* is \[2\]"):
        model.train()(utt_id=batches[1][0][0], **batches[1][0][1])


@pytest.mark.slow
def test_a_cache_of_something_else_is_refused(build, save_toy, corpus, tmp_path):
    model = build(matching="logits")
    saved = torch.load(save_toy(seed=0), weights_only=True)
    dims = whisper.model.ModelDimensions(**saved["dims"])

    def student(state, grid="ct2_int8"):
        return Student(dims, state, QuantConfig(grid, preset="encoder"), tmp_path)

    settings = CacheSettings(None, 1.0, 8, "full", 0.0, True)
    state = saved["model_state_dict"]
    arguments = (corpus, tmp_path / "cache", model.teacher)
    write_cache(*arguments, student(state), settings)
    write_cache(*arguments, student(state), settings)  # the same: left alone
    changed = {**state, "encoder.conv1.weight": state["encoder.conv1.weight"] * 1.01}
    for other in (
        (student(changed), settings),
        (student(state, "uniform4"), settings),
        (student(state), CacheSettings(None, 2.0, 8, "full", 0.0, True)),
    ):
        with pytest.raises(InputError, match="other settings"):
            write_cache(*arguments, *other)
