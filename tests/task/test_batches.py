"""Batches of one language each, as ESPnet makes them of the recipe's files."""

from collections import Counter

import pytest
import yaml

from espnet_dq.bin.check_configs import main as check_configs
from espnet_dq.bin.collect_shapes import main as collect_shapes
from espnet_dq.data.kaldi import CATEGORY, KaldiDir, write_scp
from espnet_dq.data.pack import pack
from espnet_dq.errors import InputError
from espnet_dq.task.plugin import register
from espnet_dq.task.tokenizer import token_list
from espnet_dq.whisper.dims import SIZES
from tests.task.toy_recipe import make_corpus
from tests.toys import RECIPE

LANGUAGE = RECIPE / "conf/tuning/train_language.yaml"


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """Function (configuration) -> its batches' names and languages, through ESPnet's loader."""
    folder = tmp_path_factory.mktemp("batches")
    corpus = make_corpus(folder / "corpus", ["a word", "ein Wort", "слово", "parola"] * 10)
    pack(KaldiDir.load(corpus, extra=["utt2num_samples"]), folder / "train", longest=1.2)
    collect_shapes(["--data", str(folder / "train"), "--out", str(folder)])
    register()
    from espnet2.tasks.asr import ASRTask
    from espnet2.train.distributed_utils import DistributedOption

    def make(config):
        given = ["--config", str(config), "--output_dir", str(folder), "--token_type", "bpe",
                 "--bpemodel", "dq_whisper", "--num_workers", "0", "--train_shape_file",
                 str(folder / "speech_shape"), "--allow_variable_data_keys", "true"]  # fmt: skip
        for entry in ("wav.scp,speech,sound", "text,text,text", "utt2lang,lang,text"):
            given += ["--train_data_path_and_name_and_type", f"{folder}/train/{entry}"]
        args = ASRTask.get_parser().parse_args(given)
        args.token_list = token_list(SIZES["tiny"])  # as `build_model` leaves it
        factory = ASRTask.build_iter_factory(args, DistributedOption(), mode="train")
        return [(names, batch["lang"]) for names, batch in factory.build_iter(1)]

    make.windows = KaldiDir.load(folder / "train").utt2lang
    return make


def test_each_batch_is_of_one_language(batches):
    got = batches(LANGUAGE)
    assert all(len(lang.unique()) == 1 for _, lang in got)
    # All windows in turn, in whole batches but for each language's last.
    distinct = {tuple(names) for names, _ in got}
    assert Counter(u for names in distinct for u in names) == dict.fromkeys(batches.windows, 1)
    of = Counter(batches.windows.values())
    assert len(of) == 5 and max(of.values()) > 4
    expected = sorted(size for n in of.values() for size in [4] * (n // 4) + [n % 4] * (n % 4 > 0))
    assert sorted(map(len, distinct)) == expected


def test_other_batches_mix_them(batches, tmp_path):
    config = yaml.safe_load(LANGUAGE.read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**config, "batch_type": "unsorted"}))
    assert any(len(lang.unique()) > 1 for _, lang in batches(other))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "processes", "said"),
    [
        ({"fold_length": []}, 1, "batch_type folded needs fold_length"),
        ({"fold_length": [1, 2]}, 1, "batch_type folded needs fold_length"),
        ({"fold_length": 480001}, 1, "batch_type folded needs fold_length"),
        ({"fold_length": [0]}, 1, "batch_type folded needs fold_length"),
        ({"fold_length": ["480001"]}, 1, "batch_type folded needs fold_length"),
        ({"shuffle_within_batch": True}, 1, "shuffle_within_batch makes other batches"),
        ({}, 4, r"valid_batch_type folded: .*dev/utt2category: of 'ru' there are 2 windows for 4"),
        ({"batch_type": "unsorted", "valid_batch_type": "folded"}, 4, "dev/utt2category: of 'ru'"),
        (
            {"batch_type": "unsorted", "valid_batch_type": None, "batch_size": 16},
            12,
            "dev: 11 windows for 12 processes",
        ),
    ],
)
def test_batches_that_would_not_be_are_refused(save_toy, tmp_path, change, processes, said):
    toy, bad = str(save_toy()), tmp_path / "bad.yaml"
    for name, russian in (("train", 4), ("dev", 2)):
        languages = ["en"] * 9 + ["ru"] * russian
        (tmp_path / name).mkdir()
        for table in (CATEGORY, "wav.scp"):
            write_scp(tmp_path / name / table, {f"u{i}": x for i, x in enumerate(languages)})
    bad.write_text(yaml.safe_dump({**yaml.safe_load(LANGUAGE.read_text()), **change}))
    given = [str(bad), "--student", toy, "--teacher", toy, "--grid", "ct2_int8", "--processes",
             str(processes), "--data", str(tmp_path / "train"), str(tmp_path / "dev")]  # fmt: skip
    with pytest.raises(InputError, match=rf"bad\.yaml: .*{said}"):
        check_configs(given)
    bad.write_text(LANGUAGE.read_text())
    given[given.index("--processes") + 1] = "1"
    (tmp_path / "train" / CATEGORY).unlink()
    with pytest.raises(InputError, match=r"train/utt2category: no such file.*run --stage 2"):
        check_configs(given)
