"""What was run, for the report: `run.json` of an experiment."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from espnet_dq.config import QuantConfig
from espnet_dq.data.summary import read_sources
from espnet_dq.files import check_replaceable, write_text
from espnet_dq.formats.registry import home
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.recipe.systems import SYSTEMS, place
from espnet_dq.report import rounded
from espnet_dq.report.roles import ROUNDED
from espnet_dq.student.checkpoint import load_student


def describe(
    exp: Path,
    corpus: str,
    data: Path,
    prepared: Path,
    formatted: Path,
    systems: Sequence[str],
    also: Sequence[str],
    teacher_name: str,
    student_name: str,
    seed: int,
    config: str,
    command: str,
) -> None:
    """Write EXP/run.json: what was run, and the systems that are scored.

    Args:
        exp: The experiment.
        corpus: Its name.
        data: The Kaldi folder that is scored.
        prepared, formatted: The folders of stage 1's and of stage 2's data.
        systems: Those of `SYSTEMS` that are scored.
        also: Grids that the student was rounded to.
        teacher_name, student_name: OpenAI's, hf:..., or a file's.
        seed: Of the run.
        config: Its training configurations, quoted.
        command: The command line that makes the same, quoted.

    Raises:
        InputError: A student that cannot be read, or a file that may not be replaced.
    """
    check_replaceable(exp / "run.json")
    student = load_student(exp / "qat")
    grid = student.quant.grid if isinstance(student.quant.grid, str) else "mixed"
    on_grid = {"grid": grid, "grids": student.grids, "preset": student.quant.preset}
    plain = {"grid": "none", "grids": {}, "preset": "none"}
    scored = []
    for name in (name for name in SYSTEMS if name in systems):
        runtime, path = place(name, grid)
        how = on_grid if name.startswith("student") else plain
        if name in ROUNDED:
            how = on_grid | {"preset": "full"}
        role = name.removesuffix("_torch")
        scored.append(
            {"name": name, "role": role, "runtime": runtime, **how, "path": str(exp / path)}
        )
    scored += [
        {
            "name": rounded.name(grid),
            "role": rounded.ROLE,
            "runtime": home(grid).runtime,
            "grid": grid,
            "by_clips": (exp / "export" / rounded.kept(grid)).exists(),
            "grids": assign_grids(student.dims, grid),
            "preset": QuantConfig.preset,
            "path": str(exp / "export" / rounded.exported(grid)),
        }
        for grid in also
    ]
    told = prepared / "sources.json"
    sources = read_sources(told) if told.exists() else []
    description = {
        "corpus": corpus,
        "sources": [asdict(source) for source in sources],
        "teacher": teacher_name,
        "student": student_name,
        "seed": seed,
        "commit": commit(),
        "date": date.today().isoformat(),
        "command": command,
        "config": config,
        "data": str(data),
        "data_report": str((prepared / "report.json").resolve()),
        "format_report": str((formatted / "format.json").resolve()),
        "systems": scored,
    }
    write_text(exp / "run.json", json.dumps(description, indent=1) + "\n")


def commit() -> str:
    """The commit that runs, marked when the tree differs from it; "unknown" without git."""
    clone = Path(__file__).resolve().parents[2]
    # git says nothing of a clone that is another user's, unless told that it is to be trusted: that
    # does who runs its code.
    trusted = ["-c", f"safe.directory={clone}"]
    try:
        said = subprocess.run(
            ["git", *trusted, "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=clone,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()
