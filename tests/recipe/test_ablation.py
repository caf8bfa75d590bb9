"""The ablation runner on a made-up recipe: what it runs, resumes, records and refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import ablation
import ablation_plan
from espnet_dq.errors import InputError, WorkError

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs2/dq_whisper/asr1"

# Like dq.sh from outside: a finished stage is skipped. `rates` beside it holds TAG WER; a run
# without a rate fails. A run whose rate is followed by `wait` trains until the file `go` is there.
RUN_SH = """#!/usr/bin/env bash
set -euo pipefail
here=$(dirname "$0")
if [ "$1" = --help ]; then exec "RECIPE/run.sh" --help; fi
declare -A o=([grid]=ct2_int8 [stage]=0)
while [ $# -gt 0 ]; do o[${1#--}]=$2; shift 2; done
[ "${o[grid]}" != int3 ] || { echo "dq.sh: --grid int3: unknown grid" >&2; exit 2; }
[ "${o[stop_stage]}" -gt 0 ] || exit 0
exp=${o[expdir]}/made_up_${o[tag]}
mkdir -p "$exp/done"
if [ "${o[stop_stage]}" = 5 ]; then echo "${o[tag]}" >> "$here/prepared"; fi
if [ "${o[stage]}" = 0 ] && [ "${o[stop_stage]}" -gt 5 ] && [ ! -e "$exp/done/6" ]; then
    echo "${o[tag]}" >> "$here/trained"
    env -u OMP_NUM_THREADS nproc >> "$here/cores"
    echo "12:00:00 (dq.sh:1) stage 6: distil (kd)"
    read -r _ wer wait < <(grep "^${o[tag]} " "$here/rates") || { echo "no rate" >&2; exit 1; }
    echo $BASHPID >> "$here/pid"
    until [ "$wait" != wait ] || [ -e "$here/go" ] || [ "$SECONDS" -gt 300 ]; do sleep 0.05; done
    grep -h matching: "${o[train_config]}" "${o[qat_config]}" > "$exp/matching"
    counts='{"en": {"utterances": 3}, "ru": {"utterances": 4}}'
    systems=
    for name in untouched teacher float_student student student_torch; do
        mkdir -p "$exp/decode/$name/score"
        echo "{\\"counts\\": $counts}" > "$exp/decode/$name/score/score.json"
        r="{\\"en\\": $wer, \\"ru\\": 40, \\"mean\\": 0}"
        systems+=", {\\"name\\": \\"$name\\", \\"grid\\": \\"g\\""
        for rate in wer cer wer_openai cer_openai; do systems+=", \\"$rate\\": $r"; done
        systems+="}"
    done
    echo "{\\"date\\": \\"d\\", \\"commit\\": \\"c\\", \\"systems\\": [${systems:2}]}" > "$exp/made"
    echo 1800 > "$exp/done/6"
fi
if [ "${o[stage]}" = 12 ]; then cp "$exp/made" "$exp/results.json"; fi
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    """A recipe that trains nothing; the trainer is not asked about configurations."""
    folder = tmp_path / "recipe"
    (folder / "conf").mkdir(parents=True)
    for name in ("train", "qat", "joint"):
        (folder / f"conf/{name}.yaml").write_text((RECIPE / f"conf/{name}.yaml").read_text())
    (folder / "run.sh").write_text(RUN_SH.replace("RECIPE", str(RECIPE)))
    monkeypatch.setattr(ablation_plan, "check_config", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return folder


def plan(folder: Path, variants: dict, **more) -> Path:
    path = folder / "plan.yaml"
    text = yaml.safe_dump({"seeds": [0, 1], "variants": variants, **more}, sort_keys=False)
    path.write_text(text)
    return path


def start(path: Path, recipe: Path, *more: str) -> int:
    # What runs the tests in the background may have had this ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return ablation.main([str(path), "--recipe", str(recipe), *more])


def rates(recipe: Path, **each: str) -> None:
    (recipe / "rates").write_text("".join(f"{tag} {wer}\n" for tag, wer in each.items()))


def results(recipe: Path) -> list[dict]:
    path = recipe / "exp/ablations/plan/results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


A_AND_B = {"a": None, "b": {"overrides": {"model_conf": {"matching": "static"}}}}


@pytest.mark.slow
def test_from_plan_to_table(tmp_path, recipe, capsys):
    path = plan(tmp_path, A_AND_B, qat_overrides={"max_epoch": 3}, options={"singles": 5})
    rates(recipe, a_seed0="20", a_seed1="21", b_seed0="24.1", b_seed1="25")
    assert start(path, recipe, "--dry_run") == 0
    said = capsys.readouterr()
    assert said.out.count("run.sh --singles 5 --train_config") == 4 * 4
    assert said.err.endswith("4 of 4 runs left\n")
    assert not (recipe / "exp").exists() and not (recipe / "trained").exists()

    assert start(path, recipe) == 0
    said = capsys.readouterr()
    assert (
        "(dq.sh:1) stage 6: distil (kd)" in said.err and "3 of 4 runs left, about 1.5 h" in said.err
    )
    assert trained(recipe) == ["a_seed0", "b_seed0", "a_seed1", "b_seed1"]
    (exp,) = (recipe / "exp/ablations/plan").glob("b-*/seed1/made_up_b_seed1")
    assert (exp / "matching").read_text().split() == ["matching:", "static"] * 2
    train, qat = (yaml.safe_load((exp.parents[1] / f"{n}_config.yaml").read_text())
                  for n in ("train", "qat"))  # fmt: skip
    base = yaml.safe_load((RECIPE / "conf/train.yaml").read_text())
    base["model_conf"]["matching"] = "static"
    assert train == base and qat["max_epoch"] == 3

    lines = results(recipe)
    assert len(lines) == 4 + 4 * 2 * 2  # untouched and teacher once, two systems, two languages
    line = dict(lines[-2])
    command = line.pop("command")
    assert command.startswith("bash recipe/run.sh --singles 5") and str(tmp_path) not in command
    assert len(line.pop("settings")) == 8
    assert line == {
        "ablation": "plan", "variant": "b", "student": "tiny", "teacher": "base", "seed": 1,
        "system": "quantized", "corpus": "asterisk", "grid": "g", "lang": "en", "wer": 25,
        "cer": 25, "wer_openai": 25, "cer_openai": 25, "utterances": 3, "train_hours": 0.5,
        "hours": 0.5, "date": "d", "commit": "c",
    }  # fmt: skip
    table = (recipe / "exp/ablations/plan/RESULTS.md").read_text()
    assert (
        "4 of 4 runs have ended" in table and "|untouched tiny (asterisk)||30.0|20.0|40.0|" in table
    )
    assert "|a|2|30.2 ± 0.4 (30.0 to 30.5)|20.5 ± 0.7 (20.0 to 21.0)|40.0 ± 0.0" in table
    assert "a is below b by 2.02" in table

    assert start(path, recipe) == 0  # nothing is left
    assert len(trained(recipe)) == 4 and results(recipe) == lines
    # Another setting makes another variant of it, whose runs are missing; a third seed adds one.
    path = plan(tmp_path, A_AND_B, qat_overrides={"max_epoch": 4}, options={"singles": 5})
    capsys.readouterr()
    assert start(path, recipe, "--dry_run") == 0
    assert "4 of 4 runs left, about 2.0 h" in capsys.readouterr().err


@pytest.mark.slow
def test_each_student_stands_beside_its_own_references(tmp_path, recipe):
    """Two students and two test sets: no model's rates under another's name, nor old ones."""
    variants = {"a": None, "b": {"options": {"student": "base", "teacher": "small"}}}
    rates(recipe, a_seed0="20", b_seed0="24")
    assert start(plan(tmp_path, variants, seeds=[0]), recipe) == 0
    table = (recipe / "exp/ablations/plan/RESULTS.md").read_text()
    for name, wer in (("untouched tiny", "20.0"), ("teacher base", "20.0"),
                      ("untouched base", "24.0"), ("teacher small", "24.0")):  # fmt: skip
        assert f"|{name} (asterisk)||{(float(wer) + 40) / 2:.1f}|{wer}|40.0|" in table
    rates(recipe, a_seed0="10", b_seed0="14")
    more = {"options": {"test_windows": True, "test_clips": 4}}
    assert start(plan(tmp_path, variants, seeds=[0], **more), recipe) == 0
    table = (recipe / "exp/ablations/plan/RESULTS.md").read_text()
    assert "|untouched tiny (asterisk, test_clips 4, test_windows true)||25.0|10.0|40.0|" in table
    assert "(asterisk)" not in table


@pytest.mark.slow
def test_a_failed_run_does_not_stop_the_rest(tmp_path, recipe):
    path = plan(tmp_path, A_AND_B)
    rates(recipe, a_seed0="20", b_seed0="24", b_seed1="25")
    with pytest.raises(WorkError) as error:
        start(path, recipe)
    (log,) = (recipe / "exp/ablations/plan").glob("a-*/seed1/run.log")
    log = log.relative_to(tmp_path)
    assert str(error.value) == f"1 of 4 runs failed: a, seed 1: exit code 1, log: {log}"
    assert "no rate" in log.read_text()
    table = (recipe / "exp/ablations/plan/RESULTS.md").read_text()
    assert f"failed: a, seed 1 (exit code 1, log: {log})" in table and "3 of 4 runs" in table
    rates(recipe, a_seed1="21")
    assert start(path, recipe) == 0
    assert trained(recipe) == ["a_seed0", "b_seed0", "a_seed1", "b_seed1", "a_seed1"]
    assert "failed" not in (recipe / "exp/ablations/plan/RESULTS.md").read_text()


def test_results_stay_whole(tmp_path, full_disk):
    path = tmp_path / "results.jsonl"
    ablation.add_lines(path, [{"ablation": "a"}, {"ablation": "b"}])
    with pytest.raises(OSError, match="No space left"), full_disk():
        ablation.add_lines(path, [{"ablation": "a", "command": 20000 * "x"}])
    assert ablation.read_lines(path, "a") == [{"ablation": "a"}]
    path.write_text(path.read_text() + '{"ablation": "a", "wer')
    with pytest.raises(InputError, match=f"^{path}:3: not JSON"):
        ablation.read_lines(path, "a")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 180  # a busy machine takes a minute to start a few processes
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# A process of its own, since a fork of one with threads, as torch has them, may never go on.
ALONE = """
import signal, sys
sys.path.insert(0, sys.argv.pop(1))
import ablation, ablation_plan
ablation_plan.check_config = lambda *_: None
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, ablation._interrupt)
ablation.main(sys.argv[1:])
"""


def start_alone(path: Path, recipe: Path, said: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-c", ALONE, str(ROOT / "benchmarks"), str(path)]
    with open(said, "wb") as err:
        return subprocess.Popen([*command, "--recipe", str(recipe), *more], stderr=err)


def trained(recipe: Path) -> list[str]:
    """The runs whose training has begun, in that order."""
    file = recipe / "trained"
    return file.read_text().split() if file.exists() else []


def alive(pid: int) -> bool:
    try:
        return "\tZ" not in Path(f"/proc/{pid}/status").read_text().replace(" ", "")
    except FileNotFoundError:
        return False


def pids(recipe: Path) -> list[int]:
    """The processes that train or have trained."""
    file = recipe / "pid"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_that_run(tmp_path, recipe, how):
    path = plan(tmp_path, A_AND_B | {"c": None}, seeds=[0])
    rates(recipe, a_seed0="20 wait", b_seed0="24 wait", c_seed0="28 wait")
    runner = start_alone(path, recipe, tmp_path / "said", "--jobs", "2")
    wait_for(lambda: len(pids(recipe)) == 2)
    runner.send_signal(how)
    assert runner.wait(60) != 0
    assert not any(map(alive, pids(recipe))) and len(trained(recipe)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_runs_side_by_side(tmp_path, recipe):
    """Two wait until all have begun; the third has no rate and fails, and they end all the same."""
    path = plan(tmp_path, A_AND_B | {"c": None}, seeds=[0])
    rates(recipe, a_seed0="20 wait", b_seed0="24 wait")
    runner = start_alone(path, recipe, tmp_path / "said", "--jobs", "3")
    wait_for(lambda: len(trained(recipe)) == 3)
    (recipe / "go").touch()
    assert runner.wait(60) == 1
    assert {x["variant"] for x in results(recipe) if x["seed"] is not None} == {"a", "b"}
    assert "1 of 3 runs failed: c, seed 0" in (tmp_path / "said").read_text()
    cores = list(map(int, (recipe / "cores").read_text().split()))
    assert sum(cores) == max(3, len(os.sched_getaffinity(0)))


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("interrupted", [False, True])
def test_of_those_side_by_side_one_trains(tmp_path, recipe, interrupted):
    rates(recipe, a_seed0="20 wait", b_seed0="24 wait")
    path = plan(tmp_path, A_AND_B, seeds=[0])
    runner = start_alone(path, recipe, tmp_path / "said", "--jobs", "2", "--trainings", "1")
    prepared = recipe / "prepared"
    wait_for(lambda: prepared.exists() and len(prepared.read_text().split()) == 2)
    wait_for(lambda: len(pids(recipe)) == 1)
    if interrupted:
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(60) != 0 and len(trained(recipe)) == 1
        return
    time.sleep(2)  # a training that does not wait for its turn would have begun
    assert len(trained(recipe)) == 1
    (recipe / "go").touch()
    assert runner.wait(60) == 0 and len(trained(recipe)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(tmp_path, recipe, how):
    """After SIGKILL what it ran lives on and is waited for; an interruption ends that, too."""
    path = plan(tmp_path, A_AND_B, seeds=[0])
    rates(recipe, a_seed0="20", b_seed0="24 wait")
    first = start_alone(path, recipe, tmp_path / "first")
    wait_for(lambda: "b_seed0" in trained(recipe))
    wait_for(lambda: len(pids(recipe)) == 2)
    first.send_signal(how)
    first.wait(60)
    pid = pids(recipe)[-1]
    references = {"untouched tiny (asterisk)", "teacher base (asterisk)"}
    assert {x["variant"] for x in results(recipe)} == {*references, "a"}
    assert alive(pid) == (how == signal.SIGKILL)
    second = start_alone(path, recipe, tmp_path / "second")
    if how == signal.SIGKILL:
        wait_for(lambda: "waiting for it" in (tmp_path / "second").read_text())
    (recipe / "go").touch()
    assert second.wait(60) == 0
    assert {x["variant"] for x in results(recipe)} == {*references, "a", "b"}
    assert trained(recipe) == ["a_seed0", *["b_seed0"] * (1 if how == signal.SIGKILL else 2)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seeds": []}, "seeds: a list of whole"),
        ({"seeds": [1, 1]}, "seeds: one is negative or stands twice"),
        ({"seeds": [True]}, "seeds: a list of whole"),
        ({"variants": {}}, "variants: a mapping"),
        ({"variants": {"a b": None}}, "variants.a b: no name"),
        ({"variants": {"teacher": None}}, "variants.teacher: no name"),
        ({"variants": {"a": {"option": {}}}}, "variants.a.option: unknown key"),
        ({"overides": {}}, "overides: unknown key"),
        ({"options": ["grid"]}, "options: not a mapping"),
        ({"options": {"corpsu": "debian7"}}, "options.corpsu: run.sh has no such option"),
        ({"variants": {"a": {"options": {"seed": 3}}}}, "variants.a.options.seed: is set here"),
        ({"options": {"singles": [3]}}, r"options.singles: \[3\]: a word or"),
        ({"options": {"grid": "int3"}}, "variants.a: dq.sh: --grid int3: unknown grid"),
        ({"options": {"mode": "jointly"}}, "variants.a: options.mode: jointly: kd_qat or joint"),
        ({"options": {"qat_config": "no.yaml"}}, "variants.a: options.qat_config: .*no.yaml: no"),
        ({"overrides": {"optim_conf": {"lr": "1e-5"}}}, "overrides.optim_conf.lr: '1e-5' is no"),
        ({"overrides": {"batch_size": True}}, "overrides.batch_size: True is no number"),
        (
            {"variants": {"a": {"options": {"mode": "joint"}, "qat_overrides": {"max_epoch": 1}}}},
            "variants.a.qat_overrides: mode joint has no",
        ),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(tmp_path, recipe, more, said):
    path = plan(tmp_path, {"a": None}, **more) if "variants" not in more else None
    path = path or plan(tmp_path, **more)
    with pytest.raises(InputError, match=f"^{path}: {said}"):
        start(path, recipe)
    assert not (recipe / "exp").exists() and not (recipe / "trained").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_trainer_itself_is_asked(tmp_path, save_toy):
    """Keys deep in a configuration are judged by the classes that would get them."""
    toy = str(save_toy())
    path = plan(
        tmp_path,
        {"good": None, "bad": {"train_overrides": {"model_conf": {"matchin": "static"}}}},
        options={"student": toy, "teacher": toy, "mode": "joint"},
    )
    variants, _ = ablation_plan.read_plan(path, RECIPE)
    ablation_plan.check(path, variants[0], RECIPE)
    with pytest.raises(InputError, match=r"variants.bad: train_config: .*unknown key 'matchin'"):
        ablation_plan.check(path, variants[1], RECIPE)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/ablations").glob("*.yaml")))
def test_ready_plans(path):
    variants, seeds = ablation_plan.read_plan(path, RECIPE)
    assert len(variants) > 1 and seeds
    configs = [json.dumps([v.options, v.configs], sort_keys=True) for v in variants]
    assert len(set(configs)) == len(variants)


def test_settings_of_finished_runs_are_still_theirs():
    """Else a plan whose lines are in benchmarks/results would be run again."""
    lines = (ROOT / "benchmarks/results/distillation.jsonl").read_text().splitlines()
    known = {(x.get("settings"), x["variant"]) for x in map(json.loads, lines)}
    variants, _ = ablation_plan.read_plan(ROOT / "benchmarks/ablations/matching_long.yaml", RECIPE)
    assert known & {(v.settings(), v.name) for v in variants}
