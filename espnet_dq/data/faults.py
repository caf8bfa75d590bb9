"""Why audio cannot be read, and what becomes of damage in it."""

from collections.abc import Callable
from math import inf

from espnet_dq.errors import InputError

# Causes, as those who count what is left out name it.
NO_AUDIO = "no such audio file"
EMPTY = "empty audio"
TRUNCATED = "truncated audio"
DAMAGED = "damaged audio"
UNREADABLE = "unreadable audio"
NOT_NUMBERS = "samples that are not numbers"
NO_SCALE = "samples far beyond full scale"
LOW_RATE = "a sampling rate below 4 kHz"
CRASH = "audio that ended its reader"


class AudioFault(InputError):
    """Audio that cannot be read: the line says which and why, `cause` is one of those above."""

    def __init__(self, line: str, cause: str = UNREADABLE):
        super().__init__(line)
        self.cause = cause


class Report:
    """What becomes of damage: it is told to somebody, or else it is a fault.

    `before` are the seconds before the recording that is read, `holes` those that a hole in it has
    at least to be told of, and `told` is how many spots were. A decoder fills in `least`, the
    seconds that the recording has at least by its header; 0: that does not tell. Damage lies
    between `first` and `last`, in seconds of what is decoded.
    """

    def __init__(self, damage: Callable[[str], None] | None = None) -> None:
        self.damage = damage
        self.before = self.holes = self.least = 0.0
        self.told = 0
        self.first, self.last = inf, -inf

    def __call__(self, line: str, start: float, end: float, cause: str = DAMAGED) -> None:
        """Tell of a spot between two times, or raise an `AudioFault` of it.

        `start` is infinite for the end of all sound, `end` where nothing behind is at its time.
        """
        if self.damage is None:
            raise AudioFault(line, cause)
        self.touch(start, end)
        self.told += 1
        self.damage(line)

    def touch(self, start: float, end: float) -> None:
        """Take in what lies between two times, too."""
        self.first, self.last = min(self.first, start), max(self.last, end)
