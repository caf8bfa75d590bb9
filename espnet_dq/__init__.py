"""DQ-Whisper for ESPnet: distil a small multilingual Whisper while it is quantized.

Example usage::

    import espnet_dq as dq

    model = dq.load("openai:tiny")
    dq.save(dq.quantize(model, "ggml_q4_0"), "tiny_q4.bin")
    dq.verify("tiny_q4.bin", against=model, grid="ggml_q4_0").check()

Each name is imported when it is first used: `import espnet_dq` itself imports nothing heavy.
"""

import os
import sys
from importlib import import_module

TYPE_CHECKING = False  # not of `typing`, which the current folder might still have
if TYPE_CHECKING:
    from espnet_dq.api.models import Model as Model
    from espnet_dq.api.models import load as load
    from espnet_dq.api.models import merge as merge
    from espnet_dq.api.models import quantize as quantize
    from espnet_dq.api.models import save as save
    from espnet_dq.api.nets import prepare as prepare
    from espnet_dq.api.speech import score as score
    from espnet_dq.api.speech import transcribe as transcribe
    from espnet_dq.api.training import distil as distil
    from espnet_dq.api.verification import verify as verify
    from espnet_dq.config import AugmentConfig as AugmentConfig
    from espnet_dq.config import DistillConfig as DistillConfig
    from espnet_dq.config import QuantConfig as QuantConfig
    from espnet_dq.config import WindowConfig as WindowConfig
    from espnet_dq.distill.distiller import Distiller as Distiller

__version__ = "0.1.0"
__all__ = [
    "AugmentConfig",
    "DistillConfig",
    "Distiller",
    "Model",
    "QuantConfig",
    "WindowConfig",
    "distil",
    "load",
    "merge",
    "prepare",
    "quantize",
    "save",
    "score",
    "transcribe",
    "verify",
]
# Those that are not in `espnet_dq.api.models`.
_HOMES = {
    "AugmentConfig": "espnet_dq.config",
    "DistillConfig": "espnet_dq.config",
    "Distiller": "espnet_dq.distill.distiller",
    "QuantConfig": "espnet_dq.config",
    "WindowConfig": "espnet_dq.config",
    "distil": "espnet_dq.api.training",
    "prepare": "espnet_dq.api.nets",
    "score": "espnet_dq.api.speech",
    "transcribe": "espnet_dq.api.speech",
    "verify": "espnet_dq.api.verification",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES.get(name, "espnet_dq.api.models"))
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _leave_current_folder() -> None:
    """Take the current folder out of `sys.path`, and what PYTHONPATH names relative to it.

    `python -m` puts it first, and a model's folder may hold a `safetensors.py`. The same for all
    Python that is started from here. It stays where this package itself lies, as in a clone that
    is not installed.
    """
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    safe = bool(sys.flags.safe_path)
    if not safe and sys.path and os.path.realpath(sys.path[0]) != home:
        del sys.path[0]
        safe = True
    if safe:
        os.environ["PYTHONSAFEPATH"] = "1"
    named = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [os.path.abspath(p) for p in named if os.path.isabs(p) or os.path.realpath(p) == home]
    foreign = {os.path.abspath(p) for p in named} - {*kept, home}
    sys.path[:] = [p for p in sys.path if p and p not in foreign]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def _open_streams() -> None:
    """Open closed standard streams to nothing: the next file opened would get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def _is_command() -> bool:
    """Whether this is `espnet-dq`, or a command of ours that `python -m` is looking for."""
    if sys.argv[:1] == ["-m"]:
        return sys.orig_argv[-len(sys.argv)].split(".")[0].endswith("espnet_dq")
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "espnet-dq"


if _is_command():  # before anything else is imported
    _leave_current_folder()
    _open_streams()
    from espnet_dq.errors import hook

    sys.excepthook = hook
