"""What a model says of audio, and how much of it is wrong."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_dq.config import check_whole
from espnet_dq.data.languages import known_language
from espnet_dq.decode.transcribe import BEAM, SURE
from espnet_dq.decode.transcribe import transcribe as segments
from espnet_dq.errors import PATH, InputError, check_kind
from espnet_dq.runtimes import Segment, load_runtime
from espnet_dq.runtimes.interface import check_times

if TYPE_CHECKING:
    from espnet_dq.runtimes import Runtime


def transcribe(
    audio: str | Path,
    model: "str | Path | Runtime",
    language: str | None = None,
    timestamps: bool = False,
    runtime: str | None = None,
    damage: Callable[[str], None] | None = None,
    beam_size: int = BEAM,
    threads: int = 0,
    context: str = "auto",
    task: str = "transcribe",
    words: bool = False,
    prompt: str = "",
    channel: int | None = None,
    vad: bool = False,
    guard: bool = True,
) -> Iterator[Segment]:
    """What is said in an audio file of any kind and length, segment by segment, as it comes.

    Args:
        audio: wav, flac, mp3, ogg, ...
        model: what `save` wrote, an experiment, a name as of `load`, or, to load it once for many
            files, what `espnet_dq.runtimes.load_runtime` returns; then `runtime`, `beam_size`,
            `threads`, `context`, `task`, `words` and `prompt` are those that it was loaded with.
        language: Whisper's code or a name; None: detected, and logged.
        timestamps: cut by the model's own timestamps; otherwise a segment is what is heard at a
            time, up to 30 s.
        runtime: `torch`, `faster-whisper`, `whisper.cpp`, `transformers`, `onnx`; None: what the
            model's format needs.
        damage: takes a line for each damaged spot of the file, which is passed over; None: damage
            is an error.
        beam_size: 1 is greedy, and the fastest.
        threads: CPU threads; 0 takes every core, or as many as `OMP_NUM_THREADS` says.
        context: what the encoder hears at a time, see `load_runtime`.
        task: `transcribe`, or `translate` into English.
        words: with times and probabilities of words (faster-whisper, torch).
        prompt: names, and how they are spelled (not in transformers).
        channel: the only one that is heard, from 0; None: the mean of all.
        vad: whether to look for speech first: pieces without any say nothing, others are heard from
            the first speech to the last.
        guard: whether what cannot have been said is tried again or cut (docs/data.md).

    Returns:
        Segments with `start` and `end` in seconds, `text`, its `language`, and `words` if asked
        for; none where there is no sound.

    Raises:
        InputError: a model that cannot be read or an unknown language; of the audio while
            iterating.

    Example usage::

        for segment in transcribe("talk.mp3", model="tiny_q4.bin", language="it"):
            print(segment.start, segment.text)
    """
    check_kind("audio", audio, PATH, "the path of an audio file")
    if isinstance(model, str | Path):
        model = load_runtime(
            runtime,
            model,
            threads,
            1,
            beam_size,
            context=context,
            task=task,
            words=words,
            prompt=prompt,
        )
    elif not hasattr(model, "languages"):
        raise InputError(
            f"model: a {type(model).__name__} is neither a path nor a runtime: save it first, or "
            "load it with espnet_dq.runtimes.load_runtime"
        )
    if channel is not None:
        check_whole("channel", channel, 0)
    code = None if language is None else known_language(language, model.languages)
    if timestamps:
        check_times(model)

    def detected(language: str | None, probability: float) -> None:
        level = logging.INFO if probability >= SURE else logging.WARNING
        logging.log(level, "%s: language %s (probability %.2f)", audio, language, probability)

    found = segments(model, audio, code, timestamps, damage, detected, channel, vad, guard)
    return (segment for segment in found if segment.text)


def score(
    ref: str | Path | Iterable[str],
    hyp: str | Path | Iterable[str],
    language: str | None = None,
    out: str | Path | None = None,
) -> dict:
    """Word and character error rates of transcripts, in percent, by language.

    Both sides are compared by their spelling (docs/scoring.md).

    Args:
        ref: a Kaldi folder with `text` and `utt2lang`, or a list of texts.
        hyp: a decode folder with `text`, or as many texts.
        language: of lists, and of them alone: Whisper's code.
        out: of folders: also write tables (sclite's where it is installed) to this folder.

    Returns:
        `wer`, `cer` and their variants: {language: rate, "mean": rate}; `counts` and `unit` by
        language; as `score.json` holds them if `out` is given.

    Raises:
        InputError: folders that do not fit each other, lists of two lengths, nothing to score.

    Example usage::

        score(["guten Tag"], ["guten Abend"], language="de")["wer"]["mean"]  # 50.0
    """
    from espnet_dq.scoring import sclite
    from espnet_dq.scoring.score import pair_texts, rates, read_texts
    from espnet_dq.scoring.score import score as write_score

    for key, side in (("ref", ref), ("hyp", hyp)):
        check_kind(key, side, PATH | Iterable, "a folder or a list of texts")
    check_kind("out", out, PATH | None, "a path")
    if isinstance(ref, str | Path) != isinstance(hyp, str | Path):
        raise InputError("ref and hyp: two folders, or two lists of texts")
    for side in (ref, hyp):
        if isinstance(side, Mapping):
            raise InputError("ref and hyp: texts go in lists, in one order")
    if isinstance(ref, str | Path):
        if language is not None:
            raise InputError(
                "language: for texts, which go in lists; of a folder, utt2lang says it"
            )
        if out is not None:
            return write_score(Path(ref), Path(hyp), Path(out), sclite.find())
        return rates(read_texts(Path(ref), Path(hyp)))
    if language is None:
        raise InputError("language is missing: lists of texts do not say it")
    if out is not None:
        raise InputError("out: for folders")
    return rates(pair_texts(list(ref), list(hyp), known_language(language)))
