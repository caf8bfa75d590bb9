"""Whether the teacher hears the languages that the data say, before it is asked for more."""

from collections import Counter
from pathlib import Path

import torch
from whisper import Whisper
from whisper.decoding import detect_language

from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.formats.openai import read as openai
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import encode, log_mel, own_window

CLIPS, ALL = 10, 50  # at most, of each language and together; but one of each


@torch.no_grad()
def heard(teacher: Path, folder: Path) -> dict[str, Counter[str]]:
    """Language of the data -> how often which one is heard in up to ten utterances of it.

    No more are listened to than are needed to know whether it is half of them.

    Args:
        teacher: An openai-whisper `.pt` file.
        folder: A formatted Kaldi folder; of what is longer than the model's window, the beginning.

    Raises:
        InputError: The file is no Whisper, or a multilingual one.
    """
    weights = openai.load(teacher)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    model.eval()
    tokenizer, window = vocabulary_tokenizer(weights.dims, teacher), own_window(weights.dims)
    data = KaldiDir.load(folder)
    languages = len(set(data.utt2lang.values()))
    data = data.draw(max(1, min(CLIPS, ALL // languages)))
    counts = Counter(data.utt2lang.values())
    found: dict[str, Counter[str]] = {language: Counter() for language in sorted(counts)}
    for utt, language in data.utt2lang.items():
        so_far = found[language]
        if so_far[language] * 2 >= counts[language]:
            continue
        speech = torch.from_numpy(load_audio(data.wav[utt])[:window])[None]
        mel = log_mel(speech, torch.tensor([speech.shape[1]]), weights.dims.n_mels, window)
        token, _ = detect_language(model, encode(model.encoder, mel), tokenizer)
        codes = dict(zip(tokenizer.all_language_tokens, tokenizer.all_language_codes, strict=True))
        so_far[codes[int(token)]] += 1
    return found


def doubts(found: dict[str, Counter[str]]) -> dict[str, str]:
    """A line for each language that was heard in less than half of its utterances."""
    lines = {}
    for language, counts in found.items():
        if counts[language] * 2 < (count := counts.total()):
            others = ", ".join(f"{n} as {x}" for x, n in counts.most_common() if x != language)
            lines[language] = (
                f"of {count} clips in '{language}' the teacher hears {counts[language]} as that, "
                f"{others}: if the language is wrong, texts are learned as those of another; if it "
                "is right, the teacher hardly knows it"
            )
    return lines
