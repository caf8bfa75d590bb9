"""Hidden states of a decoder or encoder, taken by hooks from its one real forward pass.

Nothing is computed twice: the causal mask and every layer are the model's own. Two taps:
`block`, the residual stream after a block, width D; `ffn`, what leaves the GELU of the
feed-forward part, width 4 D (DQ-Whisper's).
"""

from types import TracebackType

from torch import Tensor, nn
from whisper.model import AudioEncoder, TextDecoder

from espnet_dq.config import TAPS, known


def tapped_modules(net: TextDecoder | AudioEncoder, tap: str | None) -> list[nn.Module]:
    """The module of each layer whose output `tap` names, none if there is no tap."""
    if tap is None:
        return []
    known("tap", tap, TAPS)
    return list(net.blocks) if tap == "block" else [block.mlp[1] for block in net.blocks]


class Taps:
    """Collect hidden states while the context is open.

    Example usage::

        with Taps(decoder, "block") as taps:
            decoder(tokens, audio)
        hidden = taps.states  # one (B, T, D) tensor a layer
    """

    def __init__(self, net: TextDecoder | AudioEncoder, tap: str | None):
        self._modules = tapped_modules(net, tap)
        self.states: list[Tensor] = []

    def __enter__(self) -> "Taps":
        self._handles = [m.register_forward_hook(self._take) for m in self._modules]
        return self

    def _take(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.states.append(output)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
