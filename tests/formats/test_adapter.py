"""LoRA adapters in their models, as peft itself merges them; what is no plain LoRA is refused."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

import espnet_dq as dq
from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify
from espnet_dq.errors import InputError
from espnet_dq.fetch import weights
from espnet_dq.fetch.sources import HUB_NAMES, MODELS
from espnet_dq.formats.hf.names import hf_name

U = 2.0**-24  # half of float32's step at 1


@pytest.fixture(scope="module")
def base(make_toy, tmp_path_factory) -> Path:
    """A toy as a Hugging Face folder, without a tokenizer, which takes its time to read."""
    folder = tmp_path_factory.mktemp("base")
    toy = make_toy(text_ctx=32, n_vocab=51865, state=32)
    path = folder / "toy.pt"
    torch.save({"dims": vars(toy.dims), "model_state_dict": toy.state_dict()}, path)
    dq.save(dq.load(path), folder / "whole", to="hf")
    (folder / "hf").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / "whole" / name, folder / "hf")
    return folder / "hf"


def adapted(base: Path, **config) -> peft.PeftModel:
    """Of the base, with random adapters of no plain start, and other values where it may."""
    torch.manual_seed(0)
    net = WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    config = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"]} | config
    model = peft.get_peft_model(net, peft.LoraConfig(init_lora_weights=False, **config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora" not in name:
                parameter.add_(torch.randn_like(parameter) / 8)
    return model


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory) -> Path:
    """A folder of adapters as `adapted` makes them where nothing is said."""
    folder = tmp_path_factory.mktemp("plain") / "lora"
    adapted(base).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain, tmp_path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(plain, tmp_path / "lora")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"target_modules": "all-linear", "use_rslora": True},
        {
            "target_modules": ["q_proj", "fc1", "conv2"],
            "rank_pattern": {"encoder.layers.0.self_attn.q_proj": 2, "fc1": 3},
            "alpha_pattern": {"q_proj": 1.5, "layers.1.fc1": 5},
        },
        {"bias": "all", "modules_to_save": ["layer_norm", "conv1"]},
        {"target_modules": ["v_proj"], "bias": "lora_only", "fan_in_fan_out": True},
        {"target_modules": ["out_proj"], "lora_bias": True, "layers_to_transform": [1]},
        {"target_modules": r".*\.encoder\..*fc2", "modules_to_save": ["embed_positions"]},
    ],
)
@pytest.mark.filterwarnings("ignore")  # peft's, of kinds that are seldom used
def test_a_merged_model_is_pefts(config, base, tmp_path, capsys):
    """In float32 peft rounds each of r products and sums, the scaling and the last sum: at most
    (r + 2) U of all that is added, in the first order; we round once."""
    model = adapted(base, **config)
    model.save_pretrained(tmp_path / "lora")
    ours = dq.load(tmp_path / "lora").weights.state
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    said = capsys.readouterr().err
    assert f"merged {len(layers)} adapters of {tmp_path}/lora into {base}\n" in said
    parts = {}
    for name, layer in layers.items():
        a, b = (x["default"].weight.detach().abs().flatten(1) for x in (layer.lora_A, layer.lora_B))
        parts[name.removeprefix("base_model.model.")] = layer.scaling["default"] * (b @ a)
    theirs = model.merge_and_unload().state_dict()
    before = dq.load(base).weights.state
    changed = 0
    for name, tensor in ours.items():
        key = hf_name(name)
        added = parts.get(key.removesuffix(".weight"), torch.zeros(tensor.shape))
        added = added.reshape(tensor.shape)
        most = 2 * (4 + 2) * U * (before[name].abs() + theirs[key].abs() + added)
        assert ((tensor - theirs[key]).abs() <= most).all(), name
        changed += not torch.equal(tensor.float(), before[name].float())
    assert changed >= len(parts)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tied_pair_is_changed_once(base, tmp_path):
    """peft itself adds to the tensor of both twice when it merges, so its unmerged model judges."""
    model = adapted(base, target_modules=["embed_tokens"], ensure_weight_tying=True).eval()
    model.save_pretrained(tmp_path / "lora")
    dq.save(dq.load(tmp_path / "lora"), tmp_path / "hf", to="hf")
    merged = WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf")
    given = {
        "input_features": torch.randn(1, 80, 3000),
        "decoder_input_ids": torch.tensor([[7, 9]]),
    }
    with torch.no_grad():
        logits = model(**given).logits
        torch.testing.assert_close(merged.eval()(**given).logits, logits, rtol=1e-3, atol=1e-3)
        assert (logits - adapted(base).eval()(**given).logits).abs().max() > 1


@pytest.mark.slow
def test_what_is_merged_is_converted_and_verified(base, folder, tmp_path, capsys):
    out = tmp_path / "u4.safetensors"
    given = ["--from", str(folder), "--to", "packed", "--grid", "uniform4", "--out", str(out)]
    assert convert(given) == 0
    assert "merged 6 adapters" in capsys.readouterr().err
    assert dq.verify(out, against=folder, grid="uniform4").check().mismatched == 0
    assert dq.verify(out, against=base, grid="uniform4").mismatched > 0


def test_the_base_is_not_written_over(base, folder, tmp_path):
    """A second merge into what is merged already would be another model."""
    own = tmp_path / "own"
    shutil.copytree(base, own)
    merged, before = dq.load(folder, base=own), (own / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="own: is what is read"):
        dq.save(merged, own, to="hf")
    with pytest.raises(InputError, match="own: is what is read"):
        convert(["--from", str(folder), "--base", str(own), "--to", "hf", "--out", str(own)])
    mean = dq.merge([own, merged])
    with pytest.raises(InputError, match="own: is what is read"):
        dq.save(dq.quantize(mean, "ct2_int8"), own, to="hf")
    assert (own / "model.safetensors").read_bytes() == before


def test_a_pickled_adapter_in_half_precision(base, folder):
    whole = dq.load(folder).weights.state
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({n: t.bfloat16() for n, t in tensors.items()}, folder / "adapter_model.bin")
    name = "decoder.blocks.1.attn.query.weight"
    half = dq.load(folder).weights.state[name]
    assert not torch.equal(half, whole[name])
    # bfloat16 keeps 8 bits: each factor moves by 2^-9 of itself at most.
    torch.testing.assert_close(half, whole[name], rtol=0, atol=float(whole[name].abs().max()) / 64)


def test_the_base_is_named_if_it_is_not_here(base, folder, tmp_path):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    whole = dq.load(folder).weights.state
    path.write_text(json.dumps(config | {"base_model_name_or_path": "someone/whisper-tiny-xx"}))
    with pytest.raises(InputError, match=r"base someone/whisper-tiny-xx is not here: .* --base, "):
        dq.load(folder)
    given = dq.load(folder, base=base).weights.state
    assert all(torch.equal(given[name], whole[name]) for name in whole)
    merged = dq.save(dq.load(folder, base=base), tmp_path / "merged.pt")
    options = [str(merged), "--against", str(folder), "--grid", "none"]
    assert verify([*options, "--base", str(base)]) == 0
    with pytest.raises(InputError, match="is not here"):
        verify(options)
    with pytest.raises(InputError, match="holds no adapter, so it has no base"):
        verify([str(merged), "--against", str(merged), "--grid", "none", "--base", str(base)])
    with pytest.raises(InputError, match="base: only of a folder of adapters"):
        dq.verify(merged, against=dq.load(base), base=base)
    with pytest.raises(InputError, match="holds no adapter, so it has no base"):
        dq.load(base, base=base)
    with pytest.raises(InputError, match="no whole model: merge it"):  # adapters of adapters
        dq.load(folder, base=folder)
    out = tmp_path / "x.pt"
    given = ["--from", str(folder), "--base", str(base), "--to", "openai", "--out", str(out)]
    assert convert(given) == 0 and out.exists()


def test_a_base_of_openais_is_fetched(base, folder, monkeypatch, capsys):
    """Under the name that their repository on the Hub stands for; nobody else's is."""
    path, fetched = folder / "adapter_config.json", []
    config = json.loads(path.read_text())
    whole = dq.load(folder).weights.state
    path.write_text(json.dumps(config | {"base_model_name_or_path": "openai/whisper-large"}))
    monkeypatch.setattr(weights, "fetch", lambda name, *_: fetched.append(name) or base)
    found = dq.load(folder).weights.state
    assert fetched == ["large-v1"] and all(torch.equal(found[name], whole[name]) for name in whole)
    assert "into openai/whisper-large" in capsys.readouterr().err
    assert {*HUB_NAMES.values()} == {*MODELS} - {"large", "turbo"}


@pytest.mark.parametrize(
    "changed,message",
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3': only adapters of LORA"),
        ({"peft_type": None}, "peft_type None: only"),
        ({"use_dora": True}, "use_dora is True: only plain LoRA"),
        ({"something_new": {"a": 1}}, "something_new is a dict: only plain LoRA"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is a list: only plain"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes the base"),
        ({"rank_pattern": {"(a+)+": 4}}, "rank_pattern is not a table of layers' names"),
        ({"alpha_pattern": [1]}, "alpha_pattern is not a table"),
        ({"r": 5}, "rank 5"),
        ({"r": "4"}, "r '4' of .* is not above 0"),
        ({"lora_alpha": 0}, "lora_alpha 0 of .* is not above 0"),
        ({"lora_alpha": 10**400}, "not JSON .a number of 401 digits"),
        ({"alpha_pattern": {"q_proj": -(10**400)}}, "not JSON .a number of 402 digits"),
        ({"target_modules": ["q_proj", "fc1"]}, "fc1 is one of its target_modules, and not in"),
    ],
)
def test_what_is_no_plain_lora_is_one_line(changed, message, folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(InputError, match=message) as error:
        dq.load(folder)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(folder))


def test_tensors_that_do_not_fit_are_one_line(folder):
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    a = next(name for name in tensors if name.endswith("lora_A.weight"))
    b = a.replace("lora_A", "lora_B")
    odd = "base_model.model.model.encoder.odd.weight"
    for change, message in (
        ({b: None}, "lora_b of .* is missing"),
        ({a: torch.zeros(4, 16)}, r"is \(32, 16\), the base's \(32, 32\)"),
        ({b: torch.zeros(32, 3)}, "but rank 4"),
        ({b: torch.full((32, 4), torch.nan)}, "not all finite"),
        ({odd: torch.zeros(2)}, "the base has no model.encoder.odd.weight"),
        ({"odd": torch.zeros(2)}, "odd does not begin with base_model.model"),
        ({a.replace("lora_A.weight", "lora_magnitude_vector"): torch.zeros(32)}, "base has no"),
        (dict.fromkeys(tensors), "holds no layer of LoRA"),
    ):
        save_file({n: t for n, t in (tensors | change).items() if t is not None}, file)
        with pytest.raises(InputError, match=message) as error:
            dq.load(folder)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_an_embedding_of_its_own_is_refused(base, tmp_path):
    """A Whisper has one for words and for what it says."""
    for name, config in (
        ("target", {"target_modules": ["proj_out"]}),
        ("saved", {"modules_to_save": ["embed_tokens"]}),
    ):
        adapted(base, **config).save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match="the embedding and the output projection apart"):
            dq.load(tmp_path / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rows_of_an_embedding_are_not_mixed_up(base, tmp_path):
    """An adapter has no tokenizer: its rows are those of the base's file."""
    folder = tmp_path / "lora"
    model = adapted(base, target_modules=["embed_tokens"], ensure_weight_tying=True)
    model.save_pretrained(folder)
    other = shutil.copytree(base.with_name("whole"), tmp_path / "other")
    dq.load(folder, base=other)
    path = other / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    first, second = [*words][:2]
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="whose rows may stand in another order in"):
        dq.load(folder, base=other)


@pytest.mark.slow
def test_a_net_with_adapters_is_refused(base, tmp_path):
    model = adapted(base)
    for net in (model, model.base_model.model):
        for ask in (lambda n: dq.prepare(n, "uniform4"), lambda n: dq.save(n, tmp_path / "x.pt")):
            with pytest.raises(InputError, match="adapters of peft: merge them first") as error:
                ask(net)
            assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    merged = model.merge_and_unload()
    path = dq.save(dq.prepare(merged, "uniform4"), tmp_path / "u4.safetensors")
    assert dq.verify(path, against=merged).check().mismatched == 0


def test_adapters_that_are_merged_after_prepare_are_not_lost_in_silence(base, tmp_path):
    net = WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    merged = peft.get_peft_model(dq.prepare(net, "uniform4"), config).merge_and_unload()
    with pytest.raises(InputError, match=r"was written to, .* merge adapters before"):
        dq.save(merged, tmp_path / "u4.safetensors")
