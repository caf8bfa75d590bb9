"""Files and folders that appear whole or not at all, their names, and their hashes."""

import errno
import fcntl
import filecmp
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote

from espnet_dq.errors import FULL, DQError, InputError

NAME_BYTES = 255  # of a file's name, at most
TEMPORARY = re.compile(
    r"\..*\.(tmp|old)-[A-Za-z0-9]{1,12}-[0-9]+-[0-9a-f]{8}(\.[^.]+)?"
)  # `_beside`


@dataclass(frozen=True)
class Folder:
    """What a writer's folder may hold, so that a new one takes the place of nothing else."""

    what: str  # for the user: "ct2"
    # Patterns of its files' paths below it, as `score_*/ref.trn`: `*` stands for no `/`, and for
    # no name that begins with a dot.
    files: tuple[str, ...]


@contextmanager
def atomic(path: Path | str, folder: Folder | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    The block creates a file there or, with `folder`, a folder. On an error, and where SIGTERM ends
    the process, the temporary is removed and what stood at `path` before stays as it was. Of two
    that write one `path` at once, one's whole result stands there in the end. A folder that holds
    the same files already is left as it is: others may be reading these.

    Args:
        path: where; parents are made.
        folder: what the folder may hold that is replaced; None: a file is written. See
            `check_replaceable`, which is asked before the block and again before the renaming.

    Raises:
        InputError: something else is at `path`, and stays there.
        OSError: there is no room (`FULL`), or nothing can be written there; names `path`. torch
            must write to an open file for that: given a path it says nothing of the reason.

    Example usage::

        with atomic("out/model.pt") as tmp, open(tmp, "wb") as f:
            torch.save(state, f)
    """
    path = Path(path)
    check_replaceable(path, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = _beside(path, "tmp")
    try:
        yield tmp
        with _locked(path.parent):
            check_replaceable(path, folder)
            if folder:
                _put_folder(tmp, path, folder)
            elif tmp.is_dir() and not tmp.is_symlink():
                raise TypeError(f"{path}: a folder was written, and none announced")
            else:
                os.replace(tmp, path)
    except BaseException as error:
        number = _reason(error, tmp)
        remove(tmp)
        if number:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write a text as `atomic` does: the file is there whole, or as it was."""
    with atomic(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def check_replaceable(path: Path | str, folder: Folder | None = None) -> None:
    """See to it that writing to `path` takes nothing away but an older result of the same writer.

    Writers that work for long ask this before; `atomic` asks again.

    Args:
        path: where something will be written.
        folder: None: a file, which takes the place of a regular file only. Else a folder, which
            takes the place of one that is empty or holds nothing but such files.

    Raises:
        InputError: something else is there; names it. So does a link, whatever it leads to. Or
            the path ends in no name, as `.` does.
    """
    path, advice = Path(path), "give another path, or remove it"
    if path.name in ("", ".."):
        raise InputError(f"{path}: gives no name to what is written: give another path")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InputError(f"{path}: lies below a file, which is no folder: {advice}") from None
    if stat.S_ISLNK(mode):
        raise InputError(f"{path}: is a link: {advice}")
    if folder is None and stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder, and a file is to be written: {advice}")
    if folder is None and not stat.S_ISREG(mode):
        raise InputError(f"{path}: is no regular file: {advice}")
    if folder and not stat.S_ISDIR(mode):
        raise InputError(
            f"{path}: is a file, and a {folder.what} folder is to be written: {advice}"
        )
    if folder and (other := _foreign(path, folder)):
        raise InputError(f"{path}: holds {other}, which no {folder.what} folder has: {advice}")


def check_apart(out: Path | str, source: Path | str, parts: Iterable[str] = ()) -> None:
    """Raise `InputError` if what is to be written would take the place of what it is made of.

    Args:
        out: where something will be written.
        source: what is read.
        parts: patterns of the names that files of a `source` that is a folder have: none is
            written there, whether it is there yet or not.
    """
    out, source = Path(out), Path(source)
    if out.exists() and source.exists():
        if out.samefile(source):
            raise InputError(f"{out}: is what is read: give another path")
        if source.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out}: holds what is read, {source}: give another path")
    named = any(fnmatchcase(out.name, pattern) for pattern in parts)
    if named and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{out}: would be a part of what is read, {source}: give another path")


def _foreign(path: Path, folder: Folder) -> Path | None:
    """The first thing in a folder that is none of `folder`'s files and holds none.

    What a killed writer left of one, under its temporary name, is ours, too.
    """
    patterns = [Path(pattern).parts for pattern in folder.files]
    for root, folders, files in os.walk(path, onerror=_raise):
        for name in sorted(folders + files):
            found = Path(root, name)
            below = found.relative_to(path)
            try:
                mode = found.lstat().st_mode
            except FileNotFoundError:  # another has just put its own in the place of all this
                return None
            fitting = [p for p in patterns if _fits(below.parts, p)]
            if stat.S_ISDIR(mode):
                ours = any(len(p) > len(below.parts) for p in fitting)
            else:
                ours = any(len(p) == len(below.parts) for p in fitting) or TEMPORARY.fullmatch(name)
                ours = ours and stat.S_ISREG(mode)  # no link, no pipe
            if not ours:
                return below
    return None


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path fit a pattern's first ones."""
    return len(parts) <= len(pattern) and all(
        fnmatchcase(name, p) and name.startswith(".") <= p.startswith(".")
        for name, p in zip(parts, pattern, strict=False)
    )


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _beside(path: Path, kind: str) -> Path:
    """A new hidden name beside `path`: `.NAME.KIND-HOST-PID-RANDOM` and its suffix.

    Containers on one disk have equal process numbers, and even equal names. dq.sh finds in its
    experiment what a killed process has left by this form. The suffix stays last: some writers
    choose their format by it.
    """
    host = re.sub(r"[^A-Za-z0-9]", "", os.uname().nodename)[:12] or "host"
    mark = f".{kind}-{host}-{os.getpid()}-{secrets.token_hex(4)}"
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= 16 else ""
    stem = os.fsencode(path.name.removesuffix(suffix))
    stem = stem[: NAME_BYTES - 1 - len(os.fsencode(mark + suffix))]
    return path.with_name(f".{os.fsdecode(stem)}{mark}{suffix}")


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A new hidden folder beside `path`, which is removed in the end."""
    folder = _beside(path, "tmp")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def remove_left(folder: Path) -> None:
    """Remove what killed writers have left in a folder and below it, by the form of its names.

    Nobody may be writing there meanwhile.
    """
    for root, folders, files in os.walk(folder, onerror=_raise):
        left = [name for name in folders + files if TEMPORARY.fullmatch(name)]
        folders[:] = [name for name in folders if name not in left]
        for name in left:
            remove(Path(root, name))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let no other process replace something in `folder` meanwhile, where there are locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _put_folder(tmp: Path, path: Path, folder: Folder) -> None:
    """Rename the folder `tmp` to `path`, and remove what of `folder` was there."""
    while not _renamed(tmp, path):
        if _same_files(tmp, path):
            remove(tmp)
            return
        old = _beside(path, "old")
        try:
            path.rename(old)
        except FileNotFoundError:  # without locks: another is at it, too
            continue
        try:
            check_replaceable(old, folder)  # somebody may just have put something there
            put = _renamed(tmp, path)
        except BaseException:
            if not path.exists():
                old.rename(path)
            raise
        remove(old)
        if put:
            return


def _renamed(tmp: Path, path: Path) -> bool:
    """Rename a folder; whether that went, since nothing or an empty folder was there."""
    try:
        tmp.rename(path)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, by their bytes."""
    filecmp.clear_cache()  # it goes by times, and a new file can be as old as the one before
    try:
        names, others = ({p.relative_to(f) for p in f.rglob("*")} for f in (one, other))
        return names == others and all(
            (one / n).is_dir() or filecmp.cmp(one / n, other / n, shallow=False) for n in names
        )
    except FileNotFoundError:  # another is at it, too
        return False


def _reason(error: BaseException | None, tmp: Path) -> int | None:
    """The system's number of what is behind an error in writing `tmp`, if it is that.

    That there is no room is so whatever it names. An error of torch's own follows the system's;
    safetensors, which is Rust, only quotes it.
    """
    while error is not None and not isinstance(error, DQError):  # that one says it itself
        quoted = re.search(r"\(os error (\d+)\)", str(error))
        if quoted:
            number, ours = int(quoted[1]), "while serializing" in str(error)
        else:
            number, name = getattr(error, "errno", None), getattr(error, "filename", None)
            ours = isinstance(name, str | Path) and Path(name).is_relative_to(tmp)
        if number in FULL or (number and ours):
            return number
        error = error.__context__
    return None


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a folder whose name stands for all of it: never half of it is under its name."""
    old = _beside(path, "old")
    path.rename(old)
    remove(old)


def new_folder(path: Path) -> None:
    """Make a folder that may be removed afterwards.

    Raises:
        InputError: it is there already, and not empty.
    """
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise InputError(f"{path}: is not empty: give another folder, or remove it")


_SHARED = re.compile("[0-9a-f]{16}")  # names in a folder that is shared


def shared_before(out: Path) -> Path | None:
    """The folder that `out` is a link into, if `shared_place` has made it.

    Who does not share any longer goes on there: through the link it would be written over for all.

    Raises:
        InputError: that folder is not there.
    """
    if not out.is_symlink() or not _SHARED.fullmatch(out.readlink().name):
        return None
    folder = out.readlink().parent
    if not folder.is_dir():
        raise InputError(f"{out}: is shared in {folder}, which is not there: remove it first")
    return folder


def shared_place(out: Path, folder: Path, key: str) -> Path:
    """Where in `folder` that lies which others need too: its name is a hash of what decides it.

    `out` becomes a link to it, even before it is there.

    Raises:
        InputError: `out` is no such link, so something that is not shared would be lost.
    """
    if os.path.lexists(out) and not out.is_symlink():
        raise InputError(
            f"{out}: was made without --shared (the recipe's --cachedir): leave that out, or "
            "remove it first"
        )
    if out.is_symlink() and not _SHARED.fullmatch(out.readlink().name):
        raise InputError(f"{out}: is a link, and none that --shared has made: remove it first")
    place = folder.resolve() / key[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    if not out.is_symlink() or out.readlink() != place:  # jobs of an array all come here
        out.parent.mkdir(parents=True, exist_ok=True)
        link = _beside(out, "tmp")
        link.symlink_to(place)
        os.replace(link, out)
    return place


@contextmanager
def alone(place: Path) -> Iterator[int | None]:
    """Let no other process that asks so work on the folder `place` meanwhile.

    Yields the open file that is locked, or None where there are no locks. Others also wait for a
    process that has inherited it.
    """
    with ExitStack() as held:
        lock = None
        with suppress(OSError):  # read-only, or a file system without locks
            lock = held.enter_context(open(place.with_name(f".{place.name}.lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock and lock.fileno()


def file_name(key: str) -> str:
    """A file's name, without its ending, that says what an utterance id or another key is.

    Whatever is in it, the file stands in the folder that it is put in; names of different keys
    differ, and are short enough (200 of 255 bytes) for an ending.
    """
    name = quote(key, safe="")
    if len(name) > 200:
        name = f"{name[:183]}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return name


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
