"""Every block of Python in README and docs, as it stands, on toys in the place of real models.

Those of model cards, beside the files of their folders, run in tests/bin/test_publish.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import whisper
from whisper.tokenizer import get_tokenizer

import espnet_dq as dq
from espnet_dq.api import training
from espnet_dq.data.audio import save_wav
from espnet_dq.files import sha256
from tests import toys
from tests.test_docs import NAMES, ROOT, page


def python(name: str) -> list[str]:
    """The blocks of a page in their order; of its other blocks it must be said what they are."""
    fences = [token for token in page(ROOT / name) if token.type in ("fence", "code_block")]
    assert all(token.info in ("python", "sh", "yaml", "text", "") for token in fences), name
    return [token.content for token in fences if token.info == "python"]


BLOCKS = {name: blocks for name in NAMES if (blocks := python(name))}


def test_pages_with_python_are_found():
    assert {"README.md", "docs/api.md"} <= BLOCKS.keys()
    unmarked = [
        t.content for n in NAMES for t in page(ROOT / n) if t.type == "fence" and not t.info
    ]
    assert not [content for content in unmarked if "import " in content]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The current folder, in which there is all that the pages name."""
    weights = tmp_path / "cache/pt"
    weights.mkdir(parents=True)
    for name, toy in (
        ("tiny", toys.ending(toys.make_model(text_ctx=64))),
        ("base", toys.make_model(1, 32, 3)),
    ):
        path = toys.save_model(weights / f"{name}.pt", toy)
        path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path)}))
    monkeypatch.setenv("ESPNET_DQ_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # openai-whisper's own name is then a file's.
    monkeypatch.delitem(whisper._MODELS, "tiny")
    Path("tiny").symlink_to(weights / "tiny.pt")
    for name in ("talk.wav", "call.wav"):
        save_wav(name, np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32))
    return folder


def trained(exp: Path) -> None:
    """What a training leaves."""
    toys.save_training(exp, toys.ending(toys.make_model(text_ctx=64)), {"grid": "ct2_int8"})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:FutureWarning:peft")
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_runs_as_it_stands(name, place, monkeypatch, capsys):
    exp = Path("egs2/dq_whisper/asr1/exp/asterisk_base_tiny_ct2_int8")
    trained(exp)
    dq.save(dq.load(exp), exp / "export/student")
    # The training of docs/api.md is finished; tests/recipe/test_recipe.py has one that is not.
    toys.save_corpus(Path("data"))
    trained(Path("exp/mine"))
    monkeypatch.setattr(training, "_begin", lambda out, settings: None)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS[name]):
        exec(compile(block, f"{name}, block {number}", "exec"), names)
    said = capsys.readouterr().out
    words = get_tokenizer(multilingual=True).decode([*range(1004, 1010)])
    if any("print(" in block for block in BLOCKS[name]):  # what is transcribed
        assert words.strip() in said
    if name == "docs/api.md":
        assert said.startswith("0 values differ in ")
        assert " s to 2.0 s: " in said and "50.0 % of the words are wrong\n" in said


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs_as_it_stands(place, capsys):
    notebook = json.loads((ROOT / "examples/transcribe.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    # One word more than without timestamps: the prompt is shorter.
    words = get_tokenizer(multilingual=True).decode([*range(1003, 1010)]).strip()
    first, *others = words.split()
    Path("call.txt").write_text(f" {first} \n", encoding="utf-8")
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"transcribe.ipynb, {number}", "exec"), names)
    assert [s.text for s in names["segments"]] == [words]
    assert f"WER {100 * len(others):.1f}, CER " in capsys.readouterr().out
