import pytest

from espnet_dq.errors import InputError, run


def test_an_error_is_one_line_whatever_is_in_a_name(capsys):
    def main():
        raise InputError("Größe/\x1b]0;title\x07 a\nb\r\u009b2J: broken")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(": Größe/\\x1b]0;title\\x07 a\\nb\\r\\x9b2J: broken\n")
