"""Folders that are ready to publish: a model for each runtime that holds a student's grid.

So for each other grid that the student was rounded to (`--also` of the recipe), as `rounded_GRID`.
Each has the model, its tokenizer, a model card (README.md) and OpenAI's LICENSE, and is verified
against the training before it gets its name. Where transformers.js holds the grid, `web` is a page
for browsers around it, if npm is here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import copytree, ignore_patterns

from espnet_dq.api.models import Model, load, quantize
from espnet_dq.api.verification import verify
from espnet_dq.errors import DQError, InputError, say
from espnet_dq.files import Folder, atomic, bytes_on_disk, check_replaceable
from espnet_dq.formats.registry import FORMATS, home
from espnet_dq.formats.transformers_js import TransformersJs, dtype
from espnet_dq.formats.write import check_grids, write
from espnet_dq.reading import read_json
from espnet_dq.report import licences, rounded
from espnet_dq.report.collect import read_run
from espnet_dq.report.hub import check_upload, upload
from espnet_dq.report.model_card import render
from espnet_dq.report.origin import data_of
from espnet_dq.runtimes.ctranslate2 import compute_type
from espnet_dq.scoring import beside
from espnet_dq.scoring.score import MEAN
from espnet_dq.student.checkpoint import Student, load_student
from espnet_dq.web import page

WEB = "web"  # beside the folders of formats
BESIDE = ("README.md", licences.NAME)  # the model's files in each of these


def publish(
    exp: Path,
    data_name: str | None = None,
    data_licence: str | None = None,
    upload_to: str | None = None,
) -> None:
    """Write the folders EXP/publish/NAME, then upload them if asked.

    Args:
        exp: An experiment that was reported (stage 12).
        data_name, data_licence: In the place of what is recorded.
        upload_to: `USER/NAME`: each folder goes to the Hugging Face Hub as USER/NAME-FORMAT, when
            all are verified, with the token of `HF_TOKEN` or of `hf auth login`.

    Raises:
        InputError: What is not there, or may not be replaced, or not be uploaded.
        WorkError: A file that differs from the training.
    """
    out = exp / "publish"
    wanted = {name: _Wanted(name, name) for name, form in FORMATS.items() if form.card}
    for each in wanted.values():
        check_replaceable(out / each.name, published(each.form))
    described = read_run(exp)
    for each in _rounded(exp, described):
        wanted[each.name] = each
        check_replaceable(out / each.name, published(each.form))
    check_replaceable(out / WEB, page.FOLDER)
    if upload_to:
        check_upload(f"{upload_to}-{name}" for name in wanted)
    student, results = load_student(exp / "qat"), read_json(exp / "results.json")
    results |= data_of(
        described,
        data_name or results.get("data_name"),
        data_licence or results.get("data_licence"),
    )
    minutes = read_json(exp / "data/train.minutes.json")
    results["languages"] = [code for code, of in minutes.items() if of["heard"]]
    models = _Models(exp, student)
    written = [each.name for each in wanted.values() if _write(each, models, described, results)]
    for folder in sorted({*out.glob(rounded.name("*"))}):
        if folder.name not in wanted:
            say(f"{folder}: left as an earlier run wrote it: no --also names its grid now")
    if TransformersJs.name in written:
        _web(out, described, results)
    for name in written if upload_to else ():
        address = upload(out / name, f"{upload_to}-{name}")
        say(f"uploaded to {address}")


@dataclass(frozen=True)
class _Wanted:
    """A folder to write.

    Attributes:
        name: its name.
        form: the format of its files.
        rounded_to: the grid that trained weights are rounded to; None: they stay on their own.
        by_clips: the file of what was rounded to it by clips; None: each weight to its nearest
            value.
    """

    name: str
    form: str
    rounded_to: str | None = None
    by_clips: Path | None = None


def _rounded(exp: Path, described: Mapping) -> Iterator[_Wanted]:
    """A folder for each grid that the student was rounded to."""
    for system in described["systems"]:
        if system["role"] == rounded.ROLE:
            grid, kept = system["grid"], None
            if system.get("by_clips"):
                kept = exp / "export" / rounded.kept(grid)
                if not kept.exists():
                    raise InputError(f"{kept}: is not there: run --stage 9")
            yield _Wanted(rounded.name(grid), home(grid).name, grid, kept)


@dataclass(frozen=True)
class _Models:
    """What folders hold of an experiment's student."""

    exp: Path
    student: Student

    @cached_property
    def trained(self) -> Model:
        """On the grid of its training."""
        return Model(self.student.weights, self.student.quantized(), "float16")

    @cached_property
    def seen(self) -> Model:
        """Its weights as its training computed with them, to be rounded."""
        return Model(replace(self.student.weights, state=self.student.reference_weights()))

    def of(self, wanted: _Wanted) -> tuple[Model, Path | Model, str | None]:
        """What a folder holds, and what `verify` compares that with: a model, and its new grid."""
        if wanted.rounded_to is None:
            return self.trained, self.exp / "qat", None
        if wanted.by_clips:  # the integers that were scored, and all else as it was trained
            kept = load(wanted.by_clips).quantized
            model = replace(quantize(self.seen, wanted.rounded_to), quantized=kept)
            return model, model, None
        return quantize(self.seen, wanted.rounded_to), self.seen, wanted.rounded_to


def _write(wanted: _Wanted, models: _Models, described: Mapping, results: Mapping) -> bool:
    """Write a folder, verified; False if its format does not hold the model."""
    form, out = wanted.form, models.exp / "publish" / wanted.name
    content, source, grid = models.of(wanted)
    try:
        check_grids(form, content.dims, content.grids)
    except InputError as e:
        _left_out(out, e)
        return False
    with atomic(out, published(form)) as folder:
        folder.mkdir()
        model = FORMATS[form].place(folder)
        write(form, model, content.weights, content.quantized, "float16")
        size = bytes_on_disk(folder)
        parity = verify(model, source, grid).check().to_dict()
        exact = compute_type(model / "model.bin") if form == "ct2" else "default"
        exact = json.dumps(dtype(model)) if form == TransformersJs.name else exact
        dims = content.dims
        card = render(form, described, results, size, parity, exact, dims, wanted.rounded_to)
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / licences.NAME).write_text(licences.MODEL, encoding="utf-8")
    how = ", rounded, not trained on that grid" if wanted.rounded_to else ""
    say(f"{out}: {size} bytes, verified{how}")
    return True


def _web(folder: Path, described: Mapping, results: Mapping) -> None:
    """The page for browsers, around the model of the folder for transformers.js."""
    student = next(s for s in results["systems"] if s["role"] == "student")
    codes, wer = results["languages"], student["wer"]
    model, data = folder / TransformersJs.name, results["data_name"]
    rate = f"{beside.mean(wer)}word error rate".capitalize()
    about = (
        f"{bytes_on_disk(model) / 1e6:.0f} MB, distilled and quantized. {rate} on {data}: "
        f"{wer.get(MEAN, next(iter(wer.values()))):.1f} % in {student['runtime']}. "
        f"{beside.units(student['unit'])}"
    )
    try:
        with atomic(folder / WEB, page.FOLDER) as made:
            made.mkdir()
            copytree(model, made / "model", ignore=ignore_patterns(*BESIDE))
            first = [code for code in codes if code not in page.UNKNOWN]
            page.write(made, f"Whisper for {', '.join(codes)}", about, first)
    except DQError as e:  # no npm, or not what npm is to have
        _left_out(folder / WEB, e)
        return
    say(f"{folder / WEB}: {bytes_on_disk(folder / WEB)} bytes, a page for any server of files")


def _left_out(folder: Path, why: Exception) -> None:
    stays = ", and stays as an earlier run wrote it" if folder.exists() else ""
    say(f"{folder.name}: left out{stays}: {why}")


def published(form: str) -> Folder:
    """What the folder of a format holds: the model's files, the model card and a licence."""
    return Folder(f"published {form}", (*FORMATS[form].files, *BESIDE))
