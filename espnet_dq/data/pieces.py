"""Long audio in pieces that fit Whisper's window, cut where nobody speaks.

A cut belongs into a pause: half a word on each side of it would be heard wrongly or twice.
Within a word there are gaps, too, but none of `PAUSE`, so the quietest stretch of that length
is looked for, by its loudness alone: nothing is taken for silence and thrown away.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE

FRAME = SAMPLE_RATE // 50  # samples
PAUSE = 15  # frames, 0.3 s
LEAD = 25  # frames: with half a `PAUSE` what of a long pause is left before speech
AS_QUIET = 2.0  # within 3 dB
SILENT = 1e-6  # -60 dB of full scale: no pause has to be more quiet


def pieces(blocks: Iterable[np.ndarray], longest: float) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a stream of audio; one after the other the pieces are the whole of it.

    Args:
        blocks: Consecutive (samples,) float32 at 16 kHz, as of `read_audio`.
        longest: Seconds that a piece has at most. Audio of that length is not cut; else a piece
            has at least half of it, and the last one a quarter.

    Yields:
        How many samples lie before the piece, and its samples. At most 1.5 `longest` and a block
        are held at a time.
    """
    limit = round(longest * SAMPLE_RATE)
    start, held = 0, np.zeros(0, np.float32)

    def cut(more: int) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal start, held
        while len(held) > limit + more:
            at = quietest(held, limit // 2, min(limit, len(held) - limit // 4))
            yield start, held[:at]
            start, held = start + at, held[at:]

    for block in blocks:
        held = np.concatenate([held, block])
        yield from cut(limit // 2)  # what is held longer than that leaves no tiny rest at the end
    yield from cut(0)
    if len(held):
        yield start, held


def quietest(audio: np.ndarray, first: int, last: int) -> int:
    """Where to cut between the samples `first` and `last`: in the last good pause.

    Good is a pause that is as quiet as the quietest one. Of a long one most goes to what is before
    it: a window that begins with much silence makes models say what nobody said.
    """
    frames = audio[first:last][: (last - first) // FRAME * FRAME].reshape(-1, FRAME)
    loudness = frames.var(axis=1)  # of the alternating part: some recordings have an offset
    stretches = np.convolve(loudness, np.full(min(PAUSE, len(frames)), 1 / PAUSE), "valid")
    good = np.flatnonzero(stretches <= max(AS_QUIET * stretches.min(), SILENT))
    run = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1)[-1]
    middle = run[-1] - min(len(run) // 2, LEAD) + min(PAUSE, len(frames)) / 2
    return first + round(middle * FRAME)
