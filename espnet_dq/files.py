"""Files and folders that appear whole or not at all, and their hashes."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet_dq.errors import FULL, InputError


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    The block creates a file or a folder there. On an error the temporary is removed and
    what stood at `path` before stays as it was. A folder replaces an older folder.

    Raises:
        OSError: there is no room (`FULL`); names `path`. torch must write to an open file for
            that: given a path it says nothing of the reason.

    Example usage::

        with atomic("out/model.pt") as tmp, open(tmp, "wb") as f:
            torch.save(state, f)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: some writers choose their format by it.
    tmp = path.with_name(f".{path.stem}.tmp{os.getpid()}{path.suffix}")
    remove(tmp)
    try:
        yield tmp
        if tmp.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.old{os.getpid()}")
            remove(old)
            path.rename(old)
            tmp.rename(path)
            remove(old)
        else:
            os.replace(tmp, path)
    except BaseException as error:
        full = _no_room(error)
        remove(tmp)
        if full:
            raise OSError(full, os.strerror(full), str(path)) from error
        raise


def _no_room(error: BaseException | None) -> int | None:
    """Which of `FULL` is behind an error, if any.

    An error of torch's own follows the system's; safetensors, which is Rust, only quotes it.
    """
    while error is not None:
        quoted = re.search(r"\(os error (\d+)\)", str(error))
        number = int(quoted[1]) if quoted else getattr(error, "errno", None)
        if number in FULL:
            return number
        error = error.__context__
    return None


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shared_place(out: Path, folder: Path, key: str) -> Path:
    """Where in `folder` that lies which others need too: its name is a hash of what decides it.

    `out` becomes a link to it, even before it is there.

    Raises:
        InputError: `out` is no link, so something that is not shared would be lost.
    """
    if out.exists() and not out.is_symlink():
        raise InputError(f"{out}: was made without --shared: remove it first")
    place = folder.resolve() / key[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as tmp:
        tmp.symlink_to(place)
    return place


def share(path: Path) -> None:
    """Give a file the mode of a new one; safetensors lets nobody but its owner read its files."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def check_sha256(path: Path | str, expected: str) -> None:
    """Raise `InputError` when the file's SHA-256 is not `expected`."""
    found = sha256(path)
    if found != expected:
        raise InputError(f"{path}: wrong hash: sha256 is {found}, expected {expected}")


def bytes_on_disk(path: Path | str) -> int:
    """Size in bytes of a file, or of all files under a folder."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
