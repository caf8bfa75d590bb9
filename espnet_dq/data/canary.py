"""Windows of what a student did not train on: does it hold for other people, languages and noise?

A canary is a Kaldi folder of windows with two more tables: `utt2kind`, what a window shows, and
`utt2set`, whose it is. Kinds are `SEEN`, the voices of the training; `VOICES`, other people who
speak its languages; `LANGUAGES`, languages that it did not have; `VOICES` in noise; and
`NO_SPEECH`, whose texts are in brackets, so that nothing of them is compared: any word said there
is one too many. All windows of speech are of one speaker, or of speakers that nobody knows.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm
from whisper.model import ModelDimensions

from espnet_dq.data import noise
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.audio import seconds as length
from espnet_dq.data.kaldi import AUDIO, KIND, SET, KaldiDir
from espnet_dq.data.pack import ROOM, WAVS, joined, joined_text, plan_windows
from espnet_dq.data.spelling import compared
from espnet_dq.errors import InputError
from espnet_dq.files import check_replaceable, sha256
from espnet_dq.whisper.dims import SIZES, knows, vocabulary_tokenizer
from espnet_dq.whisper.forward import own_window

SEEN, VOICES, LANGUAGES = "seen voices", "other voices", "other languages"
NO_SPEECH = "no speech"
NOISES = ("stationary noise", "babble")
LEAST = 6  # windows of other voices, where there are so many: of fewer, no interval is said
WORDS, SNR, SECONDS = 120, 10, 30.0  # of each language of each set; dB; of sounds without speech


@dataclass(frozen=True)
class Window:
    """One of a canary's, not written yet."""

    kind: str
    of: str  # the set
    speaker: str  # empty if nobody knows
    lang: str
    text: str
    audio: np.ndarray


def noisy(kind: str, how: str, snr: int) -> str:
    """The kind of noisy windows, `other voices, babble at 10 dB`."""
    return f"{kind}, {how} at {snr} dB"


def order(kind: str) -> tuple[int, str]:
    """By which kinds are sorted: clean speech first, the nearest to the training first."""
    clean = (SEEN, VOICES, LANGUAGES)
    return clean.index(kind) if kind in clean else len(clean), kind


def longest(dims: ModelDimensions) -> float:
    """Seconds of a model's windows."""
    return own_window(dims) / SAMPLE_RATE - ROOM


def draw(
    data: KaldiDir, words: int, seed: int, least: Mapping[str, int], dims: ModelDimensions
) -> Iterator[list[str]]:
    """Utterances of windows of one speaker each, until each language has so many words.

    And at least so many windows as `least` says of it. Utterances of which nothing is compared are
    in none, nor are those that a model of these `dims` has no room for.
    """
    spoken = data.select(u for u in data.wav if compared(data.text[u], data.utt2lang[u]))
    seconds = {u: length(path) for u, path in spoken.wav.items()}
    windows = plan_windows(spoken, seconds, longest(dims), 0, seed, dims, by_speaker=True)
    counts: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    for number in np.random.default_rng(seed).permutation(len(windows)):
        window = windows[number]
        lang = spoken.utt2lang[window[0]]
        if counts[lang] < words or drawn[lang] < least.get(lang, 0):
            counts[lang] += sum(len(compared(spoken.text[u], lang)) for u in window)
            drawn[lang] += 1
            yield window


def speech(
    sets: Mapping[str, KaldiDir],
    voices: Collection[str],
    trained: Collection[str],
    words: int,
    seed: int,
    dims: ModelDimensions = SIZES["tiny"],
) -> Iterator[Window]:
    """The windows of all sets, in order.

    Args:
        sets: by name, of one file an utterance.
        voices: of the training: speakers, and utterances whose speaker nobody knows.
        trained: languages.
        words: of each language of each set; the last window may bring more, and so may `LEAST`.
        seed: of what is drawn.
        dims: of a model that has room for them.
    """
    columns = sum(len(set(data.utt2lang.values()) & {*trained}) for data in sets.values())
    least = dict.fromkeys(trained, -(-LEAST // max(columns, 1)))
    for name, data in sets.items():
        pauses = random.Random(f"{seed} {name}")
        for window in draw(data, words, seed, least, dims):
            lang, speaker = data.utt2lang[window[0]], data.speaker(window[0])
            kind = VOICES if lang in trained else LANGUAGES
            if data.utt2spk[window[0]] in voices:
                kind = SEEN
            audio = joined(data, window, longest(dims), pauses)
            yield Window(kind, name, speaker, lang, joined_text(data, window), audio)


def in_noise(windows: Collection[Window], snrs: Collection[int], seed: int) -> Iterator[Window]:
    """The windows of other voices in each noise; babble is of windows in other languages."""
    for how in NOISES:
        for snr in snrs:
            for number, window in enumerate(w for w in windows if w.kind == VOICES):
                rng = np.random.default_rng([seed, NOISES.index(how), snr + 1000, number])
                length = len(window.audio)
                others = [w.audio for w in windows if w.lang != window.lang] or [window.audio]
                if how == "babble":
                    talkers = rng.integers(len(others), size=noise.TALKERS)
                    sound = noise.babble([others[k] for k in talkers], length, rng)
                else:
                    sound = noise.coloured(length, 1, rng)
                yield Window(
                    noisy(window.kind, how, snr), window.of, window.speaker, window.lang,
                    window.text, noise.mixed(window.audio, sound, snr),
                )  # fmt: skip


def no_speech(
    languages: Collection[str], seconds: float, seed: int, more: Mapping[str, Path] | None = None
) -> Iterator[Window]:
    """Sounds in which nobody speaks, each once for each language that a model could take it for.

    Args:
        more: other such sounds, by name; their beginnings.
    """
    rng, samples = np.random.default_rng(seed), round(seconds * SAMPLE_RATE)
    sounds = {
        "silence": np.zeros(samples, np.float32),
        "faint noise": 1e-3 * noise.coloured(samples, 0, rng),
        "noise": 0.05 * noise.coloured(samples, 1, rng),
        "hum": noise.hum(samples),
        "ringing": noise.ringing(samples),
        **{name: load_audio(path)[:samples] for name, path in (more or {}).items()},
    }
    for name, audio in sounds.items():
        for lang in languages:
            yield Window(NO_SPEECH, name, "", lang, f"({name})", audio)


def make(
    sets: Mapping[str, KaldiDir], train: KaldiDir, out: Path, words: int = WORDS, seed: int = 0
) -> KaldiDir:
    """The recipe's canary: clean windows, those of other voices in noise, and sounds.

    Args:
        sets: by name, of one file an utterance, with texts.
        train: what is trained, by which voices and languages are other ones.
        out: the Kaldi folder to write, see `save`.
        words: of each language of each set.
        seed: of what is drawn.
    """
    trained = {*train.utt2lang.values()}
    windows = list(speech(sets, {*train.utt2spk.values()}, trained, words, seed))
    windows += in_noise(windows, [SNR], seed)
    # In two of its languages: each costs a window for each sound and system.
    windows += no_speech(sorted(trained)[:2], SECONDS, seed)
    return save(windows, out)


def choice(
    sets: Mapping[str, KaldiDir],
    train: KaldiDir,
    out: Path,
    dims: ModelDimensions = SIZES["tiny"],
    words: int = WORDS,
    seed: int = 0,
) -> KaldiDir:
    """What a student is chosen by: clean windows of other voices and other languages.

    Args:
        sets, train, out, words, seed: see `make`.
        dims: the student's: windows and tokens that it has, languages that it knows.

    Raises:
        InputError: there are none.
    """
    tokenizer = vocabulary_tokenizer(dims)
    known = {
        name: data.select(u for u in data.wav if knows(tokenizer, data.utt2lang[u]))
        for name, data in sets.items()
    }
    voices, trained = {*train.utt2spk.values()}, {*train.utt2lang.values()}
    windows = speech(known, voices, trained, words, seed, dims)
    others = [window for window in windows if window.kind != SEEN]
    if not others:
        raise InputError(f"{', '.join(sets)}: neither {VOICES} nor {LANGUAGES}")
    return save(others, out)


def save(windows: Collection[Window], out: Path) -> KaldiDir:
    """Write the folder `out`, and its audio beside it, in `out`_wav.

    Raises:
        InputError: there is no window, or something else stands there.
    """
    if not windows:
        raise InputError(f"{out}: no windows: neither other voices nor other languages are known")
    wavs = out.with_name(f"{out.name}_wav").resolve()
    check_replaceable(wavs, WAVS)
    data = KaldiDir()
    for number, window in enumerate(tqdm(windows, desc=out.name, unit="window")):
        utt = f"{window.speaker or window.lang}-canary{number:06d}"
        path = wavs / f"{number:06d}.wav"
        save_wav(path, window.audio)
        tables = {AUDIO: sha256(path), KIND: window.kind, SET: window.of}
        data.add(utt, path, window.text, window.speaker or utt, window.lang, **tables)
    data.save(out)
    return data
