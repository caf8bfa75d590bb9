"""How near the references of corpora come to what is taken for unsayable (docs/data.md).

For each script: utterances of 30 s or less, in how many of them the guard finds something
(`espnet_dq.data.sayable.unsaid` with the seconds that sound in them), how many letters and digits a
second the fastest of a second or more have, and the fastest 0.1 %. Prints a JSON line for each, and
names what was found. With --hyp the same of what was decoded of one folder.

    .venv/bin/python benchmarks/sayable.py dump/asterisk/data/{train,dev,test}
    .venv/bin/python benchmarks/sayable.py dump/asterisk/raw/test --hyp exp/.../decode/student
"""

import argparse
import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.data.sayable import unsaid
from espnet_dq.data.spelling import normalise
from espnet_dq.data.unfit import sounding_seconds
from espnet_dq.errors import run, say
from espnet_dq.formats import json_file
from espnet_dq.runtimes import WINDOW


def main() -> int:
    """Judge each folder's references."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path, help="Kaldi folders")
    parser.add_argument("--hyp", type=Path, help="a folder of bin.decode, instead of references")
    args = parser.parse_args()
    rates: dict[str, list[float]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for folder in args.data:
        data = KaldiDir.load(folder)
        texts = read_scp(args.hyp / "text", empty=True) if args.hyp else data.text
        report = json_file.read(args.hyp / "decode.json") if args.hyp else {}
        cut = {*report.get("token_limit", {}).get("cut", ())}
        for utt, path in data.wav.items():
            # As it is compared, without what stands in brackets, which nobody says.
            text = normalise(texts[utt], data.utt2lang[utt])
            seconds = sounding_seconds(load_audio(path))
            if seconds > WINDOW:
                continue
            script = script_of(text)
            counts[script, "utterances"] += 1
            if stretches := unsaid(text, seconds, utt in cut):
                counts[script, "found"] += 1
                say(f"{folder}: {utt}: {seconds:.1f} s: {text[:80]} {stretches}")
            if seconds >= 1:
                rates.setdefault(script, []).append(sum(map(str.isalnum, text)) / seconds)
    for script, found in sorted(rates.items()):
        line = {
            "script": script,
            "utterances": counts[script, "utterances"],
            "found": counts[script, "found"],
            "fastest": round(max(found), 1),
            "fastest_0.1_percent": round(float(np.quantile(found, 0.999)), 1),
            "median": round(float(np.median(found)), 1),
        }
        print(json.dumps(line))
    return 0


def script_of(text: str) -> str:
    """The script of most of a text's letters, as Unicode's names begin."""
    names = Counter(unicodedata.name(c, "").split(" ")[0] for c in text if c.isalpha())
    return names.most_common(1)[0][0].lower() if names else "none"


if __name__ == "__main__":
    run(main)
