"""Parts of a folder, decoded by jobs and joined, against the folder decoded at once."""

import json

import pytest

from espnet_dq.data.kaldi import read_scp
from espnet_dq.decode.folder import decode_folder
from espnet_dq.decode.parts import join_parts
from espnet_dq.errors import InputError, WorkError
from espnet_dq.jobs import Part


def decode_parts(model, data, out, count, numbers=None):
    return [
        decode_folder(model, "faster-whisper", data, out, threads=1, part=Part(number, count))
        for number in numbers or range(1, count + 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])  # of 8 parts two are empty
def test_joined_parts_are_the_whole(toy_models, toy_data, tmp_path, count):
    model, out = toy_models["faster-whisper"], tmp_path / "out"
    with open(read_scp(toy_data / "wav.scp")["utt4"], "r+b") as f:
        f.truncate(900)
    whole = decode_folder(model, "faster-whisper", toy_data, tmp_path / "whole", threads=1)
    parts = decode_parts(model, toy_data, out, count)
    joined = join_parts(toy_data, out, count)
    assert (out / "text").read_bytes() == (tmp_path / "whole/text").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == ["decode.json", "text"]
    assert json.loads((out / "decode.json").read_text()) == joined
    assert joined.keys() == whole.keys() | {"jobs"} and joined["jobs"] == count
    for same in ("utterances", "failed", "cut", "token_limit", "audio_seconds", "options", "model"):
        assert joined[same] == whole[same], same
    assert joined["wall_seconds"] == pytest.approx(sum(p["wall_seconds"] for p in parts), abs=1e-3)
    # rtf is rounded to five places: half of the last, and at an exact half the sum's own rounding
    assert joined["rtf"] == pytest.approx(joined["wall_seconds"] / 8, abs=5e-6 + 1e-12)
    assert joined["peak_rss_bytes"] == max(p["peak_rss_bytes"] for p in parts)


@pytest.mark.slow
def test_parts_that_do_not_fit_are_named(toy_models, toy_data, tmp_path):
    model, out = toy_models["faster-whisper"], tmp_path / "out"
    decode_parts(model, toy_data, out, 2, [1])
    with pytest.raises(InputError, match=r"parts/2/2: this part has not been decoded"):
        join_parts(toy_data, out, 2)
    report = decode_parts(model, toy_data, out, 2, [2])[0]
    (out / "parts/2/2/decode.json").write_text(json.dumps(report | {"key": "of another model"}))
    with pytest.raises(InputError, match=r"parts/2/2: decoded from another model or data than"):
        join_parts(toy_data, out, 2)
    assert not (out / "text").exists()


def test_a_broken_part_is_named(toy_data, tmp_path):
    path = tmp_path / "parts/1/1/decode.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"failed": ')
    with pytest.raises(InputError, match=f"{path}:1: not JSON"):
        join_parts(toy_data, tmp_path, 1)


@pytest.mark.slow
def test_no_utterance_at_all(toy_models, toy_data, tmp_path):
    for path in read_scp(toy_data / "wav.scp").values():
        with open(path, "r+b") as f:
            f.truncate(900)
    decode_parts(toy_models["faster-whisper"], toy_data, tmp_path, 2)
    with pytest.raises(WorkError, match="no utterance could be decoded; utt0"):
        join_parts(toy_data, tmp_path, 2)
