"""From a corpus's clips and transcripts to a checked Kaldi folder, before it is split.

A corpus script lists its `Clip`s; `prepare` leaves out what is no usable speech, decodes the
rest to 16 kHz WAV, and writes one folder with `utt2prompt` and `utt2dur` beside the usual
files and the counts of what was left out in `left_out.json`.
"""

import json
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.audio import SAMPLE_RATE, content_mark, longer, to_wav
from espnet_dq.data.faults import CRASH, AudioFault
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.parallel import DIED, parallel_map
from espnet_dq.data.spelling import letters, normalise
from espnet_dq.data.summary import SOURCES, Source, write_sources
from espnet_dq.data.unfit import NOT_SPEECH
from espnet_dq.errors import WorkError, one_line
from espnet_dq.files import write_text
from espnet_dq.values import a_path, count

MAX_SECONDS = 30.0  # one window of Whisper
# Seconds per letter of normalised text. Fast readers come near 0.055 and a single letter, read
# out, takes up to 1.3; beyond these bounds the text is of something else.
FASTEST, SLOWEST = 0.045, 2.5
EMPTY_TEXT = "empty text"


@dataclass(frozen=True)
class Clip:
    """One entry of a corpus: where it is, what is said, and by whom."""

    lang: str  # Whisper's code
    prompt: str  # name of the sentence, the same in all languages; decides the split
    speaker: str  # begins with the corpus, for example `asterisk_en_US_f_Allison`
    audio: Path
    text: str  # as written
    speaker_known: bool = True  # else `speaker` names the corpus and language alone

    @property
    def utt(self) -> str:
        """Utterance id: speaker first, as Kaldi wants it, and safe characters only."""
        return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self.speaker}-{self.prompt}")


def parser(doc: str | None) -> ArgumentParser:
    """The options of a script that makes a published corpus's parts."""
    found = ArgumentParser(description=doc)
    found.add_argument("--out", type=a_path, default=Path("data"), help="data folder")
    found.add_argument("--downloads", type=a_path, default=Path("downloads"), help="kept packages")
    found.add_argument("--nj", type=count, default=1, help="processes that decode")
    return found


def text_fault(text: str, lang: str) -> str | None:
    """Why a transcript is no transcript of speech, or None.

    Remarks on what is no speech stand in brackets, which are not compared: a text of which nothing
    remains is not speech (`(ahooga)`, `<beep ascending>`).
    """
    if not text.strip():
        return EMPTY_TEXT
    return None if normalise(text, lang) else NOT_SPEECH


def audio_fault(seconds: float, text: str, lang: str) -> str | None:
    """Why a clip of this length is not taken with this text, or None."""
    if seconds > MAX_SECONDS:
        return longer(MAX_SECONDS)
    rate = seconds / letters(text, lang)
    return None if FASTEST <= rate <= SLOWEST else "text does not fit the length of the audio"


def _decode(job: tuple[Path, Path]) -> tuple[Path, float] | tuple[str, str]:
    """The decoded clip and its seconds, or cause and file of why not; runs in a worker."""
    source, stem = job
    try:
        wav = stem.with_name(f"{stem.name}.{content_mark(source)}.wav")
        return wav, to_wav(source, wav) / SAMPLE_RATE
    except AudioFault as e:
        return e.cause, str(e)


def _died(job: tuple[Path, Path]) -> tuple[str, str]:
    return CRASH, f"{job[0]}: {DIED}"


def prepare(
    name: str,
    clips: Iterable[Clip],
    left_out: dict[str, Counter[str]],
    out: Path,
    nj: int = 1,
    source: Source | None = None,
) -> None:
    """Write `out/parts/NAME`, a Kaldi folder of the usable clips, and their WAV files.

    Args:
        name: The corpus.
        clips: Its entries that have both text and audio.
        left_out: Language -> reason -> count of entries without text or audio; `prepare` adds
            its own reasons.
        out: The data folder; audio goes to `out/wav/LANG/PROMPT.CONTENT.wav`, where finished
            files of an earlier run are used again if their source is as it was.
        nj: Processes that decode.
        source: The corpus's full name and licence.

    Raises:
        WorkError: Two clips have one id, or nothing usable is left.
    """
    out = out.resolve()
    good = []
    for clip in clips:
        fault = text_fault(clip.text, clip.lang)
        if fault:
            left_out.setdefault(clip.lang, Counter())[fault] += 1
        else:
            good.append(clip)
    jobs = [(clip.audio, out / "wav" / clip.lang / clip.prompt) for clip in good]
    decoded = parallel_map(_decode, jobs, len(jobs), nj, "decode", _died)
    data = KaldiDir()
    for clip, (wav, seconds) in zip(good, decoded, strict=True):
        if isinstance(wav, str):
            fault = wav
            tqdm.write(one_line(f"{name}: left out: {seconds}"))
        else:
            fault = audio_fault(seconds, clip.text, clip.lang)
        if fault:
            left_out.setdefault(clip.lang, Counter())[fault] += 1
            continue
        if clip.utt in data.wav:
            raise WorkError(f"{name}: two clips have the id {clip.utt}")
        lengths = {"utt2prompt": clip.prompt, "utt2dur": f"{seconds:.3f}"}
        speaker = clip.speaker if clip.speaker_known else clip.utt  # Kaldi's way of not knowing
        data.add(clip.utt, wav, clip.text, speaker, clip.lang, **lengths)
    if not data.wav:
        raise WorkError(f"{name}: no usable clip")
    part = out / "parts" / name
    data.save(part)
    write_sources(part / SOURCES, [source] if source else [])
    write_text(part / "left_out.json", json.dumps(left_out, indent=1, sort_keys=True) + "\n")
