"""Models of openai-whisper and transformers, changed in place: any training loop goes on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from whisper.model import ModelDimensions, Whisper

from espnet_dq.config import QuantConfig
from espnet_dq.data.prompted import RoundingClips
from espnet_dq.errors import PATH, InputError, check_kind
from espnet_dq.formats.hf import read as huggingface
from espnet_dq.formats.hf.names import hf_name
from espnet_dq.formats.registry import padding_of
from espnet_dq.quant import activations as inputs
from espnet_dq.quant import gptq
from espnet_dq.quant import prepare as fake
from espnet_dq.quant.fake_quant import RATE, FakeQuantize, clip_of
from espnet_dq.quant.table import of_file, read_grid
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.generation import check_told, of_huggingface
from espnet_dq.whisper.weights import EMBEDDING, Weights

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

type Net = Whisper | WhisperForConditionalGeneration
_THEIRS = "WhisperForConditionalGeneration"  # transformers' class, which takes seconds to import


def prepare(
    net: Net,
    grid: str | Mapping[str, str],
    preset: str = QuantConfig.preset,
    ranges: str = QuantConfig.ranges,
    activations: str = QuantConfig.activations,
    activation_ranges: str | Path | None = QuantConfig.activation_ranges,
    data: str | Path | None = None,
    clips: int = gptq.CLIPS,
) -> Net:
    """Make a model see its weights on a grid, in place, in any training loop.

    Its parameters stay float and are trained (straight-through gradients); its state dict keeps
    its own names. `save` then writes what the forward pass computed with.

    Args:
        net: openai-whisper's `Whisper` or transformers' `WhisperForConditionalGeneration`, weights
            loaded; the latter in float32.
        grid: as of `quantize`.
        preset: `full`, or a part only: `paper` (decoder) or `encoder`.
        ranges: `max` (a range ends at its largest magnitude), or learned: `lsq`, `pact`, `gptq`.
            These are parameters of their own: prepare before the optimizer is made.
        activations: what a runtime rounds the layers' inputs to: `none`, `int8_per_token`
            (CTranslate2), `q8_0_blocks` (ggml), `int8_rows` or `int8_blocks` (ONNX Runtime, with
            `onnx_int8` or `ggml_q8_0`), `int8_static`.
        activation_ranges: of `int8_static`: the file that `calibrate` wrote.
        data: of `gptq`, a Kaldi folder with texts: weights and ranges start where rounding by its
            clips leaves them, for grids of few bits.
        clips: how many of its clips, spread evenly over their names.

    Returns:
        The same `net`.

    Raises:
        InputError: no such model, or one in a wrapper or with adapters, a grid that does not fit,
            a weight that has one already, or a model that `save` could not write.

    Example usage::

        net = whisper.load_model("tiny")
        prepare(net, "ct2_int8")
        ...  # train
        save(net, "student_ct2")
    """
    if unwrapped(net) is not net:
        raise InputError(f"cannot prepare a {type(net).__name__}: prepare the model within first")
    dims, own_name = _described(net)
    QuantConfig(grid, ranges, preset, activations, activation_ranges)
    check_kind("data", data, PATH | None, "a Kaldi folder")
    if (ranges == "gptq") != (data is not None):
        raise InputError(f"ranges {ranges}: data names the clips to round by, of gptq alone")
    if on := fake.quantized_weights(net):
        raise InputError(f"cannot prepare: {min(on)} is on a grid already")
    if odd := {parameter.dtype for parameter in net.parameters()} - {torch.float32}:
        raise InputError(f"cannot prepare a model in {min(odd, key=str)}: load it in float32")
    if not isinstance(net, Whisper) and net.proj_out.weight is not _embedding(net).weight:
        raise InputError("cannot prepare a model whose output projection is not tied")
    weights, _, _ = read(net)  # refuses what `save` could not write
    _leave_uncompiled()
    grids = assign(dims, grid, preset)
    plain = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state, device = dict(plain), next(net.parameters()).device
    if data is not None:
        prompted = RoundingClips(data, clips, dims, padding_of(grids))
        floats, found = gptq.start(weights, grids, prompted)
        for name, values in floats.items():
            of = own_name(name)
            # transformers' state dict has the embedding a second time.
            both = [of, "proj_out.weight"] if name == EMBEDDING else [of]
            for each in state.keys() & both:
                state |= {each: values, each + fake.RANGE: found[name] / RATE}
    net.register_load_state_dict_pre_hook(fake.start_ranges)
    fake.prepare(net, {own_name(name): grid for name, grid in grids.items()}, ranges)
    if not isinstance(net, Whisper):
        _share_projection(net)
    net.to(device)  # the learned ranges, too
    net.load_state_dict(state)
    try:
        inputs.prepare_activations(_ByOpenaiName(net), grids, activations, activation_ranges)
    except InputError:
        for layer in [module for module in net.modules() if parametrize.is_parametrized(module)]:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        del net.on_grids
        net.load_state_dict(plain)
        raise
    if isinstance(net, Whisper):
        # Sparse, which DistributedDataParallel cannot broadcast; it is the same everywhere.
        net._ddp_params_and_buffers_to_ignore = ["alignment_heads"]
    return net


@cache
def _leave_uncompiled() -> None:
    """Let `torch.compile` call all rounding as it is: fused it might round otherwise than `save`.

    No decorators, since these import seconds of torch; to make an optimizer does so anyway.
    """
    FakeQuantize.forward = torch.compiler.disable(FakeQuantize.forward)
    inputs.fake_input = torch.compiler.disable(inputs.fake_input)


class _ByOpenaiName:
    """A model's layers by their names in openai-whisper."""

    def __init__(self, net: Net):
        self._net, self._own_name = net, _described(net)[1]

    def get_submodule(self, name: str) -> nn.Module:
        """As of `torch.nn.Module`."""
        return self._net.get_submodule(self._own_name(f"{name}.weight").removesuffix(".weight"))


def unwrapped(net: nn.Module) -> nn.Module:
    """The model in a wrapper, as of accelerate, of several processes or of `torch.compile`."""
    while _own_names(net) is None:
        within = [getattr(net, name, None) for name in ("module", "_orig_mod")]
        inner = next((module for module in within if isinstance(module, nn.Module)), None)
        if inner is None:
            break
        net = inner
    return net


def assign(
    dims: ModelDimensions, grid: str | Mapping[str, str], preset: str = QuantConfig.preset
) -> dict[str, str]:
    """Name -> grid, as `assign_grids`, of a grid that may be a `.yaml` file."""
    check_kind("grid", grid, str | Mapping, "a grid's name or a table of grids")
    table = read_grid(grid) if isinstance(grid, str) else grid
    with of_file(grid):
        return fake.assign_grids(dims, table, preset)


def _embedding(net: "WhisperForConditionalGeneration") -> nn.Module:
    return net.model.decoder.embed_tokens


def _share_projection(net: "WhisperForConditionalGeneration") -> None:
    """Let transformers' output projection, tied to the embedding, see what the embedding sees."""
    embedding = _embedding(net)
    if not parametrize.is_parametrized(embedding, "weight"):
        return
    fake.register(net.proj_out, embedding.parametrizations.weight[0])
    # transformers looks for the pair among parameters when it ties them, and in the state dict
    # when it saves them.
    either = r"\.(parametrizations\.weight\.(original|0\.range)|weight(_range)?)$"
    net._tied_weights_keys = {rf"proj_out{either}": rf"model\.decoder\.embed_tokens{either}"}
    net.all_tied_weights_keys = net.get_expanded_tied_weights_keys(all_submodels=True)


def _described(net: nn.Module) -> tuple[ModelDimensions, Callable[[str], str]]:
    """A model's dimensions, and what it calls a weight by its name in openai-whisper."""
    own_name, kind = _own_names(net), type(net).__name__
    modules = net.modules() if isinstance(net, nn.Module) else ()
    if any(type(module).__module__.partition(".")[0] == "peft" for module in modules):
        raise InputError(
            f"this {kind} has adapters of peft: merge them first (merge_and_unload), or save them "
            "(save_pretrained) and load that folder"
        )
    if own_name is None:
        raise InputError(f"a {kind} is no model of openai-whisper, and no {_THEIRS}")
    if isinstance(net, Whisper):
        dims = net.dims
    else:
        dims = huggingface.described(net.config.to_dict(), "the model's config")
    any_tokenizer(dims)  # a size that is none of a Whisper's says of no token what it is
    return dims, own_name


def _own_names(net: nn.Module) -> Callable[[str], str] | None:
    """What it calls a weight by its name in openai-whisper; None: it is no model of these."""
    if isinstance(net, Whisper):
        return str
    return hf_name if any(kind.__name__ == _THEIRS for kind in type(net).__mro__) else None


def read(net: Net) -> tuple[Weights, dict[str, str], dict[str, Tensor]]:
    """Float weights, and, by openai-whisper's names, grids and the clips of learned ranges."""
    net = unwrapped(net)
    fake.check_on_grids(net)
    dims, own_name = _described(net)
    state = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    on = fake.quantized_weights(net)
    plain = {name: t for name, t in state.items() if not name.endswith(fake.RANGE)}
    names = [name for name in fake.candidates(dims) if own_name(name) in on]
    ranges = {name: state.get(own_name(name) + fake.RANGE) for name in names}
    clips = {name: clip_of(tensor) for name, tensor in ranges.items() if tensor is not None}
    grids = {name: on[own_name(name)] for name in names}
    if isinstance(net, Whisper):
        any_window = read_any_window(vars(net), "the model")
        return Weights(dims, plain, any_window=any_window).check("the model"), grids, clips
    del plain["proj_out.weight"]
    weights = _of_theirs(net, dims, plain)
    if not torch.equal(net.proj_out.weight, _embedding(net).weight):
        raise InputError(
            "proj_out.weight is not the embedding's weight, which a Whisper's is: resize the "
            "vocabulary before the model is prepared"
        )
    return weights, grids, clips


def _of_theirs(
    net: "WhisperForConditionalGeneration", dims: ModelDimensions, plain: dict[str, Tensor]
) -> Weights:
    """With its settings of decoding, as transformers would write them."""
    floats = {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in plain.items()}
    weights = huggingface.of_tensors(dims, "the model", floats)
    said, order = json.loads(net.generation_config.to_json_string()), range(dims.n_vocab)
    source = "the model's generation_config"
    check_told(said, dims, source)
    generation = of_huggingface(said, dims, order, dims.n_vocab, source)
    any_window = read_any_window(net.config.to_dict(), "the model's config")
    return replace(weights, generation=generation, any_window=any_window)


def seen(net: Net, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of these names as the forward pass sees them.

    Raises:
        InputError: as `FakeQuantize.let_go`.
    """
    net = unwrapped(net)
    for module in net.modules():
        if isinstance(module, FakeQuantize):
            module.let_go()
    layers = _ByOpenaiName(net)
    return {n: layers.get_submodule(n.removesuffix(".weight")).weight.detach().cpu() for n in names}
