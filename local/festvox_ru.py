#!/usr/bin/env python3
"""Russian sentences read by one voice: Debian's festvox-ru (BSD-like licence).

Writes OUT/parts/festvox_ru, not split yet.
"""

import re
from collections import Counter
from pathlib import Path

from espnet_dq.data.corpus import Clip, parser, prepare
from espnet_dq.data.summary import Source
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.debian import Package, fetch

SOURCE = Source("a Russian voice of Festival (Debian's festvox-ru)", "BSD-like")
PACKAGE = Package(
    "festvox-ru",
    "0.5+dfsg-6",
    "21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4",
)
VOICE = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"


def read_texts(path: Path) -> dict[str, str]:
    """Sentence id -> text of Festival's `txt.done.data`, lines `( ID "TEXT" )`.

    A `+` before a vowel marks the stress and is no part of the text.

    Raises:
        InputError: The file is missing, not UTF-8, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: {e}") from e
    texts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = re.fullmatch(r'\(\s*(\S+)\s+"(.*)"\s*\)', line.strip())
        if not match:
            raise InputError(f'{path}:{number}: not of the form ( ID "TEXT" )')
        texts[match[1]] = match[2].replace("+", "")
    return texts


def main(argv: list[str] | None = None) -> int:
    """Fetch, match and prepare the corpus."""
    args = parser(__doc__).parse_args(argv)
    voice = fetch(PACKAGE, args.downloads) / VOICE
    texts = read_texts(voice / "etc/txt.done.data")
    audio = {path.stem: path for path in (voice / "wav").glob("*.wav")}
    left_out = Counter(
        {
            "transcript without audio": len(texts.keys() - audio.keys()),
            "audio without transcript": len(audio.keys() - texts.keys()),
        }
    )
    clips = [
        Clip("ru", name, "festvox_ru_nsh", audio[name], texts[name])
        for name in sorted(texts.keys() & audio.keys())
    ]
    prepare("festvox_ru", clips, {"ru": +left_out}, args.out, args.nj, SOURCE)
    return 0


if __name__ == "__main__":
    run(main)
