"""Write, for each runtime that holds a student's grid, a folder ready to publish (stage 13).

Each has the model, its tokenizer and a model card (README.md), and is verified against the
training before it gets its name. Only when asked, and when all of them are verified, they are
uploaded to the Hugging Face Hub, with the token of `HF_TOKEN` or of `hf auth login`.

Example usage::

    python -Pm espnet_dq.bin.publish --exp exp/asterisk_base_tiny_ct2_int8 \\
        --data_licence CC-BY-SA-3.0 --upload_to me/asterisk-tiny
"""

from pathlib import Path

from espnet_dq.api.verification import verify
from espnet_dq.bin.arguments import Parser, add_data
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import Folder, atomic, bytes_on_disk, check_replaceable
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.write import check_grids, write
from espnet_dq.report.collect import read_json
from espnet_dq.report.hub import check_upload, upload
from espnet_dq.report.model_card import render
from espnet_dq.report.origin import data_of
from espnet_dq.runtimes.ctranslate2 import compute_type
from espnet_dq.student.checkpoint import load_student
from espnet_dq.whisper.weights import Weights


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, reported (stage 12)")
    add_data(parser)
    parser.add_argument(
        "--upload_to",
        metavar="USER/NAME",
        help="upload each folder to the Hugging Face Hub as USER/NAME-FORMAT; new repositories "
        "are private",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the folders EXP/publish/FORMAT, then upload them if asked; returns 0."""
    args = get_parser().parse_args(argv)
    forms = [name for name, form in FORMATS.items() if form.card]
    if args.upload_to:
        check_upload(f"{args.upload_to}-{form}" for form in forms)
    for form in forms:
        check_replaceable(args.exp / "publish" / form, published(form))
    student = load_student(args.exp / "qat")
    described, results = (read_json(args.exp / f) for f in ("run.json", "results.json"))
    results |= data_of(
        described,
        args.data_name or results.get("data_name"),
        args.data_licence or results.get("data_licence"),
    )
    quantized = student.quantized()
    written = []
    for form in forms:
        try:
            check_grids(form, student.dims, student.grids)
        except InputError as e:
            say(f"{form}: left out: {e}")
            continue
        with atomic(args.exp / "publish" / form, published(form)) as folder:
            folder.mkdir()
            model = FORMATS[form].place(folder)
            write(form, model, Weights(student.dims, student.state), quantized, "float16")
            size = bytes_on_disk(folder)
            parity = verify(model, args.exp / "qat").check().to_dict()
            exact = compute_type(model / "model.bin") if form == "ct2" else "default"
            card = render(form, described, results, size, parity, exact, student.dims)
            (folder / "README.md").write_text(card, encoding="utf-8")
        written.append(form)
        say(f"{args.exp / 'publish' / form}: {size} bytes, verified")
    for form in written if args.upload_to else ():
        address = upload(args.exp / "publish" / form, f"{args.upload_to}-{form}")
        say(f"uploaded to {address}")
    return 0


def published(form: str) -> Folder:
    """What the folder of a format holds: the model's files and the model card."""
    return Folder(f"published {form}", (*FORMATS[form].files, "README.md"))


if __name__ == "__main__":
    run(main)
