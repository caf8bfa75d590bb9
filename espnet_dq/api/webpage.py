"""A page in which a browser transcribes, around any model."""

from collections.abc import Sequence
from pathlib import Path

from espnet_dq.api.models import convert, load
from espnet_dq.fetch.names import source_path
from espnet_dq.files import atomic, check_apart, check_replaceable
from espnet_dq.formats.transformers_js import TransformersJs
from espnet_dq.web import page


def make_page(
    source: str,
    out: Path,
    grid: str | None,
    title: str | None = None,
    languages: Sequence[str] = (),
) -> None:
    """Write the folder of a page, with the model.

    Args:
        source: A model's path or name.
        out: The folder, for any server of files.
        grid: See `espnet_dq.api.models.convert`; None: the model's own integers.
        title: Of the page; None: the model's name.
        languages: Codes or names, with which the choice begins.

    Raises:
        InputError: What cannot be read, does not fit, or may not be replaced.
    """
    check_replaceable(out, page.FOLDER)
    check_apart(out, source_path(source))
    title = title or model_name(source)
    model = load(source, keep=grid in (None, "keep"))
    page.chosen(model.weights, languages)  # before the work
    with atomic(out, page.FOLDER) as folder:
        folder.mkdir()
        how = {"grid": grid} if grid else {}
        convert(model, folder / "model", TransformersJs.name, **how)
        page.write(folder, title, "", languages)


def model_name(source: str) -> str:
    """What the page calls a model that is given as `--from`: `tiny.en`, of `openai:tiny.en`."""
    path = Path(source)
    if path.exists():
        return path.stem if path.is_file() else path.resolve().name  # of a folder: `.`, `v1.5`
    return source.rpartition(":")[2].rpartition("/")[2].partition("@")[0]
