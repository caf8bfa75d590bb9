"""How often `Splitter` gives a piece exactly its text, on long utterances built from short ones.

Clips of one language, with pauses of 0.3 to 0.8 s, are joined to 33 to 58 s or a clip more, so that
the text between two pauses is known. Prints a JSON line for each utterance and the counts at the
end: pieces given whose text is `exact` or `wrong`, pieces left out by reason, and pieces that begin
or end within a clip, where nothing is known (`unknown`).

    python benchmarks/split_long.py --data dump/asterisk/raw/train --aligner base.pt --utterances 40
"""

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.pieces import pieces
from espnet_dq.errors import run
from espnet_dq.labels.split import Splitter


def build(data: KaldiDir, language: str, rng) -> tuple[np.ndarray, list[str], list[range]]:
    """Audio, the clips' texts, and the samples of the pause behind each clip."""
    utts = [utt for utt in data.wav if data.utt2lang[utt] == language]
    rng.shuffle(utts)
    wanted = rng.uniform(33, 58) * SAMPLE_RATE
    audio, texts, pauses, length = [], [], [], 0
    for utt in utts:
        pause = rng.normal(0, 1e-4, int(rng.uniform(0.3, 0.8) * SAMPLE_RATE)).astype(np.float32)
        audio += [load_audio(data.wav[utt]), pause]
        texts.append(" ".join(data.text[utt].split()))
        length += len(audio[-2]) + len(pause)
        pauses.append(range(length - len(pause), length + 1))
        if length > wanted:
            break
    return np.concatenate(audio), texts, pauses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--aligner", type=Path, required=True, help="a Whisper's .pt file")
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data, rng = KaldiDir.load(args.data), np.random.default_rng(args.seed)
    languages = sorted(set(data.utt2lang.values()))
    splitter, counts = Splitter(args.aligner, 30.0, 1), Counter()
    for number in range(args.utterances):
        language = languages[number % len(languages)]
        audio, texts, pauses = build(data, language, rng)
        starts, parts = zip(*pieces([audio], 30.0), strict=True)
        found, faults = splitter.assign(list(parts), " ".join(texts), language)
        clips = [  # before each edge; None for an edge within a clip
            next((k + 1 for k, pause in enumerate(pauses) if edge in pause), None)
            for edge in (*starts[1:], len(audio))
        ]
        for (a, b), text, fault in zip(pairwise([0, *clips]), found, faults, strict=True):
            if fault:
                counts[fault] += 1
            elif a is None or b is None:
                counts["unknown"] += 1
            else:
                counts["exact" if text == " ".join(texts[a:b]) else "wrong"] += 1
        seconds = round(len(audio) / SAMPLE_RATE, 1)
        print(json.dumps({"language": language, "seconds": seconds, **counts}), flush=True)
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    run(main)
