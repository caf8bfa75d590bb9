"""How the student does on what it did not train on, against the model that it started from."""

from pathlib import Path

from espnet_dq.data.audio import seconds
from espnet_dq.data.canary import NO_SPEECH
from espnet_dq.data.kaldi import KIND, SET, KaldiDir, read_scp
from espnet_dq.reading import read_json
from espnet_dq.scoring import transfer

FIRST = "untouched"  # of the recipe's systems


def heard_of(decoded: Path) -> dict[str, str]:
    """Texts of a decode folder without the clips that failed: nobody listened to these."""
    failed = read_json(decoded / "decode.json")["failed"]
    texts = read_scp(decoded / "text", empty=True)
    return {utt: text for utt, text in texts.items() if utt not in failed}


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
                    canary, heard_of(decoded / name), quiet
                ),
            }
            for name in names
        },
    }  # fmt: skip
