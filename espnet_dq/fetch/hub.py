"""Models on the Hugging Face Hub: downloaded by its own library, into the cache that others share.

Only what is read here comes: weights, configurations and tokenizers, never code. Of weights it is
the first set of files that is there, of those that formats name (`Format.hosted`): an ONNX
repository has ten, each as large as a model. Pickles (`pytorch_model.bin`, whose reader takes plain
tensors only) come where there are no others.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.names import HUB
from espnet_dq.files import check_sha256
from espnet_dq.formats.registry import FORMATS

_TEXTS = ("*.json", "*.txt")
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
    sets = sorted((s for form in FORMATS.values() for s in form.hosted), key=_rank)
    try:
        with _quiet():
            for patterns in sets:
                below = any("/" in pattern for pattern in patterns)  # whole names, then
                folder = Path(
                    snapshot_download(
                        repository,
                        revision=revision,
                        allow_patterns=[*patterns] if below else [*_TEXTS, *patterns],
                        ignore_patterns=None if below else _IGNORED,
                    )
                )
                found = [any(folder.glob(pattern)) for pattern in patterns]
                if all(found) if below else any(found):
                    break
            else:
                raise WorkError(f"{source}: holds no weights that are read here")
    except WorkError:
        raise
    except Exception as e:  # the library's, its HTTP client's, its store's
        why = " ".join(str(e).split()) or type(e).__name__
        raise WorkError(f"{source}: cannot be downloaded: {why}") from e
    for blob in (path.resolve() for path in folder.rglob("*") if path.is_file()):
        if re.fullmatch("[0-9a-f]{64}", blob.name):  # so the library calls what is large
            check_sha256(blob, blob.name)
    return folder


def _rank(patterns: tuple[str, ...]) -> int:
    """Safetensors first: many repositories have the same weights as pickles, too."""
    return not patterns[0].endswith(".safetensors")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings, as of patterns that fit nothing; errors are raised."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
