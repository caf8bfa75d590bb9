"""Write EXPDIR/run.json: what was run, and the systems that are scored (stage 9)."""

import json
import subprocess
from dataclasses import asdict
from datetime import date
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import QuantConfig
from espnet_dq.data.summary import read_sources
from espnet_dq.errors import run
from espnet_dq.files import check_replaceable, write_text
from espnet_dq.formats.registry import home
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.recipe.systems import SYSTEMS, place
from espnet_dq.report import rounded
from espnet_dq.report.roles import ROUNDED
from espnet_dq.student.checkpoint import load_student


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment folder")
    parser.add_argument("--corpus", required=True, help="name of the corpus")
    parser.add_argument("--seed", type=int, required=True, help="seed of the run")
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder that is scored")
    parser.add_argument("--teacher_name", default="unknown", help="OpenAI's, hf:..., or a file's")
    parser.add_argument("--student_name", default="unknown", help="the same")
    parser.add_argument("--config", required=True, help="training configurations, quoted")
    parser.add_argument("--prepared", type=Path, required=True, help="folder of stage 1's data")
    parser.add_argument("--formatted", type=Path, required=True, help="folder of stage 2's data")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, required=True, help="those that are scored"
    )
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="GRID", help="grids the student was rounded to"
    )
    parser.add_argument("--command", required=True, help="command line that makes the same, quoted")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the description; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.exp / "run.json")
    student = load_student(args.exp / "qat")
    grid = student.quant.grid if isinstance(student.quant.grid, str) else "mixed"
    on_grid = {"grid": grid, "grids": student.grids, "preset": student.quant.preset}
    plain = {"grid": "none", "grids": {}, "preset": "none"}
    systems = []
    for name in (name for name in SYSTEMS if name in args.systems):
        runtime, path = place(name, grid)
        how = on_grid if name.startswith("student") else plain
        if name in ROUNDED:
            how = on_grid | {"preset": "full"}
        role = name.removesuffix("_torch")
        systems.append(
            {"name": name, "role": role, "runtime": runtime, **how, "path": str(args.exp / path)}
        )
    also = [
        {
            "name": rounded.name(grid),
            "role": rounded.ROLE,
            "runtime": home(grid).runtime,
            "grid": grid,
            "by_clips": (args.exp / "export" / rounded.kept(grid)).exists(),
            "grids": assign_grids(student.dims, grid),
            "preset": QuantConfig.preset,
            "path": str(args.exp / "export" / rounded.exported(grid)),
        }
        for grid in args.also
    ]
    told = args.prepared / "sources.json"
    sources = read_sources(told) if told.exists() else []
    description = {
        "corpus": args.corpus,
        "sources": [asdict(source) for source in sources],
        "teacher": args.teacher_name,
        "student": args.student_name,
        "seed": args.seed,
        "commit": commit(),
        "date": date.today().isoformat(),
        "command": args.command,
        "config": args.config,
        "data": str(args.data),
        "data_report": str((args.prepared / "report.json").resolve()),
        "format_report": str((args.formatted / "format.json").resolve()),
        "systems": systems + also,
    }
    write_text(args.exp / "run.json", json.dumps(description, indent=1) + "\n")
    return 0


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


if __name__ == "__main__":
    run(main)
