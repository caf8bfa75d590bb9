"""Debian packages as a source of speech: download and unpack them, without root.

Each package is pinned by version and SHA-256. `apt-get download` and `dpkg-deb -x` do the work;
nothing is installed.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from espnet_dq.errors import WorkError
from espnet_dq.files import Folder, atomic, check_sha256

UNPACKED = Folder("unpacked", ())  # replaces nothing


@dataclass(frozen=True)
class Package:
    """A Debian package for all architectures, pinned."""

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The name that apt gives the downloaded file."""
        return f"{self.name}_{self.version}_all.deb"


def fetch(package: Package, downloads: Path | str) -> Path:
    """Folder with the package's unpacked files; downloads and unpacks what is not there yet.

    Args:
        package: What to fetch.
        downloads: Folder that keeps `NAME_VERSION_all.deb` and `NAME_VERSION/`.

    Raises:
        InputError: The file, just downloaded or found there, has a wrong hash.
        WorkError: No apt-get or dpkg-deb, no network, or the version is not to be had.

    Example usage::

        root = fetch(Package("festvox-ru", "0.5+dfsg-6", "21ef..."), "downloads")
    """
    downloads = Path(downloads)
    unpacked = downloads / f"{package.name}_{package.version}"
    if unpacked.is_dir():
        return unpacked
    deb = download(package, downloads)
    with atomic(unpacked, UNPACKED) as tmp:
        tmp.mkdir()
        _run(["dpkg-deb", "-x", str(deb), str(tmp)], package)
    return unpacked


def download(package: Package, downloads: Path) -> Path:
    """The package's .deb in `downloads`, its hash checked; see `fetch`."""
    deb = downloads / package.file
    if deb.exists():
        check_sha256(deb, package.sha256)
        return deb
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=downloads) as tmp:
        command = ["apt-get", "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]
        download = ["download", f"{package.name}={package.version}"]
        try:
            _run([*command, *download], package, cwd=tmp)
        except WorkError:
            # A fresh machine has no package lists yet; ours need no root.
            lists = (downloads / "apt-lists").resolve()
            (lists / "partial").mkdir(parents=True, exist_ok=True)
            command += ["-o", f"Dir::State::Lists={lists}"]
            _run([*command, "update"], package, cwd=tmp)
            _run([*command, *download], package, cwd=tmp)
        files = list(Path(tmp).glob("*.deb"))
        if len(files) != 1:
            raise WorkError(f"{package.name}: apt-get download left no file")
        check_sha256(files[0], package.sha256)
        files[0].rename(deb)
    return deb


def _run(command: list[str], package: Package, cwd: str | None = None) -> None:
    """Run a command; its failure becomes one line with the program's own last error."""
    if shutil.which(command[0]) is None:
        raise WorkError(f"{package.name}: needs {command[0]} (Debian or Ubuntu), which is not here")
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, errors="replace", env=env
    )
    if done.returncode:
        lines = [x for x in done.stderr.splitlines() if x.startswith(("E:", "dpkg-deb: error"))]
        why = (lines or done.stderr.splitlines() or [f"exit code {done.returncode}"])[0]
        raise WorkError(
            f"{package.name} {package.version}: {Path(command[0]).name} failed: {why} "
            "(is there a network?)"
        )
