"""Lists that dq.sh gets beside the options: what it goes through, and words of its commands."""

import shlex
from collections.abc import Mapping

from espnet_dq.errors import InputError
from espnet_dq.recipe.systems import entries

# The stages whose results one goes on with. Each stage takes the markers of all later ones.
NEEDS = {2: (1,), 3: (2,), 4: (2,), 5: (2,), 6: (3, 4, 5), 7: (3, 4, 5, 6), 8: (7,), 9: (8,),
         10: (9,), 11: (9,), 12: (10,), 13: (8,)}  # fmt: skip


def lists(o: Mapping[str, str]) -> dict[str, list[str]]:
    """Each list's words by its name, of options as `settle` gives them.

    One with the name of a command, as `format_data`, has words of its command line.
    """
    systems, also = o["systems"].split(), grids(o["also"])
    found = {"systems": systems, "also": also, "needs": _needs(o)}
    found["scored"] = [*entries(systems, o["grid"], also)]
    found["configs"] = [o["train_config"], o["qat_config"]][: 1 if o["mode"] == "joint" else 2]
    found["own_sets"] = [f"own={o['canary']}"] * bool(o["canary_content"])
    # debian13 is trained on the other set.
    stamps = ["tuxpaint_others", *["tuxpaint"] * (o["corpus"] != "debian13")]
    found["stamp_sets"] = [f"{name}={o['stamps']}/parts/{name}" for name in stamps]
    # What the user says of the data, in the place of what their corpus does.
    about = [name for name in ("data_name", "data_licence") if o[name]]
    found["about_data"] = [f"--{name}={o[name]}" for name in about]  # may begin with a dash
    lengths = [name for name in ("steps", "epochs", "qat_steps") if o[name]]
    found["lengths"] = [word for name in lengths for word in (f"--{name}", o[name])]
    found["make_data"] = _make_data(o)
    found["format_data"] = _format_data(o)
    found["describe"] = [
        "--exp", o["exp"], "--corpus", o["corpus"], "--seed", o["seed"], "--data", o["test"],
        f"--teacher_name={o['teacher_shown']}", f"--student_name={o['student_shown']}",
        "--config", o["config_names"], "--prepared", o["data"], "--formatted", o["raw"],
        "--systems", *systems, "--also", *also,
    ]  # fmt: skip
    return found


def _make_data(o: Mapping[str, str]) -> list[str]:
    root = ["--data_root", o["data_root"]] if o["data_root"] else []
    return [
        "--out", o["data"], "--apart", o["dumpdir"], "--apart", o["expdir"], "--",
        "local/data.sh", "--corpus", o["corpus"], "--downloads", "downloads", *root,
        *split_words(o["local_data_opts"]), *_pipes(o),
    ]  # fmt: skip


def _format_data(o: Mapping[str, str]) -> list[str]:
    words = ["--data", o["data"], "--out", o["raw"], "--max_left_out", o["max_left_out"]]
    words += ["--allow_shared_text"] if o["data_root"] else []
    words += [w for w in split_words(o["local_data_opts"]) if w == "--untranscribed"]
    words += ["--long", "split", "--aligner", o["teacher_pt"]] if o["long"] == "split" else []
    return words + _pipes(o)


def _pipes(o: Mapping[str, str]) -> list[str]:
    return ["--allow_pipes"] if o["allow_pipes"] == "true" else []


def _needs(o: Mapping[str, str]) -> list[str]:
    """For each stage from 0 on those of `NEEDS` that these options do not leave out."""
    # Without trainings stage 3 needs no windows.
    left_out = {"skip_data": {1, 2}, "skip_teacher_pass": {4}, "skip_train": {2, 4, 5, 6, 7}}
    out = {6} if o["mode"] == "joint" else set()
    out = out.union(*(stages for option, stages in left_out.items() if o[option] == "true"))
    needs = [[n for n in NEEDS.get(stage, ()) if n not in out] for stage in range(14)]
    return [" ".join(map(str, before)) for before in needs]


def grids(also: str) -> list[str]:
    """Those of `--also`."""
    return [grid.strip() for grid in also.split(",")] if also else []


def split_words(text: str) -> list[str]:
    """Those of --local_data_opts, as a shell would read them; raises `InputError`."""
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise InputError(f"--local_data_opts: {e}") from e
    if any("\n" in word for word in words):
        raise InputError("--local_data_opts: a word of several lines")
    return words
