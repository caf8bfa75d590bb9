"""Parts of recordings, as Kaldi's `segments` names them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Parts are often cut with what is around them, and times are rounded: with so many seconds in
# common, or half of the later part if that is less, two are still apart.
SEAM = 0.5
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def to_seconds(text: str) -> float:
    """A time as programs write it: not `1_0` or other scripts' digits, which Python reads, too.

    Raises:
        ValueError: It is none, or not finite.
    """
    if not NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise ValueError(f"no time in seconds: {text}")
    return float(text)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording, as in a line of `segments`."""

    recording: str  # its key in wav.scp
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: where the recording ends
    channel: int | None = None  # from 0; None: the mean of all

    @classmethod
    def parse(cls, line: str) -> "Segment":
        """Read `RECORDING START END [CHANNEL]`; an END of -1 is the recording's.

        Raises:
            ValueError: It has another form, or times that make no sense.
        """
        parts = line.split()
        if len(parts) not in (3, 4):
            raise ValueError("not of the form UTTERANCE RECORDING START END [CHANNEL]")
        start, end = to_seconds(parts[1]), to_seconds(parts[2])
        if start < 0:
            raise ValueError(f"no time in seconds: {parts[1]}")
        if end != -1 and end <= start:
            raise ValueError(f"ends at {parts[2]}, before it begins ({parts[1]})")
        channel = None
        if len(parts) == 4:
            channel = {"A": 0, "B": 1}.get(parts[3])
            if channel is None and not re.fullmatch("[0-9]{1,9}", parts[3]):
                raise ValueError(f"no channel: {parts[3]}")
            channel = int(parts[3]) if channel is None else channel
        return cls(parts[0], start, None if end == -1 else end, channel)

    def __str__(self) -> str:
        """The line that `parse` reads, times to the microsecond."""
        end = -1 if self.end is None else self.end
        times = (f"{x:.6f}".rstrip("0").rstrip(".") for x in (self.start, end))
        channel = [] if self.channel is None else [str(self.channel)]
        return " ".join([self.recording, *times, *channel])


def runs(parts: Sequence[Segment]) -> list[list[int]]:
    """Which parts of one recording have sound in common, directly or through others: their places.

    No channel, the mean of all, has sound of each.
    """
    found: dict[int, list[int]] = {k: [k] for k in range(len(parts))}  # of each, the same list
    # In order of their starts, a part has most in common with the one before that ends last.
    last: dict[int | None, tuple[float, int]] = {}
    for k in sorted(range(len(parts)), key=lambda k: parts[k].start):
        part, end = parts[k], math.inf if parts[k].end is None else parts[k].end
        heard = last if part.channel is None else {part.channel, None} & last.keys()
        for channel in heard:
            until, other = last[channel]
            common = min(until, end) - part.start
            if common > min(SEAM, (end - part.start) / 2) and found[other] is not found[k]:
                found[other] += found[k]
                found |= dict.fromkeys(found[k], found[other])
        last[part.channel] = max((end, k), last.get(part.channel, (0.0, k)))
    return [run for k, run in found.items() if run[0] == k]
