"""NIST's sclite, run as ESPnet runs it, where it is installed."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

from espnet_dq.errors import WorkError
from espnet_dq.scoring.trn import escape

DEBIAN = Path("/usr/lib/sctk/bin/sclite")  # where the package `sctk` keeps it, off PATH

LONGEST = 900  # bytes of a word that it takes
MOST_PAIRS = 50_000_000  # of tokens, each of which takes it 8 bytes: five minutes of speech


def find() -> Path | None:
    """sclite's program: on PATH, else where Debian's package `sctk` puts it, else None."""
    found = shutil.which("sclite")
    if found:
        return Path(found)
    return DEBIAN if DEBIAN.is_file() else None


def version(program: Path) -> str:
    """`sclite 2.4.10`: the version of SCTK, as its Debian package or sclite itself states it.

    sclite's usage text numbers sclite and SCTK apart and is years behind the package, which
    is what papers and recipes cite.
    """
    if program == DEBIAN and shutil.which("dpkg-query"):
        query = ["dpkg-query", "-W", "-f", "${Version}", "sctk"]
        found = re.match(r"[\d.]+", subprocess.run(query, capture_output=True, text=True).stdout)
        if found:
            return f"sclite {found[0]}"
    usage = subprocess.run([str(program)], capture_output=True, text=True)
    found = re.search(r"sclite Version: ([\d.]+)", usage.stdout + usage.stderr)
    return f"sclite {found[1]}" if found else "sclite"


def refusal(words: Iterable[Sequence[str]], chars: Iterable[Sequence[str]]) -> str:
    """Why sclite is not asked for the tables of an utterance, by both sides of each; "" if it is.

    2.4.10 fills its report for ever with a word of 990 bytes, if another column follows: a model
    that goes round in circles without spaces writes such words. Of long texts it keeps all pairs.
    """
    if any(len(escape(word).encode()) > LONGEST for text in words for word in text):
        return "has a word on which sclite has no end"
    if prod(map(len, chars)) > MOST_PAIRS:
        return "is so long that sclite would take all memory"
    return ""


def run(program: Path, folder: Path) -> str:
    """Score `ref.trn` and `hyp.trn` of a folder; return sclite's whole report.

    ESPnet's call, with `-s` and `-e utf-8` because the text is lower-cased already and UTF-8. A
    second one leaves `result.pra` (each utterance aligned) and `result.dtl` (each error, by
    frequency) in the folder.

    Raises:
        WorkError: sclite failed.
    """
    report = _call(program, folder, "-o", "all", "stdout")
    _call(program, folder, "-o", "pralign", "dtl", "-O", ".", "-n", "result")
    return report


def _call(program: Path, folder: Path, *output: str) -> str:
    call = [str(program), "-s", "-e", "utf-8", "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn"]
    # Within the folder: its reports name the files as they are named here.
    done = subprocess.run([*call, "-i", "rm", *output], cwd=folder, capture_output=True)
    out = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", errors="replace").strip().splitlines() or ["no message"]
        raise WorkError(
            f"sclite failed on {folder / 'hyp.trn'} with exit code {done.returncode}: {said[0]}"
        )
    return out
