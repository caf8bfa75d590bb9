"""How the student does on what it did not train on, against the model that it started from."""

from pathlib import Path

from espnet_dq.data.audio import seconds
from espnet_dq.data.canary import NO_SPEECH
from espnet_dq.data.kaldi import KIND, SET, KaldiDir, read_scp
from espnet_dq.scoring import transfer

FIRST = "untouched"  # of the recipe's systems


def read(exp: Path) -> dict | None:
    """What results.json says of the canary, or None where none was decoded.

    `systems`: name -> `kinds`, see `transfer.compare`, and `words_a_minute`.
    """
    folder, decoded = exp / "data/canary", exp / "canary"
    names = [x.name for x in sorted(decoded.glob("*")) if (x / "decode.json").exists()]
    if FIRST not in names:
        return None
    canary = KaldiDir.load(folder, extra=[KIND, SET])
    heard = {name: transfer.heard(folder, decoded / name) for name in names}
    quiet = {
        u: seconds(canary.wav[u]) for u, kind in canary.extra[KIND].items() if kind == NO_SPEECH
    }
    return {
        "first": FIRST,
        "systems": {
            name: {
                "kinds": transfer.compare(canary, heard[name], heard[FIRST]),
                "words_a_minute": transfer.words_a_minute(
                    canary, read_scp(decoded / name / "text", empty=True), quiet
                ),
            }
            for name in names
        },
    }  # fmt: skip
