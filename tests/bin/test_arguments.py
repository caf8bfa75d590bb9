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


@pytest.mark.parametrize("given", ["-1", "-1.", "-.5", "-1e-3", "-2.5E+4", "-inf", "-Infinity"])
def test_a_negative_number_is_a_value(given):
    parser = Parser("Toy.")
    parser.add_argument("--least", type=float)
    parser.add_argument("-e", action="store_true")
    assert parser.parse_args(["--least", given]).least == float(given)
    assert parser.parse_args(["-e", "--least", given]).e


def test_an_option_is_no_negative_number(capsys):
    parser = Parser("Toy.")
    parser.add_argument("--least", type=float)
    for given in ("-1e", "-info", "-e3", "--inf"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--least", given])
        assert "expected one argument" in capsys.readouterr().err
