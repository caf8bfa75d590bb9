"""What decides an experiment's results, and what of it a run would change.

EXPDIR/settings holds what decides the training, which an experiment's folder must not mix;
EXPDIR/scoring what decides which texts are scored, which `--stage 9` may change. Both are JSON.
"""

import json
import os
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import yaml

from espnet_dq.config import QuantConfig, read_config, read_section
from espnet_dq.errors import InputError, one_line
from espnet_dq.files import sha256
from espnet_dq.quant.table import read_grid
from espnet_dq.reading import read_json
from espnet_dq.recipe.options import deciding
from espnet_dq.task.plan import AUTO

CONTENT = ("teacher_content", "student_content")  # of files and folders
TRAINED = 7  # the last stage that trains


def training(o: Mapping[str, str]) -> dict:
    """What decides the training, of options as `settle` gives them."""
    found = {name: o[name] for name in deciding("training")}
    found["data_root"] = o["data_root"] and os.path.abspath(o["data_root"])
    for part in ("train",) if o["mode"] == "joint" else ("train", "qat"):
        text = o[f"{part}_yaml"]
        config = yaml.safe_load(text) if text else read_config(o[f"{part}_config"])
        found[f"{part}_config"] = config
        ranges = read_section(config, QuantConfig.SECTION, part).get("activation_ranges")
        if isinstance(ranges, str) and os.path.isfile(ranges):
            found[f"{part}_ranges"] = sha256(ranges)[:16]
    found |= {name: o[name] for name in CONTENT if o[name]}
    if o["merge"] == AUTO:  # by what the canary says
        found |= _canary(o)
    if os.path.isfile(o["grid"]):
        found["grids"] = read_grid(o["grid"])
    return json.loads(json.dumps(found, default=str))


def scoring(o: Mapping[str, str]) -> dict:
    """What decides the scores beside that."""
    return {name: o[name] for name in deciding("scoring")} | _canary(o)


def _canary(o: Mapping[str, str]) -> dict[str, str]:
    """Whose speech, and if it is the user's what there is of it."""
    own = {"canary_content": o["canary_content"]} if o["canary_content"] else {}
    return {"canary": o["canary"]} | own


def changes(old: Mapping, new: Mapping, of: str = "") -> Iterator[str]:
    """`KEY OLD, now NEW` for each that differs, those within a configuration by their own names."""
    for key in dict.fromkeys([*old, *new]):
        before, now = old.get(key), new.get(key)
        name = f"{of}{key}"
        if isinstance(before, dict) and isinstance(now, dict):
            yield from changes(before, now, f"{name}: " if not of else f"{name}.")
        elif before != now and not same_number(before, now):
            yield f"{name} {_shown(before)}, now {_shown(now)}"


def same_number(one: object, other: object) -> bool:
    """Whether two options' texts are one number, as 0.5 and .50, exactly: hashes look like some."""
    try:
        return isinstance(one, str) and isinstance(other, str) and Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"of {len(value)} keys"
    return "not set" if value in (None, "") else one_line(value)


def check(exp: Path, o: Mapping[str, str]) -> dict[str, str]:
    """The texts of `settings` and `scoring`, as dq.sh writes them.

    Args:
        exp: the experiment's folder, if it is there.
        o: options as `settle` gives them.

    Raises:
        InputError: it was made with others, or scored with others and not to be scored again;
            names them, and their old and new values. Or one of the two is damaged.
    """
    texts = {}
    for name, now in (("settings", training(o)), ("scoring", scoring(o))):
        texts[name] = json.dumps(now, indent=1, ensure_ascii=False)
        path = exp / name
        if not path.exists():
            continue
        try:
            old = read_json(path)
        except InputError as e:
            raise InputError(f"{e}: use --tag NAME, or remove {exp}") from e
        trained = o["stage"] == "0" and (exp / f"done/{TRAINED}").exists()
        if name == "settings" and "canary" in old and (trained or int(o["stage"]) > TRAINED):
            for key in ("canary", "canary_content"):  # by which the share was chosen, not scores'
                now.pop(key, None)
                now |= {key: old[key]} if key in old else {}
            texts[name] = json.dumps(now, indent=1, ensure_ascii=False)
        words = "; ".join(changes(old, now))
        if not words:
            texts[name] = path.read_text(encoding="utf-8").removesuffix("\n")
        elif name == "settings":
            raise InputError(
                f"{exp} was made with other settings: {words}: use --tag NAME, or remove it"
            )
        elif _keeps_scores(exp, o):
            raise InputError(
                f"{exp} was scored with other settings: {words}: --stage 9 scores again, without "
                "training"
            )
    return texts


def _keeps_scores(exp: Path, o: Mapping[str, str]) -> bool:
    """Whether a run goes on with texts that were decoded before."""
    stage, last = int(o["stage"]), int(o["stop_stage"])
    decoded = stage > 9 or (stage == 0 and (exp / "done/9").exists())
    return decoded and stage <= 12 and last > 9 and o["skip_eval"] == "false"
