"""Upload published folders to the Hugging Face Hub, each as a model repository of its own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.hub import check_repository


def check_upload(repositories: Iterable[str]) -> None:
    """Check what can be checked before the work: the names, and that there is a token.

    Args:
        repositories: each `USER/NAME`, or an organization's.

    Raises:
        InputError: one is no such name, or nobody is logged in.
        WorkError: logging in failed.
    """
    for repository in repositories:
        check_repository(repository)
    with _one_line("no Hugging Face token"):
        token = get_token()
    if token is None:
        raise InputError("no Hugging Face token: set HF_TOKEN, or log in with: hf auth login")


def upload(folder: Path, repository: str) -> str:
    """Upload all files of a folder in one commit.

    A new repository is private: making it public is its owner's decision, on the Hub. One that
    exists keeps its visibility, and files of other names.

    Args:
        folder: what to upload.
        repository: `USER/NAME`.

    Returns:
        The repository's address.

    Raises:
        WorkError: the Hub (`HF_ENDPOINT`, by default https://huggingface.co) is out of reach, or
            refuses.
    """
    hub = HfApi()
    with _one_line(f"{folder}: not uploaded to {hub.endpoint}/{repository}"):
        address = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder)
    return str(address)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn any error into a `WorkError`: they are the library's, its HTTP client's, its store's."""
    try:
        yield
    except Exception as e:
        raise WorkError(f"{what}: {' '.join(str(e).split()) or type(e).__name__}") from e
