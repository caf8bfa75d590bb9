"""Every ready configuration is parsed and built."""

import re
from pathlib import Path

import pytest
import yaml

from espnet_dq.config import merge, parse_keys, read_config

DOCS = Path(__file__).parents[2] / "docs"
CONF = Path(__file__).parents[2] / "egs2/dq_whisper/asr1/conf"
FILES = sorted(CONF.rglob("*.yaml"))
# Keys -> for which of the trainings.
KEYS = dict(
    re.findall(
        r"^\| `([^`]*=[^`]*)` \| (kd|qat|both) \|",
        (DOCS / "training.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)


@pytest.fixture(scope="module")
def start(save_toy, tmp_path_factory):
    """A toy, and the folder in which stage 3 made it a student."""
    from espnet_dq.bin.init_student import main as init_student

    toy, folder = save_toy(seed=0), tmp_path_factory.mktemp("init")
    init_student(
        ["--from", str(toy), "--teacher", str(toy), "--grid", "ct2_int8", "--out", str(folder)]
    )
    return toy, folder


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_configuration_builds(path, start, tmp_path):
    builds(path, start, tmp_path)


@pytest.mark.parametrize("keys", sorted(KEYS))
def test_single_keys_build(keys, start, tmp_path):
    """Those that the page on training shows, in each file that it shows them for."""
    for name in {"kd": ["train"], "qat": ["qat_long"], "both": ["train", "qat"]}[KEYS[keys]]:
        changed = read_config(CONF / f"{name}.yaml")
        merge(changed, parse_keys(keys, "--train_args"), "--train_args: ")
        assert changed != read_config(CONF / f"{name}.yaml")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(changed))
        builds(path, start, tmp_path)


def builds(path, start, tmp_path):
    import torch

    from espnet_dq.task.plugin import register

    register()
    from espnet2.tasks.asr import ASRTask

    toy, folder = start
    dims = torch.load(toy, weights_only=True)["dims"]
    args = ASRTask.get_parser().parse_args(
        ["--config", str(path), "--output_dir", str(tmp_path), "--token_type", "bpe",
         "--bpemodel", "dq_whisper", "--token_list", str(folder / "tokens.txt"),
         "--encoder_conf", f"dims={dims}", "--decoder_conf", f"dims={dims}",
         "--model_conf", f"teacher_dims={dims}", "--model_conf", f"teacher={toy}"]
    )  # fmt: skip
    given = yaml.safe_load(path.read_text())
    assert args.model_conf.items() >= given["model_conf"].items()
    model = ASRTask.build_model(args)
    assert (model.specaug is None) == (given["specaug"] is None)
    assert model.settings.matching == given["model_conf"]["matching"]


def test_there_are_configurations():
    assert {"train", "qat", "train_long"} <= {p.stem for p in FILES} and len(KEYS) > 10
