"""Nothing of the user's is deleted or replaced, whatever `--out` is said to be.

Random folders stand at, below and beside every path that a command writes to. docs/security.md says
of each deletion why it takes nothing else.
"""

import ast
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import espnet_dq as dq
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.distill.cache import SHARD_FOLDER
from espnet_dq.errors import InputError, run
from espnet_dq.files import Folder, atomic, check_replaceable, new_folder, shared_place
from espnet_dq.task.checkpoints import repair
from tests.toys import ending, save_corpus, save_model, save_training

BIN = Path(__file__).parents[1] / "espnet_dq/bin"
# What commands only read.
READS = {
    "--aligner", "--against", "--canary", "--data", "--formatted", "--from", "--hyp", "--init",
    "--model", "--of", "--prepared", "--ref", "--start", "--student", "--systems", "--table",
    "--teacher", "--train", "--trained", "--dev", "--train_config", "--words", "configs",
    "folders", "path",
}  # fmt: skip
# (command, option) -> the arguments with which it writes to OUT, and what it writes there: a
# folder, a file, or files in a folder that may hold others. "/x": these inputs are not there, so
# that what is said of OUT is said before they are read.
FOLDERS = {
    ("convert", "--out"): "--from /x --to ct2 --out OUT",
    ("export", "--out"): "--exp /x --to onnx --out OUT",
    ("subset_data", "--out"): "--data /x --per_language 1 --out OUT",
    ("pack_windows", "--out"): "--data /x --out OUT",
    ("make_canary", "--out"): "--train /x --sets a=/x --out OUT",
    ("pseudo_label", "--out"): "--data /x --teacher /x --mode check --out OUT",
    ("score", "--out"): "--ref /x --hyp /x --out OUT",
    ("score", "--hyp"): "--ref /x --hyp OUT/..=score",
    ("format_data", "--out"): "--data /x --out OUT/..=train",
    ("web", "--out"): "--from /x --out OUT",
    ("publish", "--exp"): "--exp OUT/../..=publish/ct2 --data_licence x",
    ("decode", "--out"): "--model /x --runtime torch --data /x --out OUT/..=timed",
}
FILES = {
    ("convert", "file"): "--from /x --to openai --out OUT",
    ("export", "file"): "--exp /x --to packed --out OUT",
    ("verify", "--json"): "/x --against /x --json OUT",
    ("allocate", "--out"): "--table /x --budget_mb 1 --out OUT",
    ("calibrate", "--out"): "--model /x --data /x --out OUT",
    ("sensitivity", "--out"): "--model /x --data /x --out OUT",
    ("benchmark", "--out"): "--systems /x --data /x --out OUT",
    ("make_student", "--out"): "--from /x --out OUT=x.pt",
    ("merge_start", "--out"): "--exp /x --trained /x --share 0.5 --padding zeros --out OUT=x.pth",
    (
        "merge_start",
        "--exp",
    ): "--exp OUT/..=merge.json --trained /x --share auto --padding zeros --out x.pth",
    ("round_start", "--out"): "--exp /x --init /x --padding zeros --out OUT=x.pth",
    ("merge", "--out"): "--models /x /x --out OUT=x.pt",
    ("trim_vocabulary", "--out"): "--from /x --data /x --out OUT",
    ("plan", "--out"): "/x --data /x /x --grid ct2_int8 --out OUT/..=plan.json",
    ("write_cuts", "--out"): "--data /x --out OUT=x.jsonl.gz",
    ("collect_shapes", "--out"): "--data /x --out OUT/..=speech_shape",
    ("describe", "--exp"): "--exp OUT/..=run.json --corpus x --seed 0 --data /x --config x "
    "--command x --prepared /x --formatted /x --systems student",
    ("check_languages", "--out"): "--teacher /x --data /x --out OUT",
    ("make_data", "--out"): "--out OUT/..=source.jsonl /x",
    ("make_data", "--exp"): "--out /x --exp OUT/..=source.jsonl /x",
    ("report", "--exp"): "--exp OUT/..=RESULTS.md",
    ("init_student", "--out"): "--from /x --teacher /x --grid none --out OUT/..=tokens.txt",
    ("fetch_whisper", "--out"): "--model tiny --out OUT/..=tiny.pt --cache /x",
    ("decode", "file"): "--model /x --runtime torch --data /x --out OUT/..=decode.json",
}
# Held by other tests, of this file or of the one named.
ELSEWHERE = {
    ("run_training", "--exp"),  # test_only_a_trainings_own_checkpoints_are_removed
    ("decode", "--shared"),  # test_a_link_of_the_users_is_kept
    ("pack_windows", "--shared"),
    ("teacher_pass", "--shared"),
    ("fetch_whisper", "--cache"),  # files whose hash is pinned; tests/bin/test_fetch_whisper.py
    ("jobs", "--log"),  # tests/test_jobs.py
    ("end_jobs", "--exp"),  # tests/bin/test_end_jobs.py
    ("made_of", "folder"),  # tests/recipe/test_made_of.py
    ("teacher_pass", "--out"),  # test_a_cache_replaces_no_folder
    ("distil", "--out"),  # tests/task/test_distil.py
    ("transcribe", "--out"),  # tests/bin/test_transcribe.py
    ("export", "--exp"),  # only read
    ("round_start", "--exp"),
    ("round_systems", "--exp"),  # tests/bin/test_round_systems.py
}


def options() -> set[tuple[str, str]]:
    """(command, option) of all arguments that are paths, or are called as what writes is."""
    found = set()
    for path in BIN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
                kind = {k.arg: ast.unparse(k.value) for k in node.keywords}
                writes = {"--out", "--json", "--exp", "--cache", "--shared", "--work", "--log"}
                if names and (kind.get("type") == "Path" or writes & {*names}):
                    found.add((path.stem, names[0]))
    return found


def test_every_path_of_every_command_is_held():
    """A new option must be said to be read only, or be tried here."""
    known = FOLDERS.keys() | FILES.keys() | ELSEWHERE
    assert {x for x in options() if x[1] not in READS} <= known
    assert {x for x in known if x[1].startswith("-")} <= options()


def tree(folder: Path) -> dict[str, object]:
    """Everything below a folder: kinds, bytes, where links lead to; no link is followed."""
    found: dict[str, object] = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root, name)
            mode = path.lstat().st_mode
            content: object = stat.S_IFMT(mode)
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = content
    return found


NAMES = ["notes.txt", ".hidden", "a b", "wav.scp", "text", "model.bin", "config.json", "timed",
         "é", "-rf", "train", "score.json", ".x.tmp12", ".y.old1.pt", "cache", "x\ny"]  # fmt: skip


def fill(folder: Path, random: random.Random, depth: int = 0) -> Path:
    """Put files, folders, links and pipes into a folder, and at least one that is nobody's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in random.sample(NAMES, random.randint(1, 5)):
        path = folder / name
        kind = random.choice(["file", "file", "folder", "link", "pipe"])
        if kind == "folder" and depth < 2:
            fill(path, random, depth + 1)
        elif kind == "link":
            path.symlink_to(random.choice(["/etc", "nowhere", "..", "/etc/passwd"]))
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(random.randbytes(20))
    if depth == 0:
        (folder / "thesis.docx").write_bytes(b"years of work")
    return folder


def occupants(kind: str, path: Path, random: random.Random) -> str:
    """Put something at `path` that a file or a folder must not replace; returns what is said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ways = ["folder", "link", "pipe"] + ([] if kind == "file" else ["file", "nested"])
    way = random.choice(ways)
    if way == "folder":
        fill(path, random)
    elif way == "link":
        path.symlink_to(fill(path.with_name("elsewhere"), random))
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "file":
        path.write_bytes(b"mine")
    else:  # a folder called as one of our files
        for name in ("model.bin", "wav.scp", "encoder.onnx", "score.json"):
            (path / name).mkdir(parents=True)
            (path / name / "deep.txt").write_bytes(b"mine")
    return way


def call(command: str, arguments: list[str], capsys) -> tuple[int, str]:
    main = importlib.import_module(f"espnet_dq.bin.{command}").main
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(lambda: main(arguments))
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "command", "line"),
    [("folder", c, line) for (c, _), line in FOLDERS.items()]
    + [("file", c, line) for (c, _), line in FILES.items()],
)
def test_what_stands_at_out_survives(kind, command, line, tmp_path, capsys):
    """One line that names it, exit code 2, before any input is read."""
    for seed in range(12):
        chance = random.Random(seed)
        base = fill(tmp_path / f"{seed}", chance)
        arguments = line.split()
        for n, word in enumerate(arguments):
            if word.startswith("OUT"):
                asked, _, name = word.partition("=")
                out = base / "given" / (name or "out")
                arguments[n] = os.path.normpath(out / asked.removeprefix("OUT").lstrip("/"))
                if asked == "OUT":
                    arguments[n] = str(out)
        occupants(kind, out, chance)
        before = tree(base)
        code, said = call(command, arguments, capsys)
        assert code == 2 and said.count("\n") == 1, said
        assert str(out) in said or said.startswith(f"{command}: {out}"), said
        assert tree(base) == before


@pytest.fixture(scope="module")
def inputs(make_toy, tmp_path_factory) -> Path:
    """Models, formatted data, a decoding and a table to read."""
    root = tmp_path_factory.mktemp("inputs")
    save_model(root / "toy.pt", toy := ending(make_toy(layers=1, state=32)))
    save_training(root / "exp", toy, {"grid": "ct2_int8"})
    dq.save(dq.load(root / "toy.pt"), root / "hf", to="hf")
    for name in ("table.jsonl", "grids.yaml", "words.txt", "run.json"):
        (root / name).write_text("x")
    corpus = save_corpus(root / "corpus")
    for name in ("train", "test"):
        data = KaldiDir.load(corpus / name)
        data.extra["utt2num_samples"] = dict.fromkeys(data.wav, "16000")
        data.save(corpus / name)
    shutil.copytree(corpus / "dev", root / "timed")
    (root / "hyp").mkdir()
    (root / "hyp/text").write_bytes((corpus / "test/text").read_bytes())
    return root


REAL = {
    "convert": ["--from IN/toy.pt --to ct2 --grid ct2_int8 --out OUT",
                "--from IN/toy.pt --to onnx --grid onnx_int8 --out OUT",
                "--from IN/toy.pt --to hf --out OUT",
                "--from IN/toy.pt --to ggml --out OUT",
                "--from IN/toy.pt --to packed --out OUT"],
    "subset_data": ["--data IN/corpus/train --per_language 1 --out OUT"],
    "pack_windows": ["--data IN/corpus/train --out OUT"],
    "score": ["--ref IN/corpus/test --hyp IN/hyp --out OUT"],
    "format_data": ["--data IN/corpus --out OUT --allow_shared_text"],
    "write_cuts": ["--data IN/corpus/test --out OUT.jsonl.gz"],
    "collect_shapes": ["--data IN/corpus/test --out OUT"],
    "make_student": ["--from IN/toy.pt --out OUT.pt"],
    "merge": ["--models IN/toy.pt IN/toy.pt --out OUT.pt"],
    "trim_vocabulary": ["--from IN/toy.pt --data IN/corpus/test --out OUT.pt"],
    "init_student": ["--from IN/toy.pt --teacher IN/toy.pt --grid ct2_int8 --out OUT"],
    "calibrate": ["--model IN/toy.pt --data IN/corpus/test --clips 1 --out OUT"],
    "sensitivity": ["--model IN/toy.pt --data IN/corpus/test --clips 1 --grids uniform4 --out OUT"],
    "decode": ["--model IN/toy.pt --runtime torch --data IN/corpus/test --out OUT"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "line"), [(c, line) for c, lines in REAL.items() for line in lines]
)
def test_what_stands_beside_out_survives(command, line, inputs, tmp_path):
    """The command does its work, twice; all else is as before, and no temporary is left."""
    base = fill(tmp_path / "base", random.Random(line))
    fill(base / "out of mine", random.Random(1))
    before, read = tree(base), tree(inputs)
    main = importlib.import_module(f"espnet_dq.bin.{command}").main
    words = line.replace("IN/", f"{inputs}/").replace("OUT", str(base / "given")).split(" ")
    for _ in range(2):
        assert main(words) == 0
        after = tree(base)
        assert {name: after.get(name) for name in before} == before
        assert all(name.startswith("given") for name in after.keys() - before.keys())
    assert tree(inputs) == read


def test_one_foreign_thing_among_ours(inputs, tmp_path):
    """A folder that is ours and has one thing more, or one of ours as another kind of thing."""
    data = KaldiDir.load(inputs / "corpus/dev")
    for number, (name, make) in enumerate(
        [
            ("notes.txt", lambda p: p.write_text("x")),
            (".notes", lambda p: p.write_text("x")),
            ("TEXT", lambda p: p.write_text("x")),
            ("text.bak", lambda p: p.write_text("x")),
            ("wav", lambda p: p.mkdir()),
            ("segments", lambda p: p.mkdir()),
            ("segments", lambda p: p.symlink_to("/etc/passwd")),
            ("segments", os.mkfifo),
            (".text.tmp12", lambda p: p.write_text("x")),
        ]
    ):
        out = tmp_path / str(number)
        data.save(out)
        make(out / name)
        before = tree(out)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            KaldiDir.load(inputs / "corpus/test").save(out)
        assert tree(out) == before and len(list(tmp_path.iterdir())) == number + 1
    # What a killed writer of such a file has left is no reason to refuse.
    data.save(tmp_path / "killed")
    (tmp_path / "killed/.labels.tmp-host-12-0a1b2c3d.json").write_text("x")
    data.save(tmp_path / "killed")


def test_patterns_reach_no_further_than_they_say(tmp_path):
    folder = Folder("toy", ("a", "part_*/*.ark"))
    for name in ("part_1/x.ark", "a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    check_replaceable(tmp_path, folder)
    for name in ("part_1/.x.ark", "part_1/deep/x.ark", "x.ark", "part_2", "b", "part_1/a"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        with pytest.raises(InputError, match="which no toy folder has"):
            check_replaceable(tmp_path, folder)
        path.unlink()
        if name.startswith("part_1/deep"):
            path.parent.rmdir()


def test_what_is_put_there_during_the_work_survives(tmp_path):
    """The check before the work is not enough."""
    folder = Folder("toy", ("a",))
    with pytest.raises(InputError, match="holds mine"), atomic(tmp_path / "x", folder) as tmp:
        tmp.mkdir()
        (tmp / "a").write_text("ours")
        (tmp_path / "x").mkdir()
        (tmp_path / "x/mine").write_text("mine")
    with pytest.raises(InputError, match="is a link"), atomic(tmp_path / "y") as tmp:
        tmp.write_text("ours")
        (tmp_path / "y").symlink_to("x/mine")
    assert tree(tmp_path) == {"x": stat.S_IFDIR, "x/mine": b"mine", "y": "x/mine"}


@pytest.mark.parametrize(
    "line",
    [
        "convert --from IN/toy.pt --to openai --out IN/toy.pt",
        "convert --from IN/toy.pt --to packed --out IN/corpus/../toy.pt",
        "make_student --from IN/toy.pt --out IN/toy.pt",
        "merge --models IN/toy.pt IN/toy.pt --out IN/toy.pt",
        "trim_vocabulary --from IN/toy.pt --data IN/corpus/test --out IN/toy.pt",
        "subset_data --data IN/corpus/train --per_language 1 --out IN/corpus/train",
        "pack_windows --data IN/corpus/train --out IN/corpus/train",
        "pseudo_label --data IN/corpus/dev --teacher /x --mode check --out IN/corpus/dev",
        "make_canary --train IN/corpus/train --sets a=/x --out IN/corpus/train",
        "make_canary --train /x --sets a=IN/corpus/dev --out IN/corpus/dev",
        "calibrate --model IN/toy.pt --data /x --out IN/toy.pt",
        "allocate --table IN/table.jsonl --budget_mb 9 --out IN/table.jsonl",
        "benchmark --systems IN/run.json --data /x --out IN/run.json",
        "check_languages --teacher IN/toy.pt --data /x --out IN/toy.pt",
        "merge_start --exp /x --trained IN/toy.pt --share 1 --padding zeros --out IN/toy.pt",
        "round_start --exp /x --init IN/toy.pt --padding zeros --out IN/toy.pt",
        "trim_vocabulary --from IN/toy.pt --words IN/words.txt --out IN/words.txt",
        "convert --from /x --to openai --grid IN/grids.yaml --out IN/grids.yaml",
        "verify /x --against /x --grid IN/grids.yaml --json IN/grids.yaml",
        "decode --model /x --runtime torch --data IN/timed --out IN/corpus/..",
    ],
)
def test_what_is_read_is_not_replaced(line, inputs, capsys):
    before = tree(inputs)
    command, *arguments = line.replace("IN/", f"{inputs}/").split(" ")
    code, said = call(command, arguments, capsys)
    assert code == 2 and "is what is read" in said
    assert tree(inputs) == before


@pytest.mark.parametrize(
    "form, name, to", [("packed", "model.safetensors", "hf"), ("ggml", "model.bin", "ct2")]
)
def test_what_is_read_inside_out_survives(form, name, to, inputs, tmp_path, capsys):
    """It has the name of a file that the writer of a folder writes, too."""
    out = tmp_path / "d"
    out.mkdir()
    dq.save(dq.load(inputs / "toy.pt"), out / name, to=form)
    before = tree(out)
    given = ["--from", str(out / name), "--to", to, "--out", str(out)]
    code, said = call("convert", given, capsys)
    assert code == 2 and f"{out}: holds what is read, {out / name}" in said
    assert tree(out) == before


@pytest.mark.parametrize(
    "line",
    [
        "convert --from IN/hf --to packed --out IN/hf/model.safetensors",
        "calibrate --model /x --data IN/corpus/dev --out IN/corpus/dev/text",
        "benchmark --systems /x --data IN/corpus/dev --out IN/corpus/dev/wav.scp",
        "check_languages --teacher /x --data IN/corpus/dev --out IN/corpus/dev/text",
        "trim_vocabulary --from IN/toy.pt --data IN/corpus/dev --out IN/corpus/dev/text",
        "convert --from /x --to openai --data IN/corpus/dev --out IN/corpus/dev/text",
        "convert --from IN/hf --to ggml --out IN/hf/pytorch_model.bin",  # which is not there
        "convert --from IN/exp --to openai --out IN/exp/qat/valid.loss.ave.pth",
        "export --exp IN/exp --to openai --out IN/exp/qat/valid.loss.ave.pth",
        "make_student --from IN/hf --out IN/hf/adapter_model.pt",
        "merge --models IN/exp IN/exp --out IN/exp/qat/adapter_x.pt",
        "trim_vocabulary --from IN/hf --words IN/words.txt --out IN/hf/tokenizer.json",
        "calibrate --model IN/exp --data IN/corpus/dev --out IN/exp/qat/valid.loss.ave.pth",
        "calibrate --model IN/exp/qat --data IN/corpus/dev --out IN/exp/qat/ranges.json",
        "sensitivity --model IN/hf --data IN/corpus/dev --out IN/hf/vocab.json",
        "verify IN/hf --against IN/toy.pt --grid none --json IN/hf/config.json",
        "verify IN/hf --against IN/toy.pt --grid none --json IN/hf/verify.json",
        "verify IN/hf --against IN/exp --json IN/exp/qat/valid.loss.ave.pth",
        "verify IN/hf --against IN/exp/qat --json IN/exp/qat/valid.loss.ave.pth",
        "transcribe --model IN/hf --out IN/hf merges.wav",  # which is not there
        "transcribe --model IN/hf --out IN/hf --format json --replace config.wav",
        "transcribe --model IN/exp --out IN/exp/qat --format srt any.wav",
    ],
)
def test_no_part_of_what_is_read_is_replaced(line, inputs, capsys):
    """Nor added to a model: the next reader would take it for one."""
    before = tree(inputs)
    command, *arguments = line.replace("IN/", f"{inputs}/").split(" ")
    code, said = call(command, arguments, capsys)
    assert code == 2 and "would be a part of what is read" in said
    assert tree(inputs) == before


def test_what_lies_beside_a_model_is_written_twice(inputs, tmp_path):
    """Whether it is there or not makes no difference."""
    shutil.copytree(inputs / "exp", tmp_path / "exp")
    shutil.copytree(inputs / "hf", tmp_path / "hf")
    convert, verify = (
        importlib.import_module(f"espnet_dq.bin.{name}").main for name in ("convert", "verify")
    )
    ours = str(tmp_path / "exp/student.safetensors")
    against = ["--against", str(tmp_path / "exp"), "--json", str(tmp_path / "exp/verify.json")]
    theirs = [
        "--from",
        str(tmp_path / "hf"),
        "--to",
        "ggml",
        "--out",
        str(tmp_path / "hf/ggml.bin"),
    ]
    for _ in range(2):
        assert convert(["--from", str(tmp_path / "exp"), "--to", "packed", "--out", ours]) == 0
        assert verify([ours, *against]) == 0
        assert convert(theirs) == 0


@pytest.mark.parametrize("path", [".", "..", "x/.."])
def test_a_path_without_a_name_is_refused_before_the_work(path, inputs, tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    with pytest.raises(InputError, match="gives no name to what is written"):
        dq.save(dq.load(inputs / "toy.pt"), path, to="hf")
    assert not tree(tmp_path / "x")


def test_recordings_beside_packed_windows_survive(inputs, tmp_path, capsys):
    (tmp_path / "out_wav").mkdir()
    (tmp_path / "out_wav/000000.wav").write_bytes(b"mine")
    (tmp_path / "out_wav/notes").write_bytes(b"mine")
    before = tree(tmp_path)
    data = str(inputs / "corpus/train")
    code, said = call("pack_windows", ["--data", data, "--out", str(tmp_path / "out")], capsys)
    assert code == 2 and "out_wav: holds notes" in said
    assert tree(tmp_path) == before


def test_a_cache_replaces_no_folder(inputs, tmp_path):
    """A shard is written only where nothing is; what is beside it stays."""
    fill(tmp_path / "cache", random.Random(0))
    before = tree(tmp_path)
    shard = tmp_path / "cache/shards/x/00000"
    fill(shard, random.Random(1))
    before = tree(tmp_path)
    with pytest.raises(InputError, match="which no shard folder has"), atomic(shard, SHARD_FOLDER):
        pass
    assert tree(tmp_path) == before


def test_a_link_of_the_users_is_kept(tmp_path):
    """--shared replaces its own links only."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").symlink_to("mine")
    with pytest.raises(InputError, match="none that --shared has made"):
        shared_place(tmp_path / "out", tmp_path / "shared", "0" * 64)
    assert os.readlink(tmp_path / "out") == "mine"
    for key in ("0" * 64, "1" * 64):
        place = shared_place(tmp_path / "ours", tmp_path / "shared", key)
        assert (tmp_path / "ours").readlink() == place


def test_text_that_was_not_decoded_survives(tmp_path, inputs, capsys):
    """A Kaldi folder's own text is a reference."""
    before = tree(inputs)
    data = str(inputs / "corpus/test")
    line = ["--model", "/x", "--runtime", "torch", "--data", data, "--out", data]
    code, said = call("decode", line, capsys)
    assert code == 2 and f"{data}/text: not decoded" in said
    assert tree(inputs) == before


def test_fetching_replaces_no_checkpoint_of_the_users(tmp_path, capsys):
    (tmp_path / "tiny.pt").write_bytes(b"fine-tuned for weeks")
    line = ["--model", "tiny", "--out", str(tmp_path), "--cache", str(tmp_path / "none")]
    code, said = call("fetch_whisper", line, capsys)
    assert code == 2 and "tiny.pt: was not fetched" in said
    assert tree(tmp_path) == {"tiny.pt": b"fine-tuned for weeks"}


def test_a_file_that_is_resumed_is_ours(tmp_path, inputs, capsys):
    """A last line without its end is taken away of a table of ours only."""
    out = tmp_path / "notes"
    out.write_text("first\nlast, without a line break")
    before = tree(tmp_path)
    data = str(inputs / "corpus/test")
    line = ["--model", str(inputs / "toy.pt"), "--data", data, "--out", str(out)]
    code, _ = call("sensitivity", line, capsys)
    assert code == 2 and tree(tmp_path) == before
    labels = tmp_path / "test.labels.jsonl"
    labels.write_text("first\nlast, without a line break")
    before = tree(tmp_path)
    line = ["--data", data, "--teacher", str(inputs / "toy.pt"), "--mode", "check"]
    code, _ = call("pseudo_label", [*line, "--out", str(tmp_path / "x")], capsys)
    assert code == 2 and tree(tmp_path) == before


def test_only_a_trainings_own_checkpoints_are_removed(tmp_path):
    for name in ("checkpoint.pth", "best.pth", "3epoch.pth"):
        (tmp_path / name).write_bytes(b"of another program")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="no output_dir of ESPnet's"):
        repair(tmp_path)
    assert tree(tmp_path) == before
    (tmp_path / "config.yaml").write_text("")
    assert "training starts again" in repair(tmp_path)[0]
    assert sorted(os.listdir(tmp_path)) == ["best.pth", "config.yaml"]


def test_a_folder_to_be_emptied_is_new(tmp_path):
    new_folder(tmp_path / "a/b")
    new_folder(tmp_path / "a/b")
    with pytest.raises(InputError, match="is not empty"):
        new_folder(tmp_path / "a")


def write_often(path: Path, folder: bool, number: int, rounds: int) -> None:
    for n in range(rounds):
        with atomic(path, Folder("toy", ("a", "b")) if folder else None) as tmp:
            content = f"{number} {n} " * 500
            if folder:
                tmp.mkdir()
                (tmp / "a").write_text(content)
                (tmp / "b").write_text(content)
            else:
                tmp.write_text(content)


@pytest.mark.slow
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("locks", [True, False])
def test_of_two_that_write_one_target_one_is_whole(folder, locks, tmp_path, monkeypatch):
    """Four processes, all with one number as in four containers; also where there are no locks."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    if not locks:
        monkeypatch.setattr("fcntl.flock", refuse)
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=write_often, args=(tmp_path / "x", folder, n, 100)) for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert os.listdir(tmp_path) == ["x"]
    files = [tmp_path / "x"] if not folder else [tmp_path / "x/a", tmp_path / "x/b"]
    (content,) = {file.read_text() for file in files}
    assert len(content.split()) == 1000 and len({*content.split()}) <= 2


def refuse(*_: object) -> None:
    raise OSError("no locks here")


ENDLESS = """
import sys, time
from pathlib import Path
from espnet_dq.errors import run
from espnet_dq.files import Folder, atomic

def main():
    with atomic(sys.argv[1], Folder("toy", ("a",))) as tmp:
        tmp.mkdir()
        with open(tmp / "a", "w") as f:
            f.write("half")
            f.flush()
            print("ready", flush=True)
            time.sleep(60)

run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(number, tmp_path):
    """What stood there stands there still; one line, and the exit code of the signal."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").write_text("before")
    before = tree(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path / "x")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    assert len(os.listdir(tmp_path)) == 2
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said.count("\n") == 1 and "Traceback" not in said
    assert tree(tmp_path) == before
