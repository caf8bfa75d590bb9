"""Which recordings of Tux Paint's stamps say their text: some texts are newer than the recording.

The untouched small writes down each clip (faster-whisper, greedy, language given, int8). Its
encoder hears 10 s of it, padded, instead of 30: clips take 2 s on average, and it is seven times
faster. Of longer clips it hears 30 s. A clip is kept if that text is nearer to its own than to any
other of its language's stamps, by edits of letters as they are compared
(`espnet_dq.data.spelling`). What small said is appended to --out, a JSON line
a clip, languages in turns and clips in the order of a hash of their names, so that any beginning of
it is a sample; what is there is not done again. --kept is written from all of it: the file that
`local/tuxpaint.py` reads.

    .venv/bin/python benchmarks/tuxpaint_texts.py --small small.pt --downloads downloads \\
        --work /tmp/tuxpaint --out benchmarks/results/tuxpaint_texts.jsonl \\
        --kept local/tuxpaint_kept.txt
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parents[1] / "local"))
import tuxpaint

from espnet_dq.api.models import convert
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.corpus import Clip, text_fault
from espnet_dq.data.spelling import normalise
from espnet_dq.errors import run
from espnet_dq.fetch.debian import fetch
from espnet_dq.files import write_text
from espnet_dq.runtimes import load_runtime

SHORT, WHOLE = 1000, 3000  # frames of 10 ms


class Listener:
    """small, whose encoder hears as little as holds the clip."""

    def __init__(self, path: Path) -> None:
        self.engine = load_runtime("faster-whisper", path, nj=1)
        encode, self.frames = self.engine.model.encode, WHOLE
        self.engine.model.encode = lambda features: encode(features[..., : self.frames])

    def hear(self, clip: Clip) -> str:
        audio = load_audio(clip.audio)
        self.frames = SHORT if len(audio) < SHORT * SAMPLE_RATE // 100 else WHOLE
        (heard,) = self.engine.decode([audio], clip.lang)
        return heard.text


def in_order(clips: dict[str, list[Clip]]) -> Iterator[Clip]:
    """Languages in turns, each in the order of a hash of the prompts."""

    def place(clip: Clip) -> str:
        return hashlib.sha256(clip.prompt.encode()).hexdigest()

    turns = zip_longest(*(sorted(clips[lang], key=place) for lang in sorted(clips)))
    return (clip for clip in chain.from_iterable(turns) if clip)


def kept(lang: str, clips: list[Clip], said: dict[str, str]) -> list[str]:
    """Prompts whose `said` text is as near to their own text as to any of the language's."""
    texts = {clip.prompt: normalise(clip.text, lang) for clip in clips}
    of = [prompt for prompt in texts if prompt in said]
    others = sorted(set(texts.values()))
    heard = [normalise(said[prompt], lang) for prompt in of]
    edits = cdist(heard, others, scorer=Levenshtein.distance)
    own = np.array([others.index(texts[prompt]) for prompt in of])
    nearest = edits[np.arange(len(of)), own] == edits.min(axis=1)
    # A text of which nothing is heard is near to the shortest one.
    right = nearest & (edits[np.arange(len(of)), own] < [len(texts[prompt]) for prompt in of])
    return sorted(prompt for prompt, yes in zip(of, right, strict=True) if yes)


def main(argv: list[str] | None = None) -> int:
    """Listen to what was not heard yet, and write what is kept; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=Path, required=True, help="the untouched small")
    parser.add_argument("--downloads", type=Path, required=True, help="kept packages")
    parser.add_argument("--work", type=Path, required=True, help="folder for the model")
    parser.add_argument("--minutes", type=float, default=1e9, help="listen no longer (no limit)")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--kept", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    stamps = fetch(tuxpaint.PACKAGE, args.downloads) / tuxpaint.STAMPS
    clips = {
        lang: [c for c in tuxpaint.match(lang, stamps)[0] if not text_fault(c.text, lang)]
        for languages in tuxpaint.PARTS.values()
        for lang in languages
    }
    lines = args.out.read_text("utf-8").splitlines() if args.out.is_file() else []
    said = {(x["lang"], x["prompt"]): x["said"] for x in map(json.loads, lines)}
    left = [clip for clip in in_order(clips) if (clip.lang, clip.prompt) not in said]
    model = args.work / "small_ct2"
    if left and not model.is_dir():
        convert(args.small, model, "ct2", "ct2_int8")
    end, listener = time.monotonic() + 60 * args.minutes, None
    with open(args.out, "a", encoding="utf-8") as out:
        for clip in tqdm(left, unit="clip"):
            if time.monotonic() > end:
                break
            listener = listener or Listener(model)
            text = said[clip.lang, clip.prompt] = listener.hear(clip)
            line = {"lang": clip.lang, "prompt": clip.prompt, "said": text}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            out.flush()
    chosen = []
    for lang in sorted(clips):
        of = {prompt: text for (x, prompt), text in said.items() if x == lang}
        good = kept(lang, clips[lang], of)
        share = 100 * len(good) / max(1, len(of))
        print(f"{lang}: {len(clips[lang])} clips, {len(of)} heard, {share:.1f} % of these kept")
        chosen += [f"{lang} {prompt}" for prompt in good]
    write_text(args.kept, "".join(f"{line}\n" for line in chosen))
    return 0


if __name__ == "__main__":
    run(main)
