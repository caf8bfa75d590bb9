"""Whether the voices that are scored were trained on: rates of seen voices hold for these alone."""

from dataclasses import dataclass

from espnet_dq.data.kaldi import KaldiDir

SEEN, OTHER, SOME, UNKNOWN = "seen voices", "other voices", "some seen voices", "voices not known"


@dataclass(frozen=True)
class Voices:
    """Speakers of train and of test, and how many of test's are in train, too.

    An utterance whose speaker has its own name has a speaker that nobody knows.
    """

    train: int
    test: int
    seen: int
    known: bool

    @classmethod
    def of(cls, train: KaldiDir, test: KaldiDir) -> "Voices":
        """Those of two splits."""
        learned, scored = set(train.utt2spk.values()), set(test.utt2spk.values())
        known = not any(
            speaker == utt for data in (train, test) for utt, speaker in data.utt2spk.items()
        )
        return cls(len(learned), len(scored), len(learned & scored), known)

    @property
    def label(self) -> str:
        """Two or three words, to stand beside a rate."""
        if self.seen == self.test:
            return SEEN
        if not self.known:
            return UNKNOWN
        return SOME if self.seen else OTHER

    def __str__(self) -> str:
        if self.label == UNKNOWN:
            return (
                "speakers are not known: if those of test are in train, too, rates hold for these "
                "voices alone"
            )
        one = "; train has one speaker, whose voice the student learns" if self.train == 1 else ""
        if not self.seen:
            return f"no speaker of test speaks in train: rates are of other voices{one}"
        if self.seen < self.test:
            return f"{self.seen} of {self.test} speakers of test speak in train, too{one}"
        all_speak = f"all {self.test} speakers of test speak"
        if self.test == 1:
            all_speak = "the one speaker of test speaks"
        return f"{all_speak} in train, too: rates are of seen voices, not of others{one}"
