"""Read what an experiment left behind and sum it up as results.json.

EXPDIR holds run.json, decode/NAME/{decode.json,score/score.json} for each system, and, where
those stages ran, data/canary and canary/NAME/, merge.json, {kd,qat}/train.log, verify.json and
benchmark.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_dq.config import TRAININGS, read_config
from espnet_dq.decode.benchmark import read_systems
from espnet_dq.errors import InputError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats import detect
from espnet_dq.reading import read_json
from espnet_dq.report import canary, examples, rounded, train_log
from espnet_dq.report.origin import data_of
from espnet_dq.report.roles import ROLES
from espnet_dq.report.size import FLOAT_BITS, grid_bits, paper_rule_bytes
from espnet_dq.report.train_log import TrainLog
from espnet_dq.student.checkpoint import load_student

KNOWN = (*ROLES, rounded.ROLE)
RATES = tuple(
    f"{rate}{form}" for form in ("", "_openai", "_long", "_unnormalised") for rate in ("wer", "cer")
)


# Of run.json and of its systems, of decode.json, score.json and benchmark.json: what is shown.
_RUN = ("corpus", "sources", "teacher", "student", "seed", "commit", "date", "command", "config",
        "data", "data_report", "format_report", "systems")  # fmt: skip
_SYSTEM = ("role", "grid", "grids", "preset")
_DECODE = ("rtf", "peak_rss_bytes", "failed", "token_limit", "options")
_BENCHMARK = ("date", "clips", "rounds", "threads", "audio_seconds", "systems")
_TIMED = ("rtf", "peak_rss_bytes", "first_word_seconds")
# How texts were compared, in score.json: the same of all systems, else their rates do not compare.
COMPARED = ("normalizer", "normalizer_openai", "long", "rates")
_SCORE = (*RATES, *COMPARED, "unit", "counts", "table", "tool", "missing")


@dataclass
class Experiment:
    """All that the report shows; None or empty where a stage did not run."""

    path: Path
    results: dict  # the content of results.json
    run: dict  # run.json
    decodes: dict[str, dict]  # decode.json by system
    scores: dict[str, dict]  # score.json by system
    logs: dict[str, TrainLog]  # by training stage
    verify: dict | None
    benchmark: dict | None
    data: dict | None  # the data preparation's report.json
    formatted: dict | None  # the format stage's format.json
    heard: dict | None  # data/train.minutes.json: of each language, given and in windows
    plan: dict | None  # plan.json: of each training, how long
    doubts: dict | None  # doubts.json: of each language that the teacher does not hear, a line

    @property
    def score(self) -> dict:
        """A system's score.json, for what all have in common: `COMPARED`."""
        return next(iter(self.scores.values()))


def _optional(path: Path) -> dict | None:
    return read_json(path) if path.exists() else None


def _need(source: Path, value: dict, *keys: str) -> None:
    for key in keys:
        if key not in value:
            raise InputError(f"{source}: no key '{key}'")


def read_run(exp: Path) -> dict:
    """The run.json of an experiment, as `bin.describe` writes it.

    Raises:
        InputError: it is missing or broken, has not all keys, or names an unknown role.
    """
    source = exp / "run.json"
    run = read_json(source)
    _need(source, run, *_RUN)
    read_systems(source)
    for system in run["systems"]:
        _need(source, system, *_SYSTEM)
        if system["role"] not in KNOWN:
            said = f"{system['name']}: role '{system['role']}'"
            raise InputError(f"{source}: {said} is none of {KNOWN}")
    return run


def load(exp: Path, data_name: str | None = None, data_licence: str | None = None) -> Experiment:
    """Read an experiment folder.

    Args:
        exp: the folder.
        data_name, data_licence: of the data, in the place of what run.json says of them.

    Raises:
        InputError: a needed file is missing or broken, or names a system, a role, a grid or a
            model that is not there; or the systems' texts were not compared in the same way.
    """
    run, decodes, scores = read_run(exp), {}, {}
    for name in (system["name"] for system in run["systems"]):
        folder = exp / "decode" / name
        decodes[name] = read_json(folder / "decode.json")
        _need(folder / "decode.json", decodes[name], *_DECODE)
        scores[name] = read_json(folder / "score" / "score.json")
        _need(folder / "score" / "score.json", scores[name], *_SCORE)
    _check_alike({exp / "decode" / name / "score/score.json": s for name, s in scores.items()})
    verify = _optional(exp / "verify.json")
    if verify is not None:
        totals = ("tensors", "mismatched", "grid_bytes", "float_bytes")
        _need(exp / "verify.json", verify, *totals, "bytes_on_disk", "paper_rule_bytes", "rows")
    benchmark = _optional(exp / "benchmark.json")
    if benchmark is not None:
        _need(exp / "benchmark.json", benchmark, *_BENCHMARK)
        for timed in benchmark["systems"].values():
            _need(exp / "benchmark.json", timed, *_TIMED)
    formatted = _optional(Path(run["format_report"]))
    results = _results(run, decodes, scores, verify, benchmark)
    results |= data_of(run, data_name, data_licence)
    results["voices"] = (formatted or {}).get("voices")
    results["canary"] = canary.read(exp)
    results["merge"] = _optional(exp / "merge.json")
    failed = {name: decode["failed"] for name, decode in decodes.items()}
    folders = {name: exp / "decode" / name / "score" for name in scores}
    results = examples.add(results, folders, failed)
    return Experiment(
        path=exp,
        results=results,
        run=run,
        decodes=decodes,
        scores=scores,
        logs={
            stage: train_log.read(exp / stage / "train.log", _accum_grad(exp / stage))
            for stage in TRAININGS
            if (exp / stage / "train.log").exists()
        },
        verify=verify,
        benchmark=benchmark,
        data=_optional(Path(run["data_report"])),
        formatted=formatted,
        heard=_optional(exp / "data/train.minutes.json"),
        plan=_optional(exp / "plan.json"),
        doubts=_optional(exp / "doubts.json"),
    )


def _check_alike(scores: Mapping[Path, Mapping]) -> None:
    """Raises `InputError` unless all were scored in the same way, each language in one unit."""
    (first, one), *others = scores.items()
    units: dict[str, str] = dict(one["unit"])
    for path, other in others:
        differing = [key for key in COMPARED if one[key] != other[key]]
        if any(units.setdefault(lang, unit) != unit for lang, unit in other["unit"].items()):
            differing.append("unit")
        if differing:
            raise InputError(
                f"{path}: '{differing[0]}' is not that of {first}: score both again (stage 10)"
            )


def _accum_grad(stage: Path) -> int:
    """Batches a step, of ESPnet's own record of a training."""
    config = stage / "config.yaml"
    if not config.is_file():
        return 1
    return read_config(config).get("accum_grad", 1)


def _results(
    run: dict, decodes: dict, scores: dict, verify: dict | None, benchmark: dict | None
) -> dict:
    timed = (benchmark or {"systems": {}})["systems"]
    parity = None
    if verify is not None:
        parity = {key: verify[key] for key in ("tensors", "mismatched")}
    return {
        **{key: run[key] for key in ("corpus", "seed", "commit", "date")},
        "systems": [
            _system(s, run, decodes[s["name"]], scores[s["name"]], timed.get(s["name"]))
            for s in run["systems"]
        ],
        "parity": parity,
        "benchmark": benchmark,
    }


def _system(system: dict, run: dict, decode: dict, score: dict, timed: dict | None) -> dict:
    """One system of results.json; times from the side-by-side run where there is one."""
    path = Path(system["path"])
    preset, bits = None, FLOAT_BITS
    if system["grid"] != "none":
        preset = system["preset"]
        bits = grid_bits(system["grids"] if system["grid"] == "mixed" else system["grid"])
    trained = path.suffix == ".pth"  # decoded as it was trained
    model = load_student(path.parent, path.name) if trained else detect.load(path)
    shapes = {name: tuple(t.shape) for name, t in model.state.items()}
    return {
        **{key: system[key] for key in ("name", "role", "runtime", "grid")},
        **{key: system[key] for key in ("by_clips",) if key in system},  # of `--also`
        "preset": preset,
        "bytes_on_disk": bytes_on_disk(path),
        "paper_rule_bytes": paper_rule_bytes(shapes, preset, bits),
        "rtf": timed["rtf"]["median"] if timed else decode["rtf"],
        "peak_rss_bytes": (timed or decode)["peak_rss_bytes"],
        "measured": "benchmark" if timed else "decode",
        **{name: score[name] for name in (*RATES, "unit")},
        "utterances": sum(c["utterances"] for c in score["counts"].values()),
        "path": system["path"],
        "data": run["data"],
    }
