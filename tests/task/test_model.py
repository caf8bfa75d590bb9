"""The training model against openai-whisper, and the mistakes of the published code."""

import pytest
import torch
import whisper

from espnet_dq.errors import InputError
from espnet_dq.quant.prepare import assign_grids, quantized_weights
from espnet_dq.task.tokenizer import DQWhisperTokenizer
from espnet_dq.whisper.forward import decode_hidden, log_mel
from espnet_dq.whisper.taps import Taps
from tests.spread import bound


def part(batch, rows):
    """Some rows of a batch; lengths keep their padding."""
    return {k: [v[r] for r in rows] if k == "utt_id" else v[rows] for k, v in batch.items()}


def test_logits_are_openais(weights_dir, clips):
    """Encoder and decoder from a checkpoint, against openai-whisper's own forward."""
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
    tokens = torch.tensor(
        [[50258, 50263, 50359, 50363, *DQWhisperTokenizer().text2ids(text, "ru")]]
    )
    with torch.no_grad():
        # As `whisper.transcribe` cuts its windows: content frames, then zeros.
        mel = whisper.log_mel_spectrogram(audio, padding=480000)[:, : len(audio) // 160]
        mel = whisper.pad_or_trim(mel, 3000)[None]
        expected = reference(mel, tokens)
        out, lengths, _ = encoder(audio[None], torch.tensor([len(audio)]))
        found, _ = decoder(out, lengths, tokens, torch.tensor([tokens.shape[1]]))
    assert (found - expected).abs().max() <= bound(reference, mel, tokens)


def test_every_weight_asked_for_is_on_the_grid(build):
    """Regression: asking for 8 bits built a float student."""
    model = build(grid="ct2_int8", preset="full")
    on_grid = quantized_weights(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Embedding):
            assert on_grid[f"{name}.weight"] == "ct2_int8"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("terms", [
    {"matching": "logits"},
    {"matching": "static"},
    {"matching": "static", "lambda_hidden": 0, "lambda_encoder": 1.0},
    {"matching": "dynamic", "matching_scope": "utterance"},
])  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_loss_does_not_depend_on_padding(build, batch, terms, share):
    """Regression: the loss was a sum with constants for its normaliser."""
    model = build(**terms, teacher_window="full", timestamp_share=share, window="full")
    model.eval()
    for projector in (model.projector, model.encoder_projector):
        if projector is not None:
            torch.nn.init.normal_(projector.weight)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_each_language_may_choose_its_own_layers(build, batch):
    """Scope `language`: the loss of a mixed batch is that of one batch a language, weighed."""
    batch = {**batch, "lang": torch.tensor([[50259], [50263], [50259]])}
    conf = {"matching": "dynamic", "alpha": 1.0, "window": "full"}
    model = build(**conf, matching_scope="language").eval()
    torch.nn.init.normal_(model.projector.weight)
    _, stats, weight = model(**batch)
    for scope in ("language", "batch"):
        other = build(**conf, matching_scope=scope).eval()
        other.load_state_dict(model.state_dict())
        parts = [other(**part(batch, rows)) for rows in ([0, 2], [1])]
        expected = sum(p[1]["loss_hidden"] * p[2] for p in parts) / weight
        assert torch.allclose(stats["loss_hidden"], expected, rtol=1e-4)
        if scope == "batch":
            for code, (_, alone, _) in zip(("en", "ru"), parts, strict=True):
                assert [stats[f"match_{code}_l{i}"] for i in (0, 1)] == [
                    alone[f"match_l{i}"] for i in (0, 1)
                ]


@pytest.mark.slow
def test_lambda_auto_is_measured_once_and_saved(build, batch):
    model = build(matching="static", distance="softmax_mse", lambda_hidden="auto", alpha=1.0)
    model.train()
    for _ in range(8):
        assert not model.projector.fitting or model.projector.term_weight.isnan()
        loss, stats, _ = model(**batch)
    # The least-squares start is over, and the weight is there.
    assert not model.projector.fitting
    weight = stats["lambda_hidden"]
    assert weight > 0 and weight == model.projector.term_weight
    assert torch.allclose(loss, stats["loss_kl"] + weight * stats["loss_hidden"])
    resumed = build(matching="static", distance="softmax_mse", lambda_hidden="auto", alpha=1.0)
    resumed.load_state_dict(model.state_dict())
    model(**{**batch, "text": batch["text"] + 1 * (batch["text"] > 0)})
    assert resumed.projector.term_weight == model.projector.term_weight == weight

    # The gradients that the ratio is of, as two backward passes give them.
    def norm(**conf):
        one = build(matching="static", distance="softmax_mse", alpha=1.0, **conf).train()
        state = {**model.state_dict(), "projector.term_weight": torch.tensor(torch.nan)}
        one.load_state_dict(state)
        one(**batch)[0].backward()
        return {n: p.grad for n, p in one.decoder.named_parameters() if p.grad is not None}

    kl, both = norm(lambda_hidden=1e-12), norm(lambda_hidden=float(weight))
    hidden = sum((both[n] - kl[n]).square().sum() for n in kl).sqrt()
    assert hidden / sum(g.square().sum() for g in kl.values()).sqrt() == pytest.approx(
        0.3, rel=0.02
    )


@pytest.mark.slow
def test_the_encoder_learns_from_the_teachers(build, batch):
    model = build(lambda_hidden=0, lambda_encoder=5.0, alpha=1.0, window="full").train()
    assert model.projector is None
    loss, stats, _ = model(**batch)
    loss.backward()
    assert torch.allclose(loss, stats["loss_kl"] + 5 * stats["loss_encoder"])
    assert stats["loss_encoder"] > 0 and 0 <= int(stats["match_encoder_l0"]) < 3
    assert model.encoder_projector.weight.grad.any()
    with pytest.raises(InputError, match="needs an encoder that is trained"):
        build(lambda_encoder=1.0, train_encoder="none")


@pytest.mark.slow
def test_the_guide_compares_softmaxed_weights_as_they_are_quantized(build, batch):
    """`kdq`: against the sums written out."""
    conf = {"lambda_hidden": 0, "lambda_guide": 2.0, "alpha": 1.0, "matching": "dynamic"}
    model = build(**conf, preset="full", grid="uniform4").train()
    loss, stats, _ = model(**batch)  # the first step starts the two maps
    assert model.guide.fitted and model.projector is None
    loss, stats, _ = model(**batch)
    loss.backward()
    assert torch.allclose(loss, stats["loss_kl"] + 2 * stats["loss_guide"])
    grid_values = [block.mlp[0].weight for block in model.decoder.net.blocks]
    assert all(len(w[0].unique()) <= 16 for w in grid_values)
    teacher = model.teacher.first_linears()
    mapped = [model.guide.rows @ w @ model.guide.columns.T for w in teacher]
    with torch.no_grad():
        pairs = torch.tensor([
            [(a.softmax(1) - b.softmax(1)).abs().sum(1).mean() for b in mapped] for a in grid_values
        ])  # fmt: skip
    assert torch.allclose(stats["loss_guide"], pairs.min(dim=1).values.mean(), rtol=1e-4)
    assert [int(stats[f"guide_l{i}"]) for i in (0, 1)] == pairs.argmin(dim=1).tolist()
    original = model.decoder.net.blocks[0].mlp[0].parametrizations.weight.original
    assert original.grad.any() and model.guide.rows.grad.any() and model.guide.columns.grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("trained, blocks", [("all", 2), (1, 1), ("none", 0)])
def test_the_last_blocks_of_the_encoder_may_be_trained(build, batch, trained, blocks):
    model = build(train_encoder=trained, preset="full").train()
    model(**batch)[0].backward()
    net = model.encoder.net
    learned = [all(p.grad is not None for p in b.parameters()) for b in net.blocks]
    assert learned == [False] * (2 - blocks) + [True] * blocks
    assert (net.ln_post.weight.grad is not None) == (blocks > 0)
    assert any(p.grad is not None for p in net.conv1.parameters()) == (trained == "all")


@pytest.mark.slow
def test_alpha_mixes_the_terms(build, batch):
    model = build(matching="logits", alpha=0.3)
    model.eval()
    loss, stats, _ = model(**batch)
    assert torch.allclose(loss, 0.7 * stats["loss_ce"] + 0.3 * stats["loss_kl"])


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_training_with_other_terms_goes_on_from_kd(build, caplog):
    """What the terms of kd have learned is left where qat has no such term, or another one."""
    kd = build(matching="dynamic", lambda_guide=1.0).state_dict()
    qat = build(matching="logits")
    qat.load_state_dict(kd)
    assert "projector of the loaded state: not needed" in caplog.text
    student = {k: v for k, v in qat.state_dict().items()}
    assert all(torch.equal(v, kd[k]) for k, v in student.items())
    other = build(matching="dynamic", tap="ffn")
    own = other.projector.weight.clone()
    # As ESPnet loads: what a checkpoint does not have stays as it is.
    other.load_state_dict({**other.state_dict(), **kd})
    assert "projector of the loaded state: begins anew" in caplog.text
    assert torch.equal(other.projector.weight, own)
    del kd["projector.batches"]
    with pytest.raises(RuntimeError, match=r"missing keys, projector\.batches"):
        build(matching="dynamic").load_state_dict(kd)


def test_a_weight_that_was_never_loaded_is_named(build, batch):
    with pytest.raises(InputError, match="was not loaded"):
        build(load=False)(**batch)


@pytest.mark.slow
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
    listed = build(window=[1, 2.5, 5, 40]).encoder.train()
    assert {listed.samples(16001) for _ in range(30)} == {40000, 80000, 480000}
    assert {build(window=[1]).encoder.train().samples(16001)} == {480000}
    assert build(window=1e306).encoder.train().samples(16001) == 480000
    some = build(window=2.0).encoder.train()
    assert some.samples(16000) == 48000 and some.samples(479000) == 480000
    with pytest.raises(InputError, match=r"31\.0 s"):
        some.samples(31 * 16000)


@pytest.mark.slow
def test_masks_are_for_the_student_in_training_alone(build, batch, masks):
    model, plain = build(specaug=masks).train(), build().train()
    heard = []
    for encoder in (model.encoder.net, model.teacher.model().encoder):
        encoder.conv1.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0]))
    model(**batch)
    student, teacher = heard
    clean, whole = (
        log_mel(batch["speech"], batch["speech_lengths"], h.shape[1], h.shape[2] * 160)
        for h in heard
    )
    assert torch.equal(teacher, whole)
    masked = student == 0
    assert masked.all(dim=2).sum(dim=1).tolist() == [9, 9, 9]  # bands, of each utterance its own
    assert masked[0].all(dim=0).sum() == 20  # frames, of the one that has no padding
    assert torch.equal(student, clean.masked_fill(masked, 0.0))
    found, expected = (m.eval()(**batch)[1]["loss_ce"] for m in (model, plain))
    assert found == expected


@pytest.mark.slow
def test_configuration_mistakes_are_named(build, masks):
    for wrong, message in (
        ({"specaug": masks, "train_encoder": "none"}, "specaug needs an encoder that is trained"),
        ({"matching": "best"}, "matching 'best'"),
        ({"matching_scope": "speaker"}, "matching_scope 'speaker': known are batch"),
        ({"matching_normalization": "row"}, "matching_normalization 'row': known are none"),
        ({"distance": "l1"}, "distance 'l1'"),
        ({"lambda_hidden": "big"}, "lambda_hidden: 'big' is neither a number nor auto"),
        ({"train_encoder": 3}, "train_encoder '3': all, none, or up to 2 blocks"),
        ({"teacher_window": "half"}, "window 'half'"),
        ({"grid": "int3", "preset": "none"}, "grid 'int3'"),
        ({"preset": "some"}, "preset 'some'"),
        ({"teacher": None}, "needs a teacher"),
    ):
        with pytest.raises(InputError, match=message):
            build(**wrong)
