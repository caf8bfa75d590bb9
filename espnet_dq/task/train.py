"""Runs of ESPnet's trainer, each in a process of its own: the recipe's stages 6 and 7."""

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from espnet_dq.config import CHECKPOINT, TOKENS
from espnet_dq.data.shapes import SHAPES
from espnet_dq.errors import InputError, WorkError, one_line, say
from espnet_dq.files import atomic
from espnet_dq.reading import read_value
from espnet_dq.task.checkpoints import LAST, repair
from espnet_dq.task.progress import LOG, shown

SCRIPT = "run.sh"  # in a training's folder: runs it again
GRACE = 10.0  # seconds that a training may take to end after an interrupt
ARK = "kaldi_ark"  # to ESPnet, what the teacher's answers are kept in
_TABLES = ("wav.scp,speech,sound", "text,text,text", "utt2lang,lang,text")
# Tables are sorted in byte order, texts are in many scripts, and Python runs nothing that lies in
# the current folder.
_SURROUNDINGS = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8", "PYTHONSAFEPATH": "1"}
# The script runs on the first node, where the first process is; jobs have ports of their own.
_NODES = """\
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
set -- --dist_master_addr "$(hostname)" "$@"
"""


@dataclass(frozen=True)
class Training:
    """What both trainings of an experiment have in common.

    Attributes:
        exp: the experiment, with what the steps before have made: conf/, data/, stats/, cache/ and
            init/, most of them for train and dev.
        teacher: the teacher's `.pt`.
        padding: of the student's windows.
        seed: of the trainer.
        ngpu: GPUs of each machine; 0: the CPU.
        nodes: machines, in Slurm.
        slurm: whether Slurm starts the processes.
        live: the teacher answers in every step; else its answers are in cache/.
    """

    exp: Path
    teacher: Path
    padding: str
    seed: int = 0
    ngpu: int = 0
    nodes: int = 1
    slurm: bool = False
    live: bool = False

    def command(self, name: str, init: Path) -> list[str]:
        """ESPnet's trainer with conf/NAME.yaml, from a checkpoint, into a folder NAME.

        Raises:
            InputError: the teacher's answers are to be used, and there are none.
        """
        start = self.exp / "init"
        ours, theirs, grid = (
            read_value(start / file) for file in ("student.dims", "teacher.dims", "student.grid")
        )
        options = {
            "config": self.exp / "conf" / f"{name}.yaml", "output_dir": self.exp / name,
            "init_param": init, "resume": "true", "token_list": start / TOKENS, "token_type": "bpe",
            "bpemodel": "dq_whisper", "allow_variable_data_keys": "true", "seed": self.seed,
            "ngpu": self.ngpu, "num_att_plot": 0, "log_level": "INFO",  # progress
        }  # fmt: skip
        conf = [
            *options.items(),
            ("encoder_conf", f"dims={json.dumps(ours)}"),
            ("encoder_conf", f"padding={self.padding}"),
            ("decoder_conf", f"dims={json.dumps(ours)}"),
            ("preprocessor_conf", f"n_audio_ctx={ours['n_audio_ctx']}"),
            (
                "model_conf",
                f"teacher={json.dumps(str(self.teacher.resolve()), ensure_ascii=False)}",
            ),
            ("model_conf", f"teacher_dims={json.dumps(theirs)}"),
            ("model_conf", f"grid={json.dumps(grid)}"),
            *self._processes(),
        ]
        for split, side in (("train", "train"), ("dev", "valid")):
            tables = [f"{self.exp / 'data' / split}/{table}" for table in _TABLES]
            tables += self._answers(split)
            conf += [(f"{side}_data_path_and_name_and_type", table) for table in tables]
            conf.append((f"{side}_shape_file", str(self.exp / "stats" / split / SHAPES)))
        # A task that is lost is not waited for.
        launch = ["srun", "--kill-on-bad-exit=1"] if self.slurm else []
        words = [f"--{key}={value}" for key, value in conf]
        return [*launch, sys.executable, "-m", "espnet_dq", "espnet2.bin.asr_train", *words]

    def _processes(self) -> list[tuple[str, str]]:
        options = [("dist_launcher", "slurm")] if self.slurm else []
        if not self.ngpu and self.nodes > 1:
            return [*options, ("multiprocessing_distributed", "false"), ("dist_backend", "gloo")]
        several = self.ngpu * self.nodes > 1
        return [*options, ("multiprocessing_distributed", str(several).lower())]

    def _answers(self, split: str) -> list[str]:
        if self.live:
            return []
        found = sorted((self.exp / "cache" / split).glob("*.scp"))
        if not found:
            raise InputError(f"{self.exp / 'cache' / split}: nothing there: run --stage 4")
        return [f"{scp},{scp.stem},{ARK}" for scp in found]

    def prepare(self, name: str, init: Path) -> Path:
        """See to it that the training can begin or go on; returns its script.

        A damaged checkpoint is replaced by the one before, with a line that says so.

        Raises:
            InputError: it is half done, and the teacher's answers came from elsewhere so far.
        """
        out = self.exp / name
        if (out / LAST).exists() and not (out / CHECKPOINT).exists() and (out / SCRIPT).exists():
            self._check_answers(out)
        out.mkdir(parents=True, exist_ok=True)
        for line in repair(out):
            say(line, sys.stderr)
        with atomic(out / SCRIPT) as tmp:
            run = shlex.join(["exec", *map(str, self.command(name, init))])
            lines = ["#!/usr/bin/env bash", shlex.join(["cd", os.getcwd()])]
            lines += [_NODES.rstrip()] if self.nodes > 1 else []
            tmp.write_text("\n".join([*lines, f'{run} "$@"', ""]), encoding="utf-8")
        return out / SCRIPT

    def _check_answers(self, out: Path) -> None:
        live = f",{ARK}" not in (out / SCRIPT).read_text(encoding="utf-8")
        if live != self.live:
            how = ("with stage 4's answers of the teacher", "with --skip_teacher_pass true")
            raise InputError(
                f"{out}: is half done {how[live]}, which decides its loss: go on so, or remove it"
            )

    def run(self, name: str, init: Path) -> Path:
        """Train here, or go on; returns the checkpoint to be exported.

        A finished run is left alone.

        Raises:
            WorkError: the trainer has failed; its log is named.
        """
        out = self.exp / name
        if (out / CHECKPOINT).exists():  # written last
            return out / CHECKPOINT
        script = self.prepare(name, init)
        with shown(out):
            code = run_here(script)
        if code:
            lines = (out / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            last = one_line(lines[-1][:200] if lines else "")
            raise WorkError(f"training failed: see {out / LOG}: {last}")
        return out / CHECKPOINT


def run_here(script: Path) -> int:
    """Run a training's script on this machine, to its end also if this process is ended.

    What it says is added to its log: a resumed run goes on with it. Returns the exit code.
    """
    with open(script.with_name(LOG), "ab") as file:
        training = subprocess.Popen(
            ["bash", script], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env=os.environ | _SURROUNDINGS,
            close_fds=False,  # it holds the experiment's lock, too, should this process be killed
        )  # fmt: skip
    try:
        code = training.wait()
    except KeyboardInterrupt:  # which a terminal sends to both
        try:
            training.wait(GRACE)
        except subprocess.TimeoutExpired:
            _end(training)
        raise
    except BaseException:
        _end(training)
        raise
    return code if code >= 0 else 128 - code


def _end(training: subprocess.Popen) -> None:
    training.send_signal(signal.SIGTERM)
    training.wait()
