"""The lines of docs/troubleshooting.md are those that one gets."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from espnet_dq.bin import check_configs, check_languages, make_data, recipe, validate_data
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from espnet_dq.files import shared_before, shared_place
from espnet_dq.labels.languages import heard
from espnet_dq.recipe import settings
from espnet_dq.task.check import check
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from local import kaldi_dir, table
from tests.toys import RECIPE, make_model, save_corpus, save_model

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
LINES = re.findall(r"^\| .* \| `(.*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
YOURS = re.compile(r"DIR|FILES?|CONFIG|EXPDIR|UTT|NUMBER|LINE|COLUMNS|NAMES|HASH")
# Stage 1 of folders that are Kaldi's already: a copy.
COPY = ["bash", "-ec", 'cp -rL "$2"/. "$4"; touch "$4/left_out.tsv"', "-", "--data_root"]


def run(folder: Path, **options: str) -> dict[str, str]:
    """What a run with these options begins, or goes on with."""
    settled = recipe.settle({"expdir": str(folder), **options}, "/")
    exp = Path(settled["exp"])
    (exp / "done").mkdir(parents=True, exist_ok=True)
    for name, text in settings.check(exp, settled).items():
        (exp / name).write_text(text)
    return settled


def no_folder(folder):
    run(folder, corpus="kaldi", data_root="/no/such folder")


def no_option(folder):
    recipe.read(["--langage=de"])


def larger_student(folder):
    run(folder, teacher="tiny", student="base")


def larger_student_in_a_file(folder):
    models = [save_model(folder / f"{n}.pt", make_model(state=32, layers=n)) for n in (2, 3)]
    config = folder / "qat.yaml"
    config.write_text("max_epoch: 0\n")  # the end of it
    given = ["--teacher", str(models[0]), "--student", str(models[1]), "--grid", "ct2_int8"]
    with pytest.raises(InputError, match="max_epoch"):
        check_configs.main([str(config), *given])


def no_such_teacher(folder):
    run(folder, teacher="tinny")


def no_model(folder):
    run(folder, teacher=str(folder))


def no_apt(folder):
    (folder / "metadata.csv").touch()
    own = {"corpus": "csv", "data_root": str(folder / "metadata.csv"), "dumpdir": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder))
        patch.setattr("espnet_dq.recipe.settle.glob", lambda _: [])  # whatever is there by now
        run(folder, **own)


def changed_model(folder):
    model = save_model(folder / "mine.pt", make_model(state=32, layers=1))
    run(folder, teacher=str(model))
    save_model(model, make_model(state=32, layers=1, seed=1))
    run(folder, teacher=str(model))


def tensorboard(folder):
    config = folder / "qat.yaml"
    text = (RECIPE / "conf/qat.yaml").read_text()
    config.write_text(text.replace("use_tensorboard: false", "use_tensorboard: true"))
    check(config, SIZES["tiny"], SIZES["base"], "ct2_int8")


def another_training(folder):
    run(folder, teacher="base")
    given = {"train_args": "optim_conf.lr=1.0e-3", "expdir": str(folder)}
    settled = recipe.settle(given, "/")
    exp = Path(settled["exp"])
    settings.check(exp, settled | {"teacher": "small"})


def another_scoring(folder):
    (Path(run(folder)["exp"]) / "done/9").touch()
    run(folder, test_clips="40")


def compare(folder: Path) -> None:
    """As the recipe does, of the data in `folder`."""
    where = ["--out", str(folder / "data"), "--exp", str(folder / "exp")]
    make_data.main([*where, "--", *COPY, str(folder / "src")])


def make(folder: Path) -> KaldiDir:
    """The data in `folder`, which an experiment takes; their source's train."""
    src = folder / "src"
    if not src.exists():
        save_corpus(src)
    (folder / "exp").mkdir(exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    make_data.main(["--out", str(folder / "data"), "--", *COPY, str(src)])
    (folder / "exp/source.jsonl").write_bytes((folder / "data/source.jsonl").read_bytes())
    compare(folder)
    return KaldiDir.load(src / "train")


def changed_data(folder):
    data = make(folder)
    data.text[min(data.text)] = "another"
    for number in range(1000):
        data.add(f"spk9-{number}", data.wav[min(data.wav)], "text", "spk9", "en")
    data.save(folder / "src/train")
    compare(folder)


def broken_data(folder):
    make(folder)
    (folder / "src/test/wav.scp").unlink()
    (folder / "src/test/wav.scp").symlink_to("wav.scp")  # round in circles
    compare(folder)


def data_of_another_experiment(folder):
    data = make(folder)
    mine, text = folder / "exp/source.jsonl", data.text[min(data.text)]
    record = mine.read_bytes()
    data.text[min(data.text)] = "another"
    data.save(folder / "src/train")
    make(folder)
    mine.write_bytes(record)
    data.text[min(data.text)] = text
    data.save(folder / "src/train")
    compare(folder)


def shared_later(folder):
    (folder / "windows").mkdir()
    shared_place(folder / "windows", folder / "shared", "0" * 64)


def shared_where_nothing_is(folder):
    shared_place(folder / "windows", folder / "shared", "0" * 64)
    (folder / "shared").rename(folder / "away")
    shared_before(folder / "windows")


def no_disk(folder):
    make(folder)
    (folder / "src").rename(folder / "away")
    compare(folder)


def kaldi(folder: Path, *options: str) -> None:
    kaldi_dir.main(["--data_root", str(folder), "--out", str(folder / "out"), *options])


def no_languages(folder):
    (save_corpus(folder) / "train/utt2lang").unlink()
    kaldi(folder)


def no_language_in_a_table(folder):
    (folder / "mine.csv").write_text("audio,text\nx.wav,Hello.\n")
    table.main(["--data_root", str(folder / "mine.csv"), "--out", str(folder / "out")])


def unknown_language(folder):
    run(folder, corpus="csv", data_root=__file__, language="klingon")


def unknown_languages(folder):
    data = KaldiDir.load(save_corpus(folder) / "train")
    data.utt2lang[min(data.wav)] = "klingon"
    data.save(folder / "train")
    kaldi(folder)


def teacher(folder: Path, language: str) -> Path:
    """A Whisper that hears one language in everything, in windows of a second."""
    model = make_model(layers=1, audio_ctx=50)
    token = vocabulary_tokenizer(model.dims).special_tokens[f"<|{language}|>"]
    with torch.no_grad():
        words = model.decoder.token_embedding.weight
        model.decoder.positional_embedding[0] = 20 * words[token]
    return save_model(folder / "teacher.pt", model)


def another_language(folder):
    data = KaldiDir.load(save_corpus(folder) / "train")
    for number in range(10):
        data.add(f"spk9-{number}", data.wav[min(data.wav)], "text", "spk9", "de")
    data.save(folder / "train")
    check_languages.main(
        [
            "--teacher",
            str(teacher(folder, "it")),
            "--data",
            str(folder / "train"),
            "--out",
            str(folder / "doubts.json"),
        ]
    )


# In the order of the page.
CASES: list[Callable[[Path], object]] = [
    no_folder, no_option, larger_student, larger_student_in_a_file, no_such_teacher, no_model,
    tensorboard, no_apt, another_training, changed_model, another_scoring, changed_data,
    broken_data, data_of_another_experiment, shared_later, shared_where_nothing_is, no_disk,
    no_languages, no_language_in_a_table, unknown_language, unknown_languages, another_language,
]  # fmt: skip


def test_each_line_is_tried():
    assert len(LINES) == len(CASES)


@pytest.mark.parametrize(("case", "line"), [*zip(CASES, LINES, strict=False)])
def test_mistakes(case, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(RECIPE)  # dq.sh asks from its own folder
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    error = None
    try:
        case(tmp_path)
    except InputError as e:
        error = str(e)
    warnings = [x.partition("warning: ")[2] for x in capsys.readouterr().err.splitlines()]
    said = error or f"warning: {next(filter(None, warnings))}"
    assert re.fullmatch(".+".join(map(re.escape, YOURS.split(line))), said), said


def test_no_more_is_listened_to_than_needed(tmp_path):
    """Half of the clips are enough to know that a language is heard."""
    path = teacher(tmp_path, "en")
    found = heard(path, save_corpus(tmp_path) / "train")
    assert found == {"en": {"en": 2}, "ru": {"en": 4}}


@pytest.mark.slow
def test_languages_by_any_of_their_names(tmp_path):
    """In Kaldi folders, which `bin.validate_data` takes, too."""
    save_corpus(tmp_path)
    for split, name in (("train", "german"), ("dev", "de-DE"), ("test", "deu")):
        data = KaldiDir.load(tmp_path / split)
        data.utt2lang |= dict.fromkeys(data.wav, name)
        data.save(tmp_path / split)
    kaldi(tmp_path)
    for split in ("train", "dev", "test"):
        assert {*KaldiDir.load(tmp_path / "out" / split).utt2lang.values()} == {"de"}
    assert validate_data.main([str(tmp_path)]) == 0
