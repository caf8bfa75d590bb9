"""Files and folders that appear whole or not at all, their names, and their hashes."""

import fcntl
import filecmp
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import yaml

from espnet_dq.errors import FULL, InputError

DEEPEST = 50  # lists and mappings in each other, in YAML


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    The block creates a file or a folder there. On an error the temporary is removed and
    what stood at `path` before stays as it was. A folder replaces an older folder, unless both hold
    the same files: others may be reading these.

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
        if tmp.is_dir() and not tmp.is_symlink() and path.is_dir():
            if _same_files(tmp, path):
                remove(tmp)
                return
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


def _same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, by their bytes."""
    filecmp.clear_cache()  # it goes by times, and a new file can be as old as the one before
    names, others = ({p.relative_to(f) for p in f.rglob("*")} for f in (one, other))
    return names == others and all(
        (one / n).is_dir() or filecmp.cmp(one / n, other / n, shallow=False) for n in names
    )


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
    if not out.is_symlink() or out.readlink() != place:  # jobs of an array all come here
        with atomic(out) as tmp:
            tmp.symlink_to(place)
    return place


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Let no other process that asks so work on `place`, a folder of `shared_place`, meanwhile."""
    with ExitStack() as held:
        with suppress(OSError):  # read-only, or a file system without locks
            lock = held.enter_context(open(place.with_name(f".{place.name}.lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def file_name(key: str) -> str:
    """A file's name, without its ending, that says what an utterance id or another key is.

    Whatever is in it, the file stands in the folder that it is put in; names of different keys
    differ, and are short enough (200 of 255 bytes) for an ending.
    """
    name = quote(key, safe="")
    if len(name) > 200:
        name = f"{name[:183]}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return name


def read_yaml(path: Path) -> object:
    """What a YAML file says, in numbers, words, lists and mappings: it can name no code.

    Raises:
        InputError: There is no such file, or it is no YAML.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    loader = yaml.CSafeLoader  # the fast one: ESPnet's configurations hold every token
    try:
        content = path.read_text(encoding="utf-8")
        depth = 0
        # Events build nothing; what is built of too deep a nesting crashes the interpreter.
        for event in yaml.parse(content, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise InputError(f"{path}: YAML that is nested more than {DEEPEST} deep")
        return yaml.load(content, loader)
    except InputError:
        raise
    except Exception as e:  # PyYAML raises whatever a tagged or an odd value makes it stumble on
        why = (str(e) or type(e).__name__).splitlines()[0]
        raise InputError(f"{path}: not YAML ({why})") from e


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
