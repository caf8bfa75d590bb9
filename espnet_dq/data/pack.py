"""Fill 30 s windows: several utterances of one language, one after the other.

Whisper's encoder costs the same for a word and for half a minute, since every runtime feeds it
30 s. Short clips are therefore joined (with pauses) until a window is full, and some are kept
alone, so that training sees windows of every filling. Twelve clips of 2.5 s cost one window
then, not twelve.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm
from whisper.model import ModelDimensions

from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.kaldi import AUDIO, CATEGORY, KaldiDir
from espnet_dq.data.texts import glue
from espnet_dq.errors import InputError, one_line
from espnet_dq.files import Folder, check_replaceable, sha256
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.room import most_text

PAUSE = (0.1, 0.5)  # seconds between two utterances
ROOM = 0.5  # seconds that are left free at the end of a window


@dataclass(frozen=True)
class Balance:
    """How often the languages are heard.

    With hours h of a language, `max_hours` at most, its share is that of h ** (1 / `temperature`):
    1 leaves the data as they are, more brings languages of few hours forward, by repeating them and
    leaving out parts of the others, so that there is as much as before in all.
    """

    temperature: float = 1.0
    max_hours: float = math.inf

    def __post_init__(self):
        if not self.temperature >= 1 or not self.max_hours > 0:
            raise InputError(
                f"temperature {self.temperature}, max_hours {self.max_hours}: a temperature is 1 "
                "or more, hours are above 0"
            )

    def passes(self, hours: dict[str, float]) -> dict[str, float]:
        """How many times each language's utterances are heard, in parts of 1."""
        if not hours:
            return {}
        capped = {lang: min(h, self.max_hours) for lang, h in hours.items()}
        shares = {lang: h ** (1 / self.temperature) for lang, h in capped.items()}
        scale = sum(capped.values()) / sum(shares.values())
        return {lang: shares[lang] * scale / hours[lang] for lang in hours}


def _draw(names: list[str], passes: float, shuffle: random.Random) -> list[str]:
    """`names` shuffled, as many times as `passes` says; of a part of a pass the first ones."""
    drawn: list[str] = []
    while passes > 1e-9:
        shuffle.shuffle(names)
        drawn += names[: max(1, round(min(passes, 1.0) * len(names)))]
        passes -= 1
    return drawn


def plan_windows(
    data: KaldiDir,
    seconds: dict[str, float],
    longest: float,
    singles: int,
    seed: int,
    dims: ModelDimensions = SIZES["tiny"],
    balance: Balance = Balance(),
    most: int | None = None,
    by_speaker: bool = False,
) -> list[list[str]]:
    """Which utterances go together: every one once, unless `balance` says otherwise.

    `singles` of those, drawn as `balance` left them, are alone in a window as well. Of all windows
    no more than `most` are drawn, in the order in which they are. With `by_speaker` all utterances
    of a window are one speaker's, or those of speakers that nobody knows.

    Utterances are shuffled within their language and joined while the window has room for
    `longest` seconds, the longest pauses counted, and the decoder of a model of these `dims` for
    the tokens of their joined text, which a trimmed vocabulary has more of. Left out are utterances
    whose text alone is too long for the decoder, or which are longer than a window (`longest` and
    `ROOM`).
    """
    if not 1 <= longest <= 30:
        raise InputError(f"windows of {longest} s: 1 to 30 are possible")
    tokenizer, room = vocabulary_tokenizer(dims), most_text(dims.n_text_ctx)

    def fits(window: list[str]) -> bool:
        text, language = joined_text(data, window), data.utt2lang[window[0]]
        # No token is less than a byte; one more is the space before a text.
        short = len(text.encode()) + 1 <= room
        return short or len(encode_text(tokenizer, text, language)) <= room

    def together(window: list[str]) -> bool:
        other = by_speaker and data.speaker(window[-1]) != data.speaker(window[0])
        return not other and fits(window)

    fitting = sorted(u for u in data.wav if seconds[u] <= longest + ROOM and fits([u]))
    of: dict[str, list[str]] = {}
    for utt in fitting:
        of.setdefault(data.utt2lang[utt], []).append(utt)
    passes = balance.passes({lang: sum(seconds[u] for u in us) / 3600 for lang, us in of.items()})
    shuffle = random.Random(seed)
    windows: list[list[str]] = []
    heard: list[str] = []
    for language in sorted(of):
        names = _draw(of[language], passes[language], shuffle)
        heard += names
        if by_speaker:
            names = sorted(names, key=data.speaker)  # stable: as they were shuffled
        windows += _filled(names, seconds, longest, together)
    alone = shuffle.sample(sorted(heard), min(singles, len(heard)))
    windows += [[u] for u in alone]
    if most is None or len(windows) <= most:
        return windows
    return [windows[i] for i in sorted(shuffle.sample(range(len(windows)), most))]


def _filled(
    names: list[str],
    seconds: dict[str, float],
    longest: float,
    together: Callable[[list[str]], bool],
) -> Iterator[list[str]]:
    """Utterances joined in their order, while there is room and they may be `together`."""
    window, length = [], 0.0
    for name in names:
        more = seconds[name] + PAUSE[1]
        if window and (length + more > longest or not together([*window, name])):
            yield window
            window, length = [], 0.0
        window.append(name)
        length += more
    if window:
        yield window


WAVS = Folder("window", ("[0-9]" * 6 + ".wav",))  # beside the Kaldi folder


def pack(
    data: KaldiDir,
    out: Path,
    longest: float = 29.5,
    singles: int = 0,
    seed: int = 0,
    dims: ModelDimensions = SIZES["tiny"],
    balance: Balance = Balance(),
    most: int | None = None,
    by_speaker: bool = False,
) -> KaldiDir:
    """Write the Kaldi folder `out` with the windows of `data`, which has `utt2num_samples`.

    `plan_windows` says what is in them. Audio goes beside it, to `out`_wav, 16-bit. The name of a
    window ends in its number; its text is the texts joined as its language joins words, and its
    category for ESPnet's `folded` batches its language.
    """
    seconds = {u: int(n) / SAMPLE_RATE for u, n in data.extra["utt2num_samples"].items()}
    windows = plan_windows(data, seconds, longest, singles, seed, dims, balance, most, by_speaker)
    pauses = random.Random(seed)
    packed = KaldiDir()
    wav_dir = out.with_name(f"{out.name}_wav").resolve()
    check_replaceable(wav_dir, WAVS)
    bar = tqdm(windows, desc=one_line(f"pack {out.name}"), unit="window")
    for number, window in enumerate(bar):
        audio = joined(data, window, longest, pauses)
        speaker = data.utt2spk[window[0]]
        key = f"{speaker}-window{number:06d}"
        path = wav_dir / f"{number:06d}.wav"
        save_wav(path, audio)
        language, text = data.utt2lang[window[0]], joined_text(data, window)
        tables = {"utt2num_samples": len(audio), AUDIO: sha256(path)}
        packed.add(key, path, text, data.speaker(window[0]) or key, language, **tables)
    packed.extra[CATEGORY] = dict(packed.utt2lang)
    packed.save(out)
    return packed


def joined(
    data: KaldiDir, window: Sequence[str], longest: float, pauses: random.Random
) -> np.ndarray:
    """The audio of utterances with pauses between them, at most `longest` seconds and `ROOM`."""
    parts = [load_audio(data.wav[window[0]])]
    for name in window[1:]:
        parts.append(np.zeros(int(pauses.uniform(*PAUSE) * SAMPLE_RATE), np.float32))
        parts.append(load_audio(data.wav[name]))
    return np.concatenate(parts)[: round((longest + ROOM) * SAMPLE_RATE)]


def joined_text(data: KaldiDir, window: Sequence[str]) -> str:
    """The texts of utterances of one language, as it joins words."""
    return glue((data.text[u].strip() for u in window), data.utt2lang[window[0]])
