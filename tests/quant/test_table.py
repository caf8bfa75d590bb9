"""Tables of grids: read, written, and what is refused."""

import pytest

import espnet_dq as dq
from espnet_dq.api.models import convert
from espnet_dq.errors import InputError
from espnet_dq.quant.table import read_grid, write_table
from espnet_dq.task.start import init_student


def test_a_name_or_a_table(tmp_path):
    assert read_grid("uniform4_g32") == "uniform4_g32"
    path = tmp_path / "grids.yaml"
    grids = {"decoder.token_embedding.weight": "ct2_int8", "encoder.conv1.weight": "none"}
    write_table(path, grids, "first line\n\nthird")
    assert read_grid(str(path)) == grids
    assert path.read_text().startswith("# first line\n#\n# third\n")


@pytest.mark.parametrize(
    "content,message",
    [
        ("", "not a table"),
        ("[a, b]", "not a table"),
        ("{", "not YAML"),
        ("a: {b: c}", "'a': a dict is not the name of a grid"),
        ("a: 4", "'a': 4 is not the name of a grid"),
        ("a: [" + "a," * 90_000 + "]", "'a': a list is not the name of a grid"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_refused(tmp_path, content, message):
    path = tmp_path / "grids.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_grid(str(path))


@pytest.mark.parametrize(
    "content,message",
    [
        ("a.weight: none", "a.weight is no weight that can be on a grid"),
        ("encoder.conv1.weight: none", "[a-z0-9.]+ has no grid in the table"),
    ],
)
def test_a_table_of_other_weights_is_named(tmp_path, save_toy, content, message):
    toy, path = save_toy(state=16, layers=1), tmp_path / "grids.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        convert(toy, tmp_path / "x.pt", "openai", str(path))
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        dq.verify(toy, against=toy, grid=str(path))
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        init_student(toy, toy, str(path), tmp_path / "init")


def test_no_file_and_too_large_a_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_grid(str(tmp_path / "grids.yaml"))
    path = tmp_path / "large.yaml"
    path.write_text("# " + "x" * (1 << 20))
    with pytest.raises(InputError, match="no table of grids"):
        read_grid(str(path))
