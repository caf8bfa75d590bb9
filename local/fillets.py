#!/usr/bin/env python3
"""Acted dialogues of the game Fish Fillets in Czech and Dutch (GPL-2).

Debian's `fillets-ng-data` holds the texts, `fillets-ng-data-XX` the clips. A prompt is
LEVEL/ID, the same in both languages: some ids stand in several levels, with other words.
Writes OUT/parts/fillets, not split yet.
"""

import re
from collections import Counter
from pathlib import Path

from espnet_dq.data.corpus import Clip, parser, prepare
from espnet_dq.data.summary import Source
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.debian import Package, fetch

VERSION = "1.0.1-1.1"
SOURCE = Source("Fish Fillets' dialogues (Debian's fillets-ng-data)", "GPL-2")
TEXTS = Package(
    "fillets-ng-data",
    VERSION,
    "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84",
)
CLIPS = {
    "cs": Package(
        "fillets-ng-data-cs",
        VERSION,
        "3ecef99b9456f1c80c9625c6f2418642b52d58e7167a46bad7a412db17991b14",
    ),
    "nl": Package(
        "fillets-ng-data-nl",
        VERSION,
        "afb4443fda9ab507dee578b75be857d121718a1cd6017a474f30e0eb13dc9d10",
    ),
}
GAME = "usr/share/games/fillets-ng"
STRING = r'"((?:[^"\\]|\\.)*)"'
DIALOG = re.compile(
    rf"dialogId\(\s*{STRING}\s*,\s*{STRING}\s*,\s*{STRING}\s*\)\s*dialogStr\(\s*{STRING}\s*\)"
)


def read_dialogs(path: Path) -> list[tuple[str, str, str]]:
    """(id, voice, text) of a Lua file's `dialogId(ID, FONT, ENGLISH) dialogStr(TEXT)` pairs.

    The colour of the subtitle tells who speaks: `font_small` is the small fish's.

    Raises:
        InputError: The file is not UTF-8.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: {e}") from e
    return [
        (name, font.removeprefix("font_") or "unknown", re.sub(r"\\(.)", r"\1", text))
        for name, font, _, text in DIALOG.findall(content)
    ]


def match(lang: str, script: Path, sound: Path) -> tuple[list[Clip], Counter[str]]:
    """Clips that have one text and one audio file, and counts of the entries that have not.

    Args:
        lang: "cs" or "nl".
        script: Folder with LEVEL/*dialogs_LANG.lua.
        sound: Folder with LEVEL/LANG/ID.ogg and LEVEL/PART/LANG/ID.ogg.
    """
    audio = {}
    for path in sorted(sound.rglob(f"{lang}/*.ogg")):
        audio[f"{path.relative_to(sound).parts[0]}/{path.stem}"] = path
    texts: dict[str, tuple[str, str]] = {}
    left_out: Counter[str] = Counter()
    twice = set()
    for path in sorted(script.rglob(f"*dialogs_{lang}.lua")):
        level = path.relative_to(script).parts[0]
        for name, voice, text in read_dialogs(path):
            prompt = f"{level}/{name}"
            if texts.setdefault(prompt, (voice, text)) != (voice, text):
                twice.add(prompt)
    clips = []
    for prompt, (voice, text) in texts.items():
        if prompt not in audio:
            left_out["transcript without audio"] += 1
        elif prompt in twice:
            left_out["one of two transcripts of a clip"] += 1
        else:
            clips.append(Clip(lang, prompt, f"fillets_{lang}_{voice}", audio[prompt], text))
    left_out["audio without transcript"] += len(audio.keys() - texts.keys())
    return clips, +left_out


def main(argv: list[str] | None = None) -> int:
    """Fetch, match and prepare the corpus."""
    args = parser(__doc__).parse_args(argv)
    script = fetch(TEXTS, args.downloads) / GAME / "script"
    clips, left_out = [], {}
    for lang, package in CLIPS.items():
        sound = fetch(package, args.downloads) / GAME / "sound"
        found, left_out[lang] = match(lang, script, sound)
        clips += found
    prepare("fillets", clips, left_out, args.out, args.nj, SOURCE)
    return 0


if __name__ == "__main__":
    run(main)
