"""Prepared models in the loops of others: what was trained is what is written, whatever they do.

transformers and accelerate judge: their own saving, loading, tying, generating and wrapping.
"""

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_model, save_model
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperModel,
)

import espnet_dq as dq
from espnet_dq.errors import InputError
from espnet_dq.quant import activations
from espnet_dq.quant.activations import int8_per_token
from espnet_dq.quant.fake_quant import FakeQuantize

IDS = torch.tensor([[50258, 50259, 50359, 440, 7]])
EMBEDDING = "model.decoder.embed_tokens"


def small(seed: int = 0, **more) -> WhisperForConditionalGeneration:
    """A random model of 2 s windows."""
    torch.manual_seed(seed)
    config = dict(
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128,
        max_source_positions=100, max_target_positions=32, vocab_size=51865,
        decoder_start_token_id=50258, bos_token_id=50257, eos_token_id=50257, pad_token_id=50257,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return WhisperForConditionalGeneration(WhisperConfig(**config | more)).eval()


@pytest.fixture
def mel() -> torch.Tensor:
    return torch.randn(2, 80, 200, generator=torch.Generator().manual_seed(0))


def prepared(seed: int = 0, grid: str = "uniform4", **options) -> WhisperForConditionalGeneration:
    return dq.prepare(small(seed), grid, **options)


def logits(net, mel) -> torch.Tensor:
    with torch.no_grad():
        return net(input_features=mel, decoder_input_ids=IDS.repeat(2, 1)).logits


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def written(net, folder: Path) -> dict[str, torch.Tensor]:
    """What `save` writes of a net, after `verify` found nothing."""
    path = dq.save(net, folder / "student.safetensors", to="packed")
    assert dq.verify(path, against=net).check().mismatched == 0
    return dq.load(path).weights.state


def moved(net) -> None:
    """Trained, for all that a loop can see."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) / 50)


@pytest.mark.parametrize("options", [{}, {"ranges": "lsq", "preset": "encoder"}])
def test_state_dicts_are_plain_and_go_back(options, mel):
    net = prepared(**options)
    names = small().state_dict().keys()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert {name for name in state if not name.endswith("_range")} == names
    before = logits(net, mel)
    moved(net)
    assert not torch.equal(logits(net, mel), before)
    net.load_state_dict(state)
    assert same(net.state_dict(), state) and torch.equal(logits(net, mel), before)


def test_the_tied_pair_stays_one(mel, tmp_path):
    net = prepared()
    moved(net)
    before = logits(net, mel)
    net.tie_weights()
    net.tie_weights(recompute_mapping=False)
    pair = [net.get_submodule(name).parametrizations.weight for name in (EMBEDDING, "proj_out")]
    assert pair[0].original is pair[1].original and torch.equal(logits(net, mel), before)
    net.save_pretrained(tmp_path / "checkpoint", max_shard_size="1MB")
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path / "checkpoint")
    assert same(again.state_dict(), net.state_dict())
    assert torch.equal(logits(dq.prepare(again, "uniform4"), mel), before)


@pytest.mark.slow
def test_it_generates_what_the_written_model_does(mel, tmp_path):
    net = prepared()
    moved(net)
    given = {"max_new_tokens": 6, "language": "en", "task": "transcribe"}
    path = dq.save(net, tmp_path / "student.safetensors", to="packed")
    other = WhisperForConditionalGeneration.from_pretrained(
        dq.save(dq.load(path), tmp_path / "plain", to="hf")
    )
    net.generation_config = other.generation_config
    for beams in (1, 2):
        found = [model.generate(mel[:1], num_beams=beams, **given) for model in (net, other)]
        assert torch.equal(*found) and found[0].numel() > 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["checkpointing", "copy", "accelerate", "parallel"])
def test_gradients_are_those_of_the_plain_loop(how, mel, tmp_path):
    def gradients(net, inner) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net.train()
        net(input_features=mel, labels=IDS.repeat(2, 1)).loss.backward()
        return {n: p.grad for n, p in inner.named_parameters() if p.requires_grad}

    # To learn the range of a whole embedding takes seconds.
    options = {"ranges": "lsq", "preset": "encoder"} if how == "checkpointing" else {}
    plain = prepared(**options)
    expected = gradients(plain, plain)
    inner = net = prepared(**options)
    if how == "checkpointing":
        net.gradient_checkpointing_enable({"use_reentrant": False})
    elif how == "copy":
        original, inner = net, copy.deepcopy(net)
        moved(original)
        net = inner
    elif how == "accelerate":
        net = Accelerator(cpu=True).prepare(inner)
    else:
        net = torch.nn.DataParallel(inner)
    assert same(gradients(net, inner), expected)
    assert any(name.endswith("range") for name in expected) == bool(options)
    if how != "checkpointing":
        state, layer = written(net, tmp_path), inner.model.decoder.layers[1].fc2
        assert torch.equal(state["decoder.blocks.1.mlp.2.weight"], layer.weight)
    if net is not inner:
        with pytest.raises(InputError, match="prepare the model within first"):
            dq.prepare(torch.nn.DataParallel(small()), "uniform4")


def test_under_autocast_weights_are_on_the_grid_before_they_are_cast(mel):
    net, seen = prepared(), []
    layer = net.model.decoder.layers[0].fc1
    torch_linear = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        seen.append(weight)
        return torch_linear(x, weight, bias)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(torch.nn.functional, "linear", linear)
        net(input_features=mel, labels=IDS.repeat(2, 1)).loss.backward()
    assert any(w.shape == layer.weight.shape and torch.equal(w, layer.weight) for w in seen)
    assert {weight.dtype for weight in seen} == {torch.float32}
    assert layer.parametrizations.weight.original.grad.abs().sum() > 0


def test_what_is_frozen_stays_so():
    net = small()
    net.model.encoder.layers.requires_grad_(False)
    dq.prepare(net, "uniform4", ranges="lsq", preset="encoder")
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("model.encoder.layers.") for name in trained)
    assert any(name.startswith("model.encoder.conv") and name.endswith("range") for name in trained)


def test_inputs_are_rounded_as_the_runtime_does(mel):
    """Of every product, the output projection's, which reads the last LayerNorm, too."""
    net, raw, seen = small(), {}, {}
    layers = {n: m for n, m in net.named_modules() if isinstance(m, torch.nn.Linear)}

    def keep(table, name):
        return lambda module, inputs, *output: table.__setitem__(
            name, (*output, *inputs)[0].clone()
        )

    for name, layer in layers.items():
        if name != "proj_out":
            layer.register_forward_pre_hook(keep(raw, name))
    net.model.decoder.layer_norm.register_forward_hook(keep(raw, "proj_out"))
    dq.prepare(net, "ct2_int8", activations="int8_per_token")
    for name, layer in layers.items():
        layer.register_forward_pre_hook(keep(seen, name))
    logits(net, mel)
    assert len(layers) == 6 + 2 * 10 + 1 and seen.keys() == layers.keys()
    for name in layers:
        assert torch.equal(seen[name], int8_per_token(raw[name])), name
        assert not torch.equal(seen[name], raw[name]), name


def test_nothing_is_left_of_what_did_not_fit(mel):
    net = small()
    before = logits(net, mel)
    with pytest.raises(InputError, match="no such file"):
        dq.prepare(net, "ct2_int8", activations="int8_static", activation_ranges="nowhere.json")
    assert torch.equal(logits(net, mel), before)
    names = {name for name, _ in net.named_parameters()}
    assert names == {name for name, _ in small().named_parameters()}
    dq.prepare(net, "ct2_int8")


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["max", "lsq"])
def test_a_resumed_training_ends_where_an_unbroken_one_does(ranges, mel, tmp_path):
    """By the Trainer's own checkpoints."""

    def train(steps: int, folder: str, **options):
        net = prepared(ranges=ranges)
        data = [{"input_features": m, "labels": IDS[0]} for m in mel.repeat(4, 1, 1)]
        settings = Seq2SeqTrainingArguments(
            output_dir=str(tmp_path / folder), max_steps=steps, per_device_train_batch_size=2,
            learning_rate=1e-3, lr_scheduler_type="constant", save_steps=2, report_to=[], seed=0,
            use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        Seq2SeqTrainer(model=net, args=settings, train_dataset=data).train(**options)
        return net

    whole = train(4, "whole")
    train(2, "broken")
    resumed = train(4, "broken", resume_from_checkpoint=True)
    assert same(resumed.state_dict(), whole.state_dict())
    assert not same(whole.state_dict(), prepared(ranges=ranges).state_dict())
    state, layer = written(resumed, tmp_path), whole.model.decoder.layers[1].fc2
    assert torch.equal(state["decoder.blocks.1.mlp.2.weight"], layer.weight)


def test_accelerate_and_safetensors_go_on_from_what_they_saved(mel, tmp_path):
    net = prepared(ranges="lsq")
    accelerator = Accelerator(cpu=True)
    net, _ = accelerator.prepare(net, torch.optim.AdamW(net.parameters()))
    moved(net)
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    accelerator.save_state(str(tmp_path / "state"))
    moved(net)
    accelerator.load_state(str(tmp_path / "state"))
    assert same(net.state_dict(), expected)
    save_model(net, str(tmp_path / "net.safetensors"))
    again = prepared(1, ranges="lsq")
    load_model(again, str(tmp_path / "net.safetensors"))
    assert same(again.state_dict(), expected)
    assert torch.equal(logits(again, mel), logits(net, mel))


def test_what_leaves_its_grid_after_prepare_is_refused(tmp_path):
    resized = prepared()
    resized.resize_token_embeddings(51904)
    replaced = prepared()
    replaced.model.decoder.layers[0].fc1 = torch.nn.Linear(32, 128)
    for net, said in ((resized, "proj_out|embed_tokens"), (replaced, "fc1.weight was put on a")):
        with pytest.raises(InputError, match=said):
            dq.save(net, tmp_path / "x.safetensors", to="packed")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vocab_size": 51868}, "no Whisper tokenizer has 51868 tokens"),
        ({"encoder_ffn_dim": 96}, r"the model: encoder\.blocks\.0\.mlp\.0\.weight has shape"),
        ({"activation_function": "relu"}, "the model's config: activation_function is 'relu'"),
        ({"scale_embedding": True}, "the model's config: scale_embedding is True"),
        ({"decoder_start_token_id": 7}, "the model's generation_config: decoder_start_token_id is"),
    ],
)
def test_what_could_not_be_saved_is_not_prepared(config, said):
    net = small(**config)
    for do in (lambda: dq.prepare(net, "uniform4"), lambda: dq.save(net, "x.pt")):
        with pytest.raises(InputError, match=f"^{said}"):
            do()


def test_an_added_token_is_not_taken_for_one_of_large_v3(tmp_path):
    net = small()
    net.resize_token_embeddings(51866, mean_resizing=False)
    said = "51866 tokens are a Whisper's, or 51865 and an added one: no_timestamps_token_id"
    with pytest.raises(InputError, match=f"^the model's generation_config: {said}"):
        dq.prepare(net, "uniform4")
    net.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"generation_config\.json: {said}"):
        dq.load(tmp_path)
    net.generation_config.no_timestamps_token_id = 50363  # of 51865 tokens
    with pytest.raises(InputError, match="no_timestamps_token_id is not that of this vocabulary"):
        dq.prepare(net, "uniform4")
    net.generation_config.no_timestamps_token_id = 50364
    assert dq.prepare(net, "uniform4") is net


def test_settings_that_transformers_refuses_to_write_are_saved(tmp_path):
    """Those of old scripts; nothing is written but what is asked for."""
    net = prepared()
    net.config.max_length = 225
    net.generation_config.early_stopping, net.generation_config.temperature = True, 0.7
    with pytest.raises(ValueError):
        net.save_pretrained(tmp_path / "theirs")
    written(net, tmp_path)
    others = dq.load(tmp_path / "student.safetensors").weights.generation.others
    assert others["temperature"] == 0.7 and others["max_length"] == 32
    net.generation_config.suppress_tokens = [60000]
    with pytest.raises(InputError, match=r"^the model's generation_config: suppress_"):
        dq.save(net, tmp_path / "again.safetensors", to="packed")


def test_compiled_models_round_as_they_do_otherwise(make_toy, monkeypatch):
    """Of weights and inputs nothing is traced, so nothing of it can be fused."""
    seen = []

    def noted(x):
        seen.append(torch.compiler.is_compiling())
        return int8_per_token(x) if isinstance(x, torch.Tensor) else None

    monkeypatch.setattr(activations, "int8_per_token", noted)
    monkeypatch.setattr(FakeQuantize, "let_go", noted)
    net = make_toy(state=32, layers=1, text_ctx=32, audio_ctx=100)
    dq.prepare(net, "uniform4", activations="int8_per_token")
    layer, x = net.encoder.blocks[0].mlp[0], torch.randn(1, 2, 32)
    assert torch.equal(torch.compile(layer, backend="eager")(x), layer(x))
    assert len(seen) == 4 and not any(seen)


def test_parts_are_plain_to_transformers(tmp_path):
    net = prepared()
    net.model.save_pretrained(tmp_path / "part")
    part, info = WhisperModel.from_pretrained(tmp_path / "part", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    own = net.model.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in part.state_dict().items())
