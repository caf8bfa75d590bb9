"""Which model a name means. Imports nothing heavy, so that what is only a path costs nothing."""

import os
from pathlib import Path

from espnet_dq.errors import PATH, InputError, shown
from espnet_dq.fetch.sources import MODELS

OPENAI = "openai:"
HUB = "hf:"  # begins what is on the Hugging Face Hub


def source_path(source: str | Path) -> Path:
    """The path of a model: of a file or a folder itself, else of where it is fetched to.

    `openai:tiny` always means OpenAI's. So does `tiny` alone, unless something of that name is
    here. `hf:USER/NAME`, or `hf:USER/NAME@REVISION`, is a repository of the Hugging Face Hub: the
    folder, or the one file in it that is a model.

    Raises:
        InputError: `openai:` and a name that is none of `MODELS`, `hf:` and what names none; what
            is neither a path nor a name, as a model in memory; an empty name.
        WorkError: as `espnet_dq.fetch.weights.fetch` and `espnet_dq.fetch.hub.snapshot`.
    """
    if not isinstance(source, PATH):
        raise InputError(f"{shown(source)} is neither a path nor the name of a model")
    source = str(source)
    if not source:  # Path("") would be the current folder
        raise InputError("the path of a model is empty")
    if source.startswith(HUB):
        from espnet_dq.fetch.hub import snapshot
        from espnet_dq.formats.detect import file_in

        folder = snapshot(source)
        return file_in(folder) or folder
    name = openai_name(source)
    if name is None and source.startswith(OPENAI):
        raise InputError(f"{source}: known models are {', '.join(MODELS)}")
    if name is None:
        return Path(source)
    from espnet_dq.fetch.weights import default_cache, fetch

    return fetch(name, default_cache() / "pt", default_cache())


def openai_name(source: str | Path, folder: str = "") -> str | None:
    """The name of OpenAI's that a source means; None of anything else.

    With `openai:` it always is one, alone only where nothing of that name is in the folder that
    paths begin at (the current one).
    """
    source = str(source)
    name = source.removeprefix(OPENAI)
    if name not in MODELS or (name == source and os.path.lexists(os.path.join(folder, name))):
        return None
    return name
