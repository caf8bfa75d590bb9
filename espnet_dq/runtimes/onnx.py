"""ONNX folders in ONNX Runtime, searched by openai-whisper's decoder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from whisper.decoding import detect_language
from whisper.model import Whisper

from espnet_dq.errors import InputError, first_line
from espnet_dq.runtimes.torch import Torch


class OnnxRuntime(Torch):
    """ONNX Runtime on the CPU; features, search and rules are those of `Torch`."""

    words = None  # a graph gives no attention, from which their times follow

    def _load(self, path: Path) -> "Model":
        from espnet_dq.formats.onnx import Onnx
        from espnet_dq.formats.transformers_js import TransformersJs

        hub = TransformersJs()
        self.padding = hub.padding if hub.recognizes(path, b"") else Onnx.padding
        model = Model(path, self.threads)
        self.any_window = model.any_window
        return model

    def _align(self) -> None:
        """Nothing to align with, see `words`."""

    def _encode(self, mels: Tensor) -> Tensor:
        return self.model.encoder(mels)


class Model:
    """What openai-whisper's decoder wants of a Whisper, computed by ONNX Runtime.

    Audio features are what the encoder's graph gives: of ours the keys and values of cross
    attention, (B, 2, layer, position, state), of Hugging Face's its last hidden states.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, threads: int) -> None:
        from espnet_dq.formats import transformers_js
        from espnet_dq.formats.onnx.read import FILES
        from espnet_dq.formats.onnx.read import load as load_onnx
        from espnet_dq.formats.transformers_js.read import load as load_hub

        hub = transformers_js.TransformersJs().recognizes(path, b"")
        # Read by us first: native code is only given files whose every size fits.
        weights = (load_hub if hub else load_onnx)(path)
        self.dims, self.any_window = weights.dims, weights.any_window
        files = transformers_js.files(path).values() if hub else [path / file for file in FILES]
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            encoder, decoder = (
                InferenceSession(file, options, providers=["CPUExecutionProvider"])
                for file in files
            )
        except Exception as e:  # ONNX Runtime raises its own, of no common base
            raise InputError(f"{path}: ONNX Runtime cannot load it: {first_line(e)}") from e
        self.encoder = (HubEncoder if hub else Encoder)(encoder)
        self.decoder = (HubDecoder if hub else Decoder)(decoder, self.dims)

    # By the size of the vocabulary.
    is_multilingual, num_languages = Whisper.is_multilingual, Whisper.num_languages
    detect_language = detect_language

    def logits(self, tokens: Tensor, audio_features: Tensor) -> Tensor:
        """(B, n, n_vocab), without a cache."""
        return self.decoder(tokens, audio_features)

    def install_kv_cache_hooks(self) -> tuple[dict, list]:
        """An empty cache; nothing is hooked, the graph itself takes and gives it."""
        return {}, []


class Encoder:
    """Log-mel features (B, mels, frames) -> audio features."""

    def __init__(self, session) -> None:
        self.session = session

    def __call__(self, mel: Tensor) -> Tensor:
        cross = self.session.run(None, {"mel": mel.numpy()})
        return torch.from_numpy(np.stack(cross)).permute(2, 0, 1, 3, 4)


@dataclass(frozen=True)
class Attention:
    """Names under which openai-whisper's decoder finds the caches, to reorder beams in them."""

    key: str = "key"
    value: str = "value"


@dataclass(frozen=True)
class Block:
    """The graph's cache holds all layers, which are one block here."""

    attn: Attention = Attention()


class Decoder(torch.nn.Module):
    """tokens (B, n) that follow those in the cache -> logits (B, n, n_vocab)."""

    blocks = (Block(),)

    def __init__(self, session, dims) -> None:
        super().__init__()
        self.session = session
        self.empty = (dims.n_text_layer, 0, dims.n_text_state)

    def forward(
        self, tokens: Tensor, audio_features: Tensor, kv_cache: dict[str, Tensor] | None = None
    ) -> Tensor:
        kv_cache = {} if kv_cache is None else kv_cache
        empty = torch.zeros(len(tokens), *self.empty)
        # Clips come first for openai-whisper and second in the graph.
        key, value = (kv_cache.get(name, empty).transpose(0, 1) for name in ("key", "value"))
        # One clip's features serve all its beams.
        cross = audio_features.expand(len(tokens), -1, -1, -1, -1).permute(1, 2, 0, 3, 4)
        inputs = {
            "tokens": tokens,
            "in_n_layer_self_k_cache": key,
            "in_n_layer_self_v_cache": value,
            "n_layer_cross_k": cross[0],
            "n_layer_cross_v": cross[1],
            "offset": torch.tensor([key.shape[2]]),
        }
        found = self.session.run(
            None, {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in inputs.items()}
        )
        logits, key, value = map(torch.from_numpy, found)
        kv_cache |= {"key": key.transpose(0, 1), "value": value.transpose(0, 1)}
        return logits


class HubEncoder:
    """Log-mel features (B, mels, frames) -> hidden states (B, positions, width)."""

    def __init__(self, session) -> None:
        self.session = session

    def __call__(self, mel: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"input_features": mel.numpy()})[0])


class HubDecoder(torch.nn.Module):
    """As `Decoder`, of Hugging Face's graph: a cache of each layer, (B, head, position, state)."""

    blocks = (Block(),)

    def __init__(self, session, dims) -> None:
        super().__init__()
        self.session, self.layers = session, dims.n_text_layer
        self.empty = (dims.n_text_head, 0, dims.n_text_state // dims.n_text_head)

    def forward(
        self, tokens: Tensor, audio_features: Tensor, kv_cache: dict | None = None
    ) -> Tensor:
        from espnet_dq.formats.transformers_js.graph import cache, now

        kv_cache = {} if kv_cache is None else kv_cache
        empty = np.zeros((len(tokens), *self.empty), np.float32)
        inputs = {
            "input_ids": tokens.numpy(),
            # One clip's features serve all its beams.
            "encoder_hidden_states": audio_features.expand(len(tokens), -1, -1).numpy(),
            "use_cache_branch": np.array([bool(kv_cache)]),
        }
        cross = kv_cache.get("cross", {})
        for layer in range(self.layers):
            for part in ("key", "value"):
                own = kv_cache[part][:, layer].numpy() if part in kv_cache else empty
                inputs[cache(layer, "decoder", part)] = own
                inputs[cache(layer, "encoder", part)] = cross.get((layer, part), empty)
        names = ["logits"]
        keys = [(layer, part) for part in ("key", "value") for layer in range(self.layers)]
        names += [now(layer, "decoder", part) for layer, part in keys]
        if not cross:  # beams are of the same clip, whatever their order
            names += [now(layer, "encoder", part) for layer, part in keys]
        logits, *found = self.session.run(
            names, {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        )
        own = torch.from_numpy(np.stack(found[: len(keys)], axis=1))
        kv_cache |= {"key": own[:, : self.layers], "value": own[:, self.layers :]}
        if not cross:
            kv_cache["cross"] = dict(zip(keys, found[len(keys) :], strict=True))
        return torch.from_numpy(logits)
