"""`espnet-dq COMMAND ARGS...`: every command by its name.

`espnet-dq make-student ARGS` is `python -Pm espnet_dq.bin.make_student ARGS`.
"""

import argparse
import ast
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from espnet_dq import __version__
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, run

# What a command is for -> modules of `espnet_dq.bin`; a command is called as its module, or as
# `NAMES` says, with - for _.
GROUPS = {
    "models": (
        "fetch_whisper", "convert", "verify", "transcribe", "make_student", "trim_vocabulary",
        "merge", "sensitivity", "allocate", "calibrate", "web",
    ),
    "data": (
        "format_data", "validate_data", "subset_data", "pack_windows", "pseudo_label",
        "write_cuts", "corpus_scripts", "make_data", "make_canary",
    ),
    "training": (
        "distil", "recipe", "check_configs", "check_languages", "plan", "init_student",
        "merge_start", "round_start", "made_of", "collect_shapes", "teacher_pass", "run_training",
        "export", "jobs", "end_jobs",
    ),
    "results": (
        "round_systems", "decode", "score", "benchmark", "describe", "report", "publish",
    ),
}  # fmt: skip
NAMES = {"fetch_whisper": "fetch"}
COMMANDS = {
    NAMES.get(module, module.replace("_", "-")): module
    for modules in GROUPS.values()
    for module in modules
}


def get_parser() -> Parser:
    """The options before a command; imports no command, and so no torch."""
    parser = Parser(
        "Distil a small multilingual Whisper on a runtime's grid, convert it, and run it.",
        prog="espnet-dq",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="see below; COMMAND --help says more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def overview() -> str:
    """A line for each command: its name, and the first line of its module's docstring."""
    names = {module: name for name, module in COMMANDS.items()}
    width = max(map(len, COMMANDS)) + 2
    lines = []
    for group, modules in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {names[module]:{width}}{_first_line(module)}" for module in modules]
    return "\n".join(lines[1:])


def _first_line(module: str) -> str:
    """Read, not imported: that would take seconds."""
    source = Path(find_spec("espnet_dq.bin").submodule_search_locations[0], f"{module}.py")
    doc = ast.get_docstring(ast.parse(source.read_bytes())) or ""
    return doc.partition("\n")[0]


def main(argv: list[str] | None = None) -> int:
    """Run the command that is named; returns its exit code."""
    parser, argv = get_parser(), sys.argv[1:] if argv is None else argv
    if argv[:1] in ([], ["-h"], ["--help"]):
        parser.epilog = overview()
    args = parser.parse_args(argv or ["--help"])
    name = args.command.replace("_", "-")
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.0)
        raise InputError(
            f"unknown command '{args.command}': the nearest is {near[0]}; --help lists all"
        )
    sys.argv = [f"espnet-dq {name}", *args.arguments]  # for messages
    return import_module(f"espnet_dq.bin.{COMMANDS[name]}").main(args.arguments)


def entry() -> None:
    """The console script `espnet-dq`."""
    run(main)


if __name__ == "__main__":
    entry()
