"""Which model a name means. Imports nothing heavy, so that what is only a path costs nothing."""

import os
from pathlib import Path

from espnet_dq.errors import InputError
from espnet_dq.fetch.sources import MODELS


def source_path(source: str | Path) -> Path:
    """The path of a model: of a file or a folder itself, of a Whisper that OpenAI published in
    the cache, where it is fetched to.

    `openai:tiny` always means OpenAI's. So does `tiny` alone, unless something of that name is
    here.

    Raises:
        InputError: `openai:` and a name that is none of `MODELS`.
        WorkError: as `espnet_dq.fetch.weights.fetch`.
    """
    source = str(source)
    name = source.removeprefix("openai:")
    if name == source and (name not in MODELS or os.path.lexists(source)):
        return Path(source)
    if name not in MODELS:
        raise InputError(f"{source}: known models are {', '.join(MODELS)}")
    from espnet_dq.fetch.weights import default_cache, fetch

    return fetch(name, default_cache() / "pt", default_cache())
