"""Check the options of the recipe, and print what follows from them (dq.sh).

dq.sh gets each of `espnet_dq.recipe.options` as a variable of its name, with whole paths, and
beside them what the package knows of these values: the format, runtime and file of a grid, the
experiment's folder, configurations with single keys changed; and `espnet_dq.recipe.lists`.
"""

import argparse
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.recipe import settings
from espnet_dq.recipe.lists import lists
from espnet_dq.recipe.options import BY_NAME, OPTIONS, check_encoding, read
from espnet_dq.recipe.settle import settle

STAGES = """\
stages: 1 data, 2 format, 3 weights, 4 teacher pass, 5 shapes, 6 kd, 7 qat, 8 export and verify,
        9 decode, 10 score, 11 benchmark, 12 report, 13 pack
"""


def get_parser() -> Parser:
    """The options, for their help; `read` reads them."""
    parser = Parser(
        "Distil and quantize a Whisper, stage by stage; what is finished is not done again.",
        usage="%(prog)s [options]",
        epilog=STAGES,
        formatter_class=partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=26, width=100
        ),
    )
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for option in options:
            shown = " [%(default)s]" if option.default not in ("", "false") else ""
            group.add_argument(
                f"--{option.name}",
                default=option.default,
                metavar=option.metavar or "|".join(option.rule),
                help=option.help + shown,
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print `name=value` of each variable, and of each list `name`, `name[0]=word` and so on.

    Each ends with a zero byte. Returns 0.
    """
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & {*words}:
        get_parser().parse_args(["--help"])
    caller = "."
    if words[:1] == ["--caller"]:  # dq.sh's own
        caller, words = words[1], words[2:]
    for folder in (caller, os.getcwd()):
        check_encoding("", folder)
    given = read(words)
    made = {name: value for name, value in given.items() if BY_NAME[name].decides != "here"}
    command = shlex.join(["run.sh", *(w for o, v in made.items() for w in (f"--{o}", v))])
    settled = settle(given, caller) | {"command_line": command}
    settled |= settings.check(Path(settled["exp"]), settled)
    said = [f"{name}={value}" for name, value in settled.items()]
    for name, words in lists(settled).items():  # of `also` and `systems` in place of the text
        said += [name, *(f"{name}[{n}]={word}" for n, word in enumerate(words))]
    print(*said, sep="\0", end="\0")
    return 0


if __name__ == "__main__":
    sys.argv[0] = "dq.sh"  # in messages
    run(main)
