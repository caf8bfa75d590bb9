"""The share of kd that dev and a canary like best, against openai-whisper's logits."""

import json
import shutil

import numpy as np
import pytest
import torch
import whisper
from hypothesis import given
from hypothesis import strategies as st

import espnet_dq as dq
from espnet_dq.data import canary
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.errors import InputError, WorkError
from espnet_dq.task.share import CHOICE, MARGIN, MOST_TRIED, SHARES, TRIED, choose, descend
from espnet_dq.task.start import init_student
from espnet_dq.whisper.dims import espnet_name
from tests import toys
from tests.scoring.test_likelihood import cost


@pytest.fixture
def exp(tmp_path):
    """An experiment as it is when kd has ended: toys, and noise for speech."""
    corpus = toys.save_corpus(tmp_path / "corpus")
    models = [
        toys.save_model(tmp_path / f"{seed}.pt", toys.make_model(state=32, layers=1, seed=seed))
        for seed in (0, 1)
    ]
    init_student(*models, "ct2_int8", tmp_path / "exp/init")
    state = whisper.load_model(str(models[1]), device="cpu").state_dict()
    torch.save({espnet_name(name): w for name, w in state.items()}, tmp_path / "exp/trained.pth")
    shutil.copytree(corpus / "dev", tmp_path / "exp/data/dev")
    test = KaldiDir.load(corpus / "test")
    for number, utt in enumerate(sorted(test.wav)):
        test.extra.setdefault(SET, {})[utt] = f"set{number % 2}"
        kinds = (canary.VOICES, canary.LANGUAGES, "other voices, babble at 10 dB", canary.NO_SPEECH)
        test.extra.setdefault(KIND, {})[utt] = kinds[number % 4]
    test.save(tmp_path / "exp" / CHOICE)
    return tmp_path / "exp"


@pytest.mark.slow
def test_the_least_nats_of_dev_and_canary(exp, tmp_path):
    share = choose(exp, exp / "trained.pth", "zeros")
    found = json.loads((exp / TRIED).read_text())
    tried, of = [*map(float, found["tried"])], [x.values() for x in found["tried"].values()]
    sums = dict(zip(tried, (d + (a + b) / 2 for d, a, b in of), strict=True))
    assert found["share"] == share and list(found["together"].values()) == [*sums.values()]
    # Half, and on until neither neighbour is better.
    assert tried == sorted(tried) and {0.5, share} <= {*tried} <= {*SHARES}
    near = [x for x in SHARES if abs(x - share) == 0.25]
    assert min(sums[x] for x in near) >= sums[share] - MARGIN and sums[share] <= sums[0.5]
    dev, heard = KaldiDir.load(exp / "data/dev"), KaldiDir.load(exp / CHOICE, [KIND, SET])
    for share, kinds in found["tried"].items():
        merged = dq.merge([tmp_path / "0.pt", tmp_path / "1.pt"], [1 - float(share), float(share)])
        net = whisper.load_model(str(dq.save(merged, tmp_path / f"{share}.pt")), device="cpu")
        assert list(kinds) == ["dev", canary.VOICES, canary.LANGUAGES]
        for kind, said in kinds.items():
            data, utts = heard, [u for u in heard.wav if heard.extra[KIND][u] == kind]
            if kind == "dev":
                data, utts = dev, list(dev.wav)
            columns = {}
            for utt in utts:
                column = (data.extra.get(SET, {}).get(utt), data.utt2lang[utt])
                columns.setdefault(column, []).append(cost(net, data, utt))
            nats = [sum(c for c, _ in x) / sum(n for _, n in x) for x in columns.values()]
            assert said == pytest.approx(np.mean(nats), rel=1e-5)  # as test_likelihood


@pytest.mark.slow
def test_windows_are_filled_as_in_training(exp, tmp_path):
    """Also of a table of whisper.cpp's grids, which the recipe trains for torch, with zeros."""
    (exp / "init/student.grid").write_text('{"decoder.token_embedding.weight": "ggml_q8_0"}')
    merged = dq.merge([tmp_path / "0.pt", tmp_path / "1.pt"])
    net = whisper.load_model(str(dq.save(merged, tmp_path / "half.pt")), device="cpu")
    dev = KaldiDir.load(exp / "data/dev")
    for padding in ("zeros", "silence"):
        choose(exp, exp / "trained.pth", padding)
        of = {}
        for utt, lang in dev.utt2lang.items():
            of.setdefault(lang, []).append(cost(net, dev, utt, silence=padding == "silence"))
        nats = [sum(c for c, _ in x) / sum(n for _, n in x) for x in of.values()]
        tried = json.loads((exp / TRIED).read_text())["tried"]["0.5"]
        assert tried["dev"] == pytest.approx(np.mean(nats), rel=1e-5)


@given(st.lists(st.floats(0.021, 1), min_size=4, max_size=4), st.integers(0, 4))
def test_one_dip_is_found_wherever_it_is(falls, dip):
    curve = [sum(falls[min(i, dip) : max(i, dip)]) for i in range(5)]
    asked = []

    def cost(place):
        asked.append(place)
        return curve[place]

    assert descend(cost, 5) == dip
    assert len({*asked}) == (3 if dip == 2 else MOST_TRIED)


def test_half_unless_another_is_clearly_better():
    assert descend([0.9, 0.6, 0.5, 0.49, 0.6].__getitem__, 5) == 2
    assert descend([0.9, 0.6, 0.5, 0.47, 0.46].__getitem__, 5) == 3


@pytest.mark.slow
def test_nothing_is_tried_twice(exp):
    share = choose(exp, exp / "trained.pth", "zeros")
    known = json.loads((exp / TRIED).read_text())
    (exp / TRIED).write_text(json.dumps(known | {"share": 0.125}))
    assert choose(exp, exp / "trained.pth", "zeros") == 0.125
    state = torch.load(exp / "trained.pth")
    torch.save({name: 1.5 * weight for name, weight in state.items()}, exp / "trained.pth")
    assert choose(exp, exp / "trained.pth", "zeros") in SHARES
    assert json.loads((exp / TRIED).read_text())["tried"]["0.5"] != known["tried"]["0.5"]
    (exp / TRIED).write_text(json.dumps(known))
    heard = KaldiDir.load(exp / CHOICE, [KIND, SET])
    heard.select(u for u in heard.wav if heard.extra[KIND][u] == canary.VOICES).save(exp / CHOICE)
    torch.save(torch.load(exp / "trained.pth"), exp / "trained.pth")
    choose(exp, exp / "trained.pth", "zeros")
    assert list(json.loads((exp / TRIED).read_text())["tried"]["0.5"]) == ["dev", canary.VOICES]
    assert share in SHARES


def test_a_damaged_note_is_named(exp):
    (exp / TRIED).write_text("{")
    with pytest.raises(InputError, match=r"merge\.json:1: not JSON"):
        choose(exp, exp / "trained.pth", "zeros")


def test_other_speech_is_needed(exp):
    shutil.rmtree(exp / CHOICE)
    with pytest.raises(InputError, match=r"--merge auto: .*data/choice: no such folder, by which"):
        choose(exp, exp / "trained.pth", "zeros")
    assert not (exp / TRIED).exists()


def test_a_training_that_went_astray_has_no_share(exp):
    state = torch.load(exp / "trained.pth")
    for factor, message in (
        (torch.nan, r"trained\.pth: encoder\..* is not all finite: its training went astray"),
        (1e30, r"0\.\d+ of kd: no number for dev: its training"),
    ):
        astray = {name: weight * factor for name, weight in state.items()}
        torch.save(astray, exp / "trained.pth")
        with pytest.raises(WorkError, match=message):
            choose(exp, exp / "trained.pth", "zeros")
        assert not (exp / TRIED).exists()
    torch.save({"decoder.x": torch.zeros(1)}, exp / "trained.pth")
    with pytest.raises(InputError, match=r"trained\.pth: has no encoder\..*: it is of another"):
        choose(exp, exp / "trained.pth", "zeros")
