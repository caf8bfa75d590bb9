"""Runs of ESPnet's trainer, each in a process of its own, as the recipe's stages 6 and 7."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from espnet_dq.data.shapes import SHAPES
from espnet_dq.errors import WorkError, one_line, say
from espnet_dq.student.checkpoint import CHECKPOINT
from espnet_dq.task.checkpoints import repair
from espnet_dq.task.progress import LOG
from espnet_dq.task.start import TOKENS

_TABLES = ("wav.scp,speech,sound", "text,text,text", "utt2lang,lang,text")
# Tables are sorted in byte order, texts are in many scripts, and Python runs nothing that lies in
# the current folder.
_SURROUNDINGS = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8", "PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Training:
    """What both trainings of an experiment have in common.

    Attributes:
        exp: the experiment, with what the steps before have made: data/, cache/ (if the teacher
            was asked before), stats/ and init/, each but the last for train and dev.
        teacher: the teacher's `.pt`.
        padding: of the student's windows.
        seed: of the trainer.
        ngpu: GPUs of this machine; 0: the CPU.
        lock: an open file that keeps others from the experiment, until the trainer has ended, too.
    """

    exp: Path
    teacher: Path
    padding: str
    seed: int = 0
    ngpu: int = 0
    lock: int | None = None

    def command(self, config: Path, init: Path, out: Path) -> list[str]:
        """ESPnet's trainer with a configuration, from a checkpoint, into a folder."""
        start = self.exp / "init"
        ours, theirs, grid = (
            json.loads((start / name).read_text(encoding="utf-8"))
            for name in ("student.dims", "teacher.dims", "student.grid")
        )
        options = {
            "config": config, "output_dir": out, "init_param": init, "resume": "true",
            "token_list": start / TOKENS, "token_type": "bpe", "bpemodel": "dq_whisper",
            "allow_variable_data_keys": "true", "seed": self.seed, "ngpu": self.ngpu,
            "num_att_plot": 0, "multiprocessing_distributed": str(self.ngpu > 1).lower(),
        }  # fmt: skip
        conf = [
            ("encoder_conf", f"dims={json.dumps(ours)}"),
            ("encoder_conf", f"padding={self.padding}"),
            ("decoder_conf", f"dims={json.dumps(ours)}"),
            ("model_conf", f"teacher={self.teacher.resolve()}"),
            ("model_conf", f"teacher_dims={json.dumps(theirs)}"),
            ("model_conf", f"grid={json.dumps(grid)}"),
        ]
        for name, side in (("train", "train"), ("dev", "valid")):
            cached = sorted((self.exp / "cache" / name).glob("*.scp"))
            tables = [f"{self.exp / 'data' / name}/{table}" for table in _TABLES]
            tables += [f"{scp},{scp.stem},kaldi_ark" for scp in cached]
            conf += [(f"{side}_data_path_and_name_and_type", table) for table in tables]
            conf.append((f"{side}_shape_file", str(self.exp / "stats" / name / SHAPES)))
        words = [f"--{key}={value}" for key, value in [*options.items(), *conf]]
        return [sys.executable, "-m", "espnet_dq", "espnet2.bin.asr_train", *words]

    def run(self, config: Path, init: Path, out: Path) -> Path:
        """Train, or go on; returns the checkpoint to be exported. A finished run is left alone.

        Raises:
            WorkError: the trainer has failed; its log is named.
        """
        if (out / CHECKPOINT).exists():  # written last
            return out / CHECKPOINT
        out.mkdir(parents=True, exist_ok=True)
        for line in repair(out):
            say(line)
        say(f"{out}: training, see {out / LOG}")
        with open(out / LOG, "a", encoding="utf-8") as log:  # a resumed run goes on with it
            done = subprocess.run(
                self.command(config, init, out), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=os.environ | _SURROUNDINGS, check=False,
                pass_fds=() if self.lock is None else (self.lock,),
            )  # fmt: skip
        if done.returncode:
            lines = (out / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            last = one_line(lines[-1][:200] if lines else "")
            raise WorkError(f"training failed: see {out / LOG}: {last}")
        return out / CHECKPOINT
