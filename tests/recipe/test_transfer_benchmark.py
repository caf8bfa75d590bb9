"""benchmarks/transfer.py on toys, and which stamps benchmarks/tuxpaint_texts.py keeps."""

import json
from pathlib import Path

import pytest

import transfer
import tuxpaint_texts
from espnet_dq.data.corpus import Clip
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.errors import InputError
from tests import toys


@pytest.mark.slow
def test_two_models(tmp_path, capsys):
    corpus = toys.save_corpus(tmp_path / "corpus")
    model = toys.ending(toys.make_model(state=32, layers=1))
    paths = [toys.save_model(tmp_path / f"{name}.pt", model) for name in ("one", "two")]
    other = KaldiDir.load(corpus / "dev")
    for utt in other.wav:
        other.utt2spk[utt] = f"new-{other.utt2lang[utt]}"
        if other.utt2lang[utt] == "ru":
            other.utt2lang[utt] = "uk"
    other.save(tmp_path / "other")
    out = tmp_path / "out.jsonl"
    command = ["--models", *(f"{p.stem}={p}" for p in paths), "--seen", f"noise={corpus / 'test'}"]
    command += ["--work", str(tmp_path / "work"), "--out", str(out), "--threads", "1"]
    assert transfer.main([*command, "--unseen", f"more={tmp_path / 'other'}", "--snr", "10"]) == 0
    one, two = map(json.loads, out.read_text().splitlines())
    assert list(one["kinds"]) == [
        "seen voices", "other voices", "other languages", "other voices, babble at 10 dB",
        "other voices, stationary noise at 10 dB",
    ]  # fmt: skip
    assert one["kinds"]["seen voices"].keys() == {"mean", "noise en", "noise ru"}
    assert one["kinds"]["other languages"].keys() == {"mean", "more uk"}
    assert one["kinds"] == two["kinds"] and one["model"] != two["model"]  # the same weights
    assert all(of["mean"]["ratio"] == 1 for of in two["kinds"].values())
    assert [x["bytes"] for x in (one, two)] == [p.stat().st_size for p in paths]
    printed = capsys.readouterr().out
    assert "### no speech: words a minute, by default" in printed
    assert "of a window at most as many errors as words" in printed
    with pytest.raises(InputError, match="no other voices"):
        (tmp_path / "again").mkdir()
        uk = other.select(u for u in other.wav if other.utt2lang[u] == "uk")
        uk.save(tmp_path / "uk")
        transfer.main([*command, "--unseen", f"more={tmp_path / 'uk'}"])


def test_what_is_nearest_to_its_own_text_is_kept():
    texts = {"a": "Un cuervo.", "b": "Una gallina.", "c": "Una vaca.", "d": "Un cuervo."}
    clips = [Clip("es", p, "s", Path("x"), text) for p, text in texts.items()]
    said = {"a": "un cuerbo", "b": "una vaca", "c": "", "d": "Un cuervo"}
    assert tuxpaint_texts.kept("es", clips, said) == ["a", "d"]
    order = [c.prompt for c in tuxpaint_texts.in_order({"es": clips, "fr": clips[:1]})]
    assert sorted(order) == ["a", "a", "b", "c", "d"] and len(order) == 5
