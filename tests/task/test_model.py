"""The training model against openai-whisper, and the mistakes of the published code."""

import pytest
import torch
import whisper

from espnet_dq.distill.cache import CacheSettings, write_cache
from espnet_dq.distill.taps import Taps
from espnet_dq.errors import InputError
from espnet_dq.quant.checkpoint import Student
from espnet_dq.quant.prepare import assign_grids, quantized_weights
from espnet_dq.task.preprocessor import DQWhisperPreprocessor
from espnet_dq.task.tokenizer import DQWhisperTokenizer, token_list
from espnet_dq.whisper.forward import decode_hidden


@pytest.fixture
def batch():
    torch.manual_seed(0)
    lengths = torch.tensor([16000, 12000, 9600])
    return {
        "speech": torch.randn(3, 16000) * 0.05 * (torch.arange(16000) < lengths[:, None]),
        "speech_lengths": lengths,
        "text": torch.tensor([[50, 60, 70, 80], [30, 40, -1, -1], [90, -1, -1, -1]]),
        "text_lengths": torch.tensor([4, 2, 1]),
        "lang": torch.tensor([[50259], [50263], [50262]]),
        "utt_id": ["a", "b", "c"],
    }


def part(batch, rows):
    """Some rows of a batch; lengths keep their padding."""
    return {k: [v[r] for r in rows] if k == "utt_id" else v[rows] for k, v in batch.items()}


def test_logits_are_openais(weights_dir, clips):
    """Encoder and decoder from a checkpoint, against openai-whisper's own forward, to 1e-5."""
    from espnet_dq.data.audio import load_audio
    from espnet_dq.task.decoder import DQWhisperDecoder
    from espnet_dq.task.encoder import DQWhisperEncoder

    reference = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu").float().eval()
    encoder, decoder = DQWhisperEncoder(dims="tiny"), DQWhisperDecoder(51865, 384, dims="tiny")
    encoder.net.load_state_dict(reference.encoder.state_dict())
    decoder.net.load_state_dict(reference.decoder.state_dict())
    encoder.eval(), decoder.eval()
    path, _, text = clips[4]
    audio = torch.from_numpy(load_audio(path))
    tokens = torch.tensor([[50258, 50263, 50359, 50363, *DQWhisperTokenizer().text2ids(text)]])
    with torch.no_grad():
        # As `whisper.transcribe` cuts its windows: content frames, then zeros.
        mel = whisper.log_mel_spectrogram(audio, padding=480000)[:, : len(audio) // 160]
        expected = reference(whisper.pad_or_trim(mel, 3000)[None], tokens)
        out, lengths, _ = encoder(audio[None], torch.tensor([len(audio)]))
        found, _ = decoder(out, lengths, tokens, torch.tensor([tokens.shape[1]]))
    assert (found - expected).abs().max() <= 1e-5


def test_every_weight_asked_for_is_on_the_grid(build):
    """Regression: asking for 8 bits built a float student."""
    model = build(grid="ct2_int8", preset="full")
    on_grid = quantized_weights(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Embedding):
            assert on_grid[f"{name}.weight"] == "ct2_int8"


def test_a_grid_for_each_weight(build, make_toy):
    grids = dict.fromkeys(assign_grids(make_toy().dims, "uniform4"), "uniform4")
    grids |= {"encoder.conv1.weight": "none", "decoder.token_embedding.weight": "uniform6_g32"}
    found = quantized_weights(build(grid=grids, preset="full"))
    assert found.pop("decoder.net.token_embedding.weight") == "uniform6_g32"
    assert set(found.values()) == {"uniform4"} and "encoder.net.conv1.weight" not in found
    del grids["encoder.conv1.weight"]
    with pytest.raises(InputError, match=r"encoder\.conv1\.weight has no grid in the table"):
        build(grid=grids, preset="full")
    with pytest.raises(InputError, match=r"encoder\.ln_post\.weight is no weight that can be"):
        build(grid=grids | {"encoder.ln_post.weight": "uniform4"}, preset="full")


@pytest.mark.parametrize("ranges", ["lsq", "pact"])
def test_learned_ranges_start_from_a_float_student_and_learn(build, batch, ranges):
    model = build(preset="full", grid="uniform4", ranges=ranges)
    own = {n: p for n, p in model.named_parameters() if n.endswith(".0.range")}
    assert len(own) == len(quantized_weights(model))
    assert all(p.isfinite().all() for p in own.values())
    model.train()
    model(**batch)[0].backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in own.values())
    # What was learned is what a resumed run goes on with.
    name = "decoder.net.blocks.0.mlp.0.weight_range"
    state = model.state_dict()
    state[name] = state[name] * 0.5
    again = build(preset="full", grid="uniform4", ranges=ranges, load=False)
    again.load_state_dict(state)
    assert torch.equal(again.state_dict()[name], state[name])


def test_activations_on_a_grid_change_the_loss_and_refuse_a_cached_encoder(build, batch):
    plain, quantized = (build(preset="full", activations=a) for a in ("none", "int8_per_token"))
    assert set(plain.state_dict()) == set(quantized.state_dict())
    losses = [model.eval()(**batch)[0] for model in (plain, quantized)]
    assert losses[0] != losses[1]
    torch.testing.assert_close(*losses, rtol=0.05, atol=0.0)
    losses[1].backward()
    assert quantized.decoder.net.blocks[0].mlp[0].parametrizations.weight.original.grad.any()
    quantized.requires_grad_(False)
    with pytest.raises(InputError, match="encoder_out is cached without activations"):
        quantized(**batch, encoder_out=torch.zeros(3, 50, 64))


def test_the_teacher_is_outside(build, batch):
    model = build(matching="dynamic", teacher_window="student")
    model.train()
    model(**batch)
    teacher = model.teacher.model()
    ours = {id(p) for p in teacher.parameters()}
    assert not ours & {id(p) for p in model.parameters()}
    assert not any("teacher" in k for k in model.state_dict())
    assert not any(m.training for m in teacher.modules())
    assert model.encoder.training


def test_building_does_not_load_the_teacher(build):
    model = build(teacher="/nowhere/teacher.pt")
    with pytest.raises(InputError, match=r"/nowhere/teacher\.pt"):
        model.teacher.model()


@pytest.mark.parametrize("matching", ["logits", "static"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_loss_does_not_depend_on_padding(build, batch, matching, share):
    """Regression: the loss was a sum with constants for its normaliser."""
    model = build(matching=matching, teacher_window="full", timestamp_share=share, window="full")
    model.eval()
    if model.projector is not None:
        torch.nn.init.normal_(model.projector.weight)
    loss, _, weight = model(**batch)
    wider = dict(batch)
    wider["text"] = torch.cat([batch["text"], torch.full((3, 5), -1)], dim=1)
    wider["speech"] = torch.cat([batch["speech"], torch.zeros(3, 3000)], dim=1)
    again, _, _ = model(**wider)
    assert torch.allclose(loss, again, rtol=1e-5)
    pieces = [model(**part(batch, rows)) for rows in ([0], [1, 2])]
    split = sum(p[0] * p[2] for p in pieces) / weight
    assert torch.allclose(loss, split, rtol=1e-4)
    assert sum(int(p[2]) for p in pieces) == int(weight) == 7 + 3 + (6 if share else 0)


def test_taps_see_the_causal_mask(build):
    """Regression: hidden states were recomputed without the mask."""
    decoder = build().decoder.net
    torch.manual_seed(1)
    audio, tokens = torch.randn(1, 30, 64), torch.randint(0, 50000, (1, 8))
    changed = tokens.clone()
    changed[0, 5] += 1
    for tap, width in (("block", 64), ("ffn", 256)):
        states = []
        for t in (tokens, changed):
            with Taps(decoder, tap) as taps, torch.no_grad():
                decode_hidden(decoder, t, audio)
            assert [s.shape for s in taps.states] == [(1, 8, width)] * 2
            states.append(torch.stack(taps.states))
        assert torch.equal(states[0][:, :, :5], states[1][:, :, :5])
        assert not torch.equal(states[0][:, :, 5:], states[1][:, :, 5:])
    with Taps(decoder, "block") as taps, torch.no_grad():
        decode_hidden(decoder, tokens, audio)
    kept = len(taps.states)
    decode_hidden(decoder, tokens, audio)
    assert len(taps.states) == kept  # the hooks are gone


def test_block_tap_is_the_block_output(build):
    decoder = build().decoder.net
    audio, tokens = torch.randn(1, 30, 64), torch.tensor([[1, 2, 3]])
    with Taps(decoder, "block") as taps, torch.no_grad():
        hidden = decode_hidden(decoder, tokens, audio)
        assert torch.equal(decoder.ln(taps.states[-1]), hidden)


@pytest.mark.parametrize("matching", ["static", "dynamic", "dynamic_monotonic"])
@pytest.mark.parametrize("tap", ["block", "ffn"])
@pytest.mark.parametrize("distance", ["mse", "softmax_mse", "cosine"])
def test_hidden_term_trains_student_and_projector(build, batch, matching, tap, distance):
    model = build(matching=matching, tap=tap, distance=distance, alpha=1.0, lambda_hidden=1e3)
    model.train()
    loss, stats, _ = model(**batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert stats["loss_hidden"] > 0
    assert [0 <= int(stats[f"match_l{i}"]) < 3 for i in range(2)] == [True, True]
    assert model.projector.weight.grad.abs().sum() > 0
    assert model.decoder.net.blocks[0].mlp[0].weight.grad.abs().sum() > 0


def test_alpha_mixes_the_terms(build, batch):
    model = build(matching="logits", alpha=0.3)
    model.eval()
    loss, stats, _ = model(**batch)
    assert torch.allclose(loss, 0.7 * stats["loss_ce"] + 0.3 * stats["loss_kl"])


def test_loading_is_strict_even_if_asked_not_to_be(build):
    """Regression: a checkpoint was loaded with strict=False, and the quantizer was dropped."""
    model = build()
    state = model.state_dict()
    del state["decoder.net.ln.weight"]
    with pytest.raises(RuntimeError, match=r"missing keys, decoder\.net\.ln\.weight"):
        build().load_state_dict(state, strict=False)
    state = {**model.state_dict(), "decoder.net.extra": torch.ones(1)}
    with pytest.raises(RuntimeError, match=r"unexpected keys, decoder\.net\.extra"):
        build().load_state_dict(state, strict=False)


def test_a_weight_that_was_never_loaded_is_named(build, batch):
    with pytest.raises(InputError, match="was not loaded"):
        build(load=False)(**batch)


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
        whisper.model.ModelDimensions(**saved["dims"]), saved["model_state_dict"], "ct2_int8",
        "encoder", tmp_path,
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


def test_a_cache_of_something_else_is_refused(build, save_toy, corpus, tmp_path):
    model = build(matching="logits")
    saved = torch.load(save_toy(seed=0), weights_only=True)
    dims = whisper.model.ModelDimensions(**saved["dims"])

    def student(state, grid="ct2_int8"):
        return Student(dims, state, grid, "encoder", tmp_path)

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


def test_windows(build):
    encoder = build(window="random").encoder
    encoder.train()
    torch.manual_seed(0)
    seen = {encoder.samples(16000) for _ in range(20)}
    assert len(seen) > 5 and all(16000 <= s <= 480000 and s % 320 == 0 for s in seen)
    encoder.eval()
    assert encoder.samples(16000) == 480000
    batch = build(window="batch").encoder.train()
    assert batch.samples(16001) == 16320
    some = build(window=2.0).encoder.train()
    assert some.samples(16000) == 48000 and some.samples(479000) == 480000
    with pytest.raises(InputError, match=r"31\.0 s"):
        some.samples(31 * 16000)


def test_configuration_mistakes_are_named(build):
    for wrong, message in (
        ({"matching": "best"}, "matching 'best'"),
        ({"teacher_window": "half"}, "window 'half'"),
        ({"grid": "int3", "preset": "none"}, "grid 'int3'"),
        ({"preset": "some"}, "preset 'some'"),
        ({"teacher": None}, "needs a teacher"),
    ):
        with pytest.raises(InputError, match=message):
            build(**wrong)


def test_preprocessor_names_the_utterance():
    preprocess = DQWhisperPreprocessor(True, "dq_whisper", token_list())
    with pytest.raises(InputError, match="utterance u7: unknown language 'xx'"):
        preprocess("u7", {"lang": "xx"})
    with pytest.raises(InputError, match="bpemodel"):
        DQWhisperPreprocessor(True, "whisper_en", token_list())
    with pytest.raises(InputError, match="rir_scp"):
        DQWhisperPreprocessor(True, "dq_whisper", token_list(), rir_scp="rirs")


def test_tokens_are_whispers():
    tokenizer = DQWhisperTokenizer()
    assert len(set(tokenizer.tokens)) == 51865
    assert tokenizer.tokens[50263] == "<|ru|>"
    for text in ("Привет, мир!", "naïve café", "日本語のテキスト", "a  b"):
        assert tokenizer.tokens2text(tokenizer.text2tokens(text)) == text
        assert [tokenizer.ids[t] for t in tokenizer.text2tokens(text)] == (
            tokenizer.tokenizer.encode(" " + text)
        )
