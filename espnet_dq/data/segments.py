"""Parts of recordings, as Kaldi's `segments` names them."""

import math
from dataclasses import dataclass


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
        start, end = float(parts[1]), float(parts[2])
        if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
            raise ValueError(f"no time in seconds: {parts[1]} {parts[2]}")
        if end != -1 and end <= start:
            raise ValueError(f"ends at {parts[2]}, before it begins ({parts[1]})")
        channel = None
        if len(parts) == 4:
            channel = {"A": 0, "B": 1}.get(parts[3])
            if channel is None and not parts[3].isdecimal():
                raise ValueError(f"no channel: {parts[3]}")
            channel = int(parts[3]) if channel is None else channel
        return cls(parts[0], start, None if end == -1 else end, channel)

    def __str__(self) -> str:
        """The line that `parse` reads, times to the microsecond."""
        end = -1 if self.end is None else self.end
        times = (f"{x:.6f}".rstrip("0").rstrip(".") for x in (self.start, end))
        channel = [] if self.channel is None else [str(self.channel)]
        return " ".join([self.recording, *times, *channel])
