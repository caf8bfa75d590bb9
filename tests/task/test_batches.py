"""Batches of one language each, as ESPnet makes them of the recipe's files."""

from collections import Counter

import pytest
import yaml

from espnet_dq.bin.check_configs import main as check_configs
from espnet_dq.bin.collect_shapes import main as collect_shapes
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.pack import pack
from espnet_dq.errors import InputError
from espnet_dq.plugin import register
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


def test_folded_without_its_length_is_refused(save_toy, tmp_path):
    toy, config = str(save_toy()), yaml.safe_load(LANGUAGE.read_text())
    bad = tmp_path / "bad.yaml"
    for lengths in ([], [1, 2]):
        bad.write_text(yaml.safe_dump({**config, "fold_length": lengths}))
        with pytest.raises(InputError, match=r"bad\.yaml: batch_type folded needs fold_length"):
            check_configs([str(bad), "--student", toy, "--teacher", toy, "--grid", "ct2_int8"])
