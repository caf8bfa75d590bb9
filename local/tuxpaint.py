#!/usr/bin/env python3
"""Names of the stamps of the drawing program Tux Paint, spoken in nine languages (GPL-2).

Debian's `tuxpaint-stamps-default` holds STAMP.txt, a line a language, and STAMP_desc_XX.ogg. Who
speaks is not said. Some texts are newer than their recordings: taken are the clips that
`tuxpaint_kept.txt` names, those that `benchmarks/tuxpaint_texts.py` found to say their text.
Writes OUT/parts/tuxpaint (ro bg be ca da el) and, to be scored only, OUT/parts/tuxpaint_others
(es fr ru: other voices in languages of `asterisk`), not split yet.
"""

import re
from collections import Counter
from pathlib import Path

from espnet_dq.data.corpus import Clip, parser, prepare
from espnet_dq.data.summary import Source
from espnet_dq.errors import InputError, run
from espnet_dq.fetch.debian import Package, fetch

SOURCE = Source("Tux Paint's stamps (Debian's tuxpaint-stamps-default)", "GPL-2")
PACKAGE = Package(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
STAMPS = "usr/share/tuxpaint/stamps"
PARTS = {
    "tuxpaint": ("ro", "bg", "be", "ca", "da", "el"),
    "tuxpaint_others": ("es", "fr", "ru"),
}
KEPT = Path(__file__).with_name("tuxpaint_kept.txt")


def match(lang: str, stamps: Path) -> tuple[list[Clip], Counter[str]]:
    """Clips that have a text, and counts of those that have none.

    Raises:
        InputError: A text is not UTF-8.
    """
    clips, left_out = [], Counter()
    end = f"_desc_{lang}.ogg"
    for audio in sorted(stamps.rglob(f"*{end}")):
        stem = audio.name.removesuffix(end)
        try:
            content = audio.with_name(f"{stem}.txt").read_text(encoding="utf-8")
        except FileNotFoundError:
            content = ""
        except UnicodeDecodeError as e:
            raise InputError(f"{audio.with_name(f'{stem}.txt')}: {e}") from e
        said = re.findall(rf"^{lang}\.utf8=(.*)$", content, re.MULTILINE)
        if said:
            prompt = f"{audio.parent.relative_to(stamps)}/{stem}"
            clips.append(
                Clip(lang, prompt, f"tuxpaint_{lang}", audio, said[-1], speaker_known=False)
            )
        else:
            left_out["audio without transcript"] += 1
    return clips, left_out


def read_kept(path: Path) -> set[tuple[str, str]]:
    """(language, prompt) of each line `LANGUAGE PROMPT`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {(lang, prompt) for lang, _, prompt in (line.partition(" ") for line in lines)}


def main(argv: list[str] | None = None) -> int:
    """Fetch, match and prepare both parts."""
    args = parser(__doc__).parse_args(argv)
    stamps, kept = fetch(PACKAGE, args.downloads) / STAMPS, read_kept(KEPT)
    for name, languages in PARTS.items():
        clips, left_out = [], {}
        for lang in languages:
            found, left_out[lang] = match(lang, stamps)
            saying = [clip for clip in found if (lang, clip.prompt) in kept]
            left_out[lang]["not found to say its text"] += len(found) - len(saying)
            clips += saying
        prepare(name, clips, left_out, args.out, args.nj, SOURCE)
    return 0


if __name__ == "__main__":
    run(main)
