"""Models on the Hugging Face Hub: downloaded by its own library, into the cache that others share.

Only what is read here comes: weights, configurations and tokenizers, never code. Pickled weights
(`pytorch_model.bin`, whose reader takes plain tensors only) come where there are no others.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.names import HUB
from espnet_dq.files import check_sha256

_FILES = ["*.safetensors", "*.json", "*.txt"]
# CTranslate2's file has the same ending as pickles.
_OTHERS = ["model.bin", "pytorch_model*.bin", "adapter_model.bin"]
# Checkpoints of a training, and second copies in float32.
_IGNORED = ["*/*", "*.fp32*"]


def check_repository(name: str) -> None:
    """Raise `InputError` for what is no `USER/NAME`, or an organization's."""
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except ValueError as e:
        raise InputError(f"{name}: no name of a repository ({e})") from e
    if "/" not in name:
        raise InputError(f"{name}: no name of a repository (USER/NAME is one)")


def parse(source: str) -> tuple[str, str | None]:
    """Repository and revision, if there is one, of `hf:USER/NAME[@REVISION]`; `InputError`."""
    name, at, revision = source.removeprefix(HUB).partition("@")
    check_repository(name)
    if at and not revision:
        raise InputError(f"{source}: no revision behind @")
    return name, revision or None


def snapshot(source: str) -> Path:
    """The folder of a repository in the library's cache (`HF_HOME`).

    Without a network it is what was downloaded before. The Hub is `HF_ENDPOINT`, if that is set;
    what is private or gated needs a login (`hf auth login`, or `HF_TOKEN`).

    Args:
        source: `hf:USER/NAME`, or `hf:USER/NAME@REVISION` with a branch, a tag or a commit.

    Raises:
        InputError: `source` names no repository, or a file came damaged.
        WorkError: the Hub is out of reach or refuses, or the repository has no weights.
    """
    from huggingface_hub import snapshot_download

    repository, revision = parse(source)
    wanted = {"revision": revision, "ignore_patterns": _IGNORED}
    try:
        folder = Path(snapshot_download(repository, allow_patterns=_FILES, **wanted))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(repository, allow_patterns=_FILES + _OTHERS, **wanted)
    except Exception as e:  # the library's, its HTTP client's, its store's
        why = " ".join(str(e).split()) or type(e).__name__
        raise WorkError(f"{source}: cannot be downloaded: {why}") from e
    files = {path.name: path.resolve() for path in folder.glob("*")}
    if not any(fnmatchcase(n, p) for n in files for p in (_FILES[0], *_OTHERS)):
        raise WorkError(f"{source}: holds no weights that are read here")
    for blob in files.values():
        if re.fullmatch("[0-9a-f]{64}", blob.name):  # so the library calls what is large
            check_sha256(blob, blob.name)
    return folder
