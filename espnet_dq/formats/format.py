"""What a format of models is: all that the rest of the package asks of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from espnet_dq.config import WindowConfig
from espnet_dq.errors import InputError
from espnet_dq.files import Folder

if TYPE_CHECKING:
    import numpy as np
    from whisper.model import ModelDimensions, Whisper

    from espnet_dq.formats.logits import Probe
    from espnet_dq.formats.report import Reference, Report
    from espnet_dq.quant.grids import Quantized
    from espnet_dq.whisper.generation import Generation
    from espnet_dq.whisper.weights import Weights


@dataclass(frozen=True)
class Card:
    """What the model card of a published folder says of the format.

    Attributes:
        usage: how the folder's model is run on audio of any length; `PATH`, `LANGUAGE`, `WINDOW`
            (seconds), `COMPUTE` (CTranslate2's compute type) and `DTYPE` (transformers.js's) are
            filled in.
        tokenizer: where its tokenizer is.
        library: what reads it, as `library_name` of the Hugging Face Hub.
        language: of `usage`, for its code block.
        shorter: `usage` where the model's window is not 30 s; empty: the same.
    """

    usage: str
    tokenizer: str
    library: str
    language: str = "python"
    shorter: str = ""


class Format(ABC):
    """A format: its facts as class attributes, and what is done with its files.

    What a format does is in modules beside its class, unless it overrides the method: `read.load`,
    `integers.load`, `write.save`, `verify.compare`, `run.logits`. They are imported when called, so
    that a table of all formats costs nothing.

    Attributes:
        name: as in `--to`.
        known_by: what a message says is missing where a path holds no format: of a folder the
            file that marks it, of a file what it would be.
        exported: what the recipe calls a student in it; its suffix is that of the format's files.
        runtime: what decodes it, a key of `espnet_dq.runtimes.RUNTIMES`.
        grids: those whose integers it holds; None: it holds any grid's values.
        folder: what a folder of it may hold; None of a file.
        writes: False where it is only read.
        float_dtype: the only one that it stores floats in, `float16`; None: `float32`, too.
        padding: what its runtime fills windows with, `zeros` or `silence`.
        engine: for people, what computes its logits for `verify`; empty: nothing does.
        package: what is imported for that.
        isolated: whether that runs native code of its own, which may end the process.
        other_window: what its runtime, as it comes, does with a window that is not 30 s; empty: it
            hears all of the audio.
        says_any_window: whether it has a place for that (`espnet_dq.whisper.any_window`).
        card: for model cards; None: it is not published.
    """

    name: ClassVar[str]
    known_by: ClassVar[str]
    exported: ClassVar[str]
    runtime: ClassVar[str]
    grids: ClassVar[tuple[str, ...] | None] = None
    folder: ClassVar[Folder | None] = None
    writes: ClassVar[bool] = True
    float_dtype: ClassVar[str | None] = None
    padding: ClassVar[str] = WindowConfig.padding
    engine: ClassVar[str] = ""
    package: ClassVar[str] = ""
    isolated: ClassVar[bool] = False
    other_window: ClassVar[str] = ""
    says_any_window: ClassVar[bool] = True
    card: ClassVar[Card | None] = None

    @property
    def suffix(self) -> str:
        """The end of its files' names; empty of folders."""
        return PurePath(self.exported).suffix

    @property
    def files(self) -> tuple[str, ...]:
        """What a published folder holds of it."""
        return self.folder.files if self.folder else (f"model{self.suffix}",)

    @property
    def hosted(self) -> tuple[tuple[str, ...], ...]:
        """What holds the weights in a repository of the Hugging Face Hub, others' included.

        Sets of patterns, of which the first that is there is downloaded: in the folder itself, or
        whole names below it. Beside them come its .json and .txt.
        """
        weights = (name for name in self.files if not name.endswith((".json", ".txt")))
        return (tuple(weights),) if self.card else ()

    def place(self, folder: Path) -> Path:
        """Where the model lies in a published folder."""
        return folder if self.folder else folder / self.files[0]

    @abstractmethod
    def recognizes(self, path: Path, start: bytes) -> bool:
        """Whether a folder, or a file that begins with `start`, is of this format."""

    def decoder(self, path: Path) -> str:
        """The runtime for this file: `runtime`, unless that reads only some of the format."""
        return self.runtime

    def _module(self, name: str) -> ModuleType:
        """`read`, `write`, ... beside the format's class, imported when first needed."""
        return import_module(f"{type(self).__module__}.{name}")

    def load(self, path: Path) -> "Weights":
        """Read a model, what is on a grid as its values; raises `InputError`."""
        return self._module("read").load(path)

    def integers(self, path: Path) -> "dict[str, Quantized]":
        """Name -> integers and scales of the weights that lie on a grid in the file."""
        return self._module("integers").load(path) if self.grids else {}

    def check(self, dims: "ModelDimensions", grids: Mapping[str, str]) -> None:
        """Raise `InputError` for a vocabulary or a choice of weights that it cannot hold."""
        return

    def save(
        self,
        path: Path,
        weights: "Weights",
        quantized: "Mapping[str, Quantized]",
        float_dtype: str,
    ) -> None:
        """Write a model, whole or not at all, the weights in `quantized` on their grids."""
        if not self.writes:
            raise InputError(f"{self.name} is only read here")
        self._module("write").save(path, weights, quantized, float_dtype=float_dtype)

    def with_half(self) -> "Format":
        """The same, which also writes what computes in float16; raises `InputError`."""
        raise InputError(f"{self.name} has no files that compute in float16: half is not for it")

    def compare(self, path: Path, reference: "Reference") -> "Report":
        """Compare all that decides the output of a file with what it should be.

        Raises:
            InputError: no readable file.
            WorkError: it is another Whisper, or something is missing or unknown.
        """
        return self._module("verify").compare(path, reference)

    def logits(self, path: Path, probe: "Probe") -> "np.ndarray":
        """(audio, texts, count, n_vocab) float32 that `engine` computes; see `formats.logits`."""
        return self._module("run").logits(path, probe)

    def runs(self, path: Path) -> "list[Format]":
        """Those whose `logits` it may be asked for: itself, and what computes otherwise."""
        return [self]

    def rounded(self, path: Path, model: "Whisper") -> AbstractContextManager[None] | None:
        """In it a model in torch rounds about as `engine` does; None: as torch itself does."""
        return None

    def lost(self, generation: "Generation", dims: "ModelDimensions") -> str:
        """What of a model's own settings of decoding it has no place for, in a line; or ""."""
        return (
            f"{self.name} has no place for the source's own settings of decoding (suppressed "
            "tokens, languages, alignment heads): OpenAI's hold"
        )

    def unheard(self, dims: "ModelDimensions") -> str:
        """What of the audio its runtime, as it comes, does not hear, in a line; or ""."""
        from espnet_dq.whisper.forward import N_SAMPLES, SAMPLE_RATE, own_window

        if not self.other_window or own_window(dims) == N_SAMPLES:
            return ""
        seconds = own_window(dims) / SAMPLE_RATE
        return f"the model hears {seconds:g} s at a time: {self.other_window}"

    def untimed(self, dims: "ModelDimensions") -> str:
        """Why its runtime sets no timestamps of such a model, in a line; or ""."""
        return ""
