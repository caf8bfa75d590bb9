"""What argparse is told of commands' arguments."""

from pathlib import Path

import pytest

from espnet_dq.bin.arguments import Parser
from espnet_dq.bin.convert import main as convert
from espnet_dq.errors import InputError


def test_an_empty_path_is_not_the_current_folder(tmp_path, capsys):
    parser = Parser("Toy.")
    parser.add_argument("--data", type=Path, nargs="+")
    assert parser.parse_args(["--data", ".", "x"]).data == [Path(), Path("x")]
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--data", "x", ""])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: argument --data: a path is empty\n")
    with pytest.raises(InputError, match="the path of a model is empty"):
        convert(["--from", "", "--to", "hf", "--out", str(tmp_path / "out")])
