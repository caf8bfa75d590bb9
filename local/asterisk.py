#!/usr/bin/env python3
"""Prompts of the Asterisk telephone system in five languages, one voice each (CC-BY-SA-3.0).

Debian's `asterisk-core-sounds-XX` hold the texts, `asterisk-core-sounds-XX-g722` the clips.
Writes OUT/parts/asterisk, not split yet.
"""

import gzip
import re
import zlib
from collections import Counter
from pathlib import Path

from espnet_dq.data.corpus import Clip, parser, prepare
from espnet_dq.data.summary import Source
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.debian import Package, fetch

VERSION = "1.6.1-1"
SOURCE = Source("Asterisk's core sounds (Debian's asterisk-core-sounds)", "CC-BY-SA-3.0")
SHA256 = {  # language: texts, clips
    "en": (
        "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
        "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    ),
    "es": (
        "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
        "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    ),
    "fr": (
        "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
        "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    ),
    "it": (
        "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
        "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    ),
    "ru": (
        "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
        "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
    ),
}


def read_texts(path: Path) -> list[tuple[str, str]]:
    """(name, text) of each line of a `core-sounds-XX.txt.gz`; `;` begins a comment.

    Raises:
        InputError: The file is not gzip, not UTF-8, or a line has no `name:`.
    """
    try:
        content = gzip.decompress(path.read_bytes()).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise InputError(f"{path}: {e}") from e
    entries = []
    for number, line in enumerate(content.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(";"):
            continue
        match = re.fullmatch(r"([^\s:]+):\s*(.*)", line)
        if not match:
            raise InputError(f"{path}:{number}: no 'name: text'")
        entries.append((match[1], match[2]))
    return entries


def match(
    lang: str, texts: list[tuple[str, str]], audio: dict[str, Path], speaker: str
) -> tuple[list[Clip], Counter[str]]:
    """Clips that have one text and one audio file, and counts of the entries that have not."""
    left_out: Counter[str] = Counter()
    names = Counter(name for name, _ in texts)
    clips = []
    for name, text in texts:
        if name not in audio:
            left_out["transcript without audio"] += 1
        elif names[name] > 1:
            left_out["one of two transcripts of a clip"] += 1
        elif any(f"{other}:" in text for other in names if "-" in other):
            left_out["name of a prompt in the text"] += 1  # a lost line end: two texts in one
        else:
            clips.append(Clip(lang, name, speaker, audio[name], text))
    left_out["audio without transcript"] += len(audio.keys() - names.keys())
    return clips, +left_out


def main(argv: list[str] | None = None) -> int:
    """Fetch, match and prepare the corpus."""
    args = parser(__doc__).parse_args(argv)
    clips, left_out = [], {}
    for lang, (texts_hash, clips_hash) in SHA256.items():
        name = f"asterisk-core-sounds-{lang}"
        texts = fetch(Package(name, VERSION, texts_hash), args.downloads)
        texts = read_texts(texts / f"usr/share/doc/{name}/core-sounds-{lang}.txt.gz")
        sounds = fetch(Package(f"{name}-g722", VERSION, clips_hash), args.downloads)
        (voice,) = (sounds / "usr/share/asterisk/sounds").glob(f"{lang}_*")
        audio = {str(p.relative_to(voice).with_suffix("")): p for p in voice.rglob("*.g722")}
        found, left_out[lang] = match(lang, texts, audio, f"asterisk_{voice.name}")
        clips += found
    prepare("asterisk", clips, left_out, args.out, args.nj, SOURCE)
    return 0


if __name__ == "__main__":
    run(main)
