import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data, pack_windows, validate_data
from espnet_dq.data import audio as audio_module
from espnet_dq.data import cut as cut_module
from espnet_dq.data import formatting
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.data.segments import Segment
from espnet_dq.data.validation import faults
from espnet_dq.errors import InputError
from local import kaldi_dir


def add(data, path, utt, text, length=1.0, rate=16000, channels=1, lang="en"):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).normal(0, 0.1, (int(rate * length), channels))
    soundfile.write(path, noise, rate)
    data.add(utt, path, text, "s", lang)


@pytest.fixture
def splits(tmp_path):
    """Three splits with one good utterance each, not saved yet."""
    made = {}
    for name in ("train", "dev", "test"):
        made[name] = KaldiDir()
        add(made[name], tmp_path / f"audio/{name}.wav", f"s-{name}", f"Text of {name}.")
    return made


def run(tmp_path, splits, *options):
    for name, data in splits.items():
        data.save(tmp_path / "data" / name)
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "dump")]
    arguments += ["--max_left_out", "100", *options]
    assert format_data.main(arguments) == 0
    return json.loads((tmp_path / "dump/format.json").read_text())


def test_lengths_rates_and_bad_audio(tmp_path, splits):
    audio, train = tmp_path / "audio", splits["train"]
    add(train, audio / "long.wav", "s-long", "long", length=30.1)
    add(train, audio / "just.wav", "s-just", "just", length=30.0)
    add(train, audio / "short.wav", "s-short", "short", length=0.09)
    add(train, audio / "rate.wav", "s/rate", "rate", rate=44100)
    add(train, audio / "stereo.wav", "s-stereo", "stereo", channels=2)
    add(train, audio / "mp3.mp3", "s-mp3", "mp3", rate=16000)
    add(train, audio / "cut.wav", "s-cut", "cut")
    (audio / "cut.wav").write_bytes((audio / "cut.wav").read_bytes()[:5000])
    add(train, audio / "none.flac", "s-none", "none")
    (audio / "none.flac").write_bytes(b"")
    report = run(tmp_path, splits)
    assert report["train"]["left_out"] == {
        "empty audio": 1,
        "longer than 30 s": 1,
        "shorter than 0.1 s": 1,
        "truncated audio": 1,
    }
    assert report["train"]["utterances"] == 5
    assert report["shared_texts"] == 0
    data = KaldiDir.load(tmp_path / "dump/train", extra=["utt2num_samples"])
    assert faults(tmp_path / "dump/train") == []
    assert data.wav["s-train"] == str(audio / "train.wav")  # used where it is
    for utt, path in data.wav.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.frames == int(data.extra["utt2num_samples"][utt])
    assert data.extra["utt2num_samples"]["s-just"] == "480000"
    assert abs(int(data.extra["utt2num_samples"]["s/rate"]) - 16000) < 20


def test_of_what_is_too_long_no_more_is_decoded(tmp_path, monkeypatch):
    """Hours would be decoded, and written to the disk, to be left out."""
    soundfile.write(tmp_path / "x.wav", np.full(60 * 8000, 0.1), 8000)
    save_wav(tmp_path / "y.wav", np.full(60 * SAMPLE_RATE, 0.1, np.float32))
    read, seconds = audio_module.read_audio, []

    def counted(*given):
        for block in read(*given):
            seconds.append(len(block) / SAMPLE_RATE)
            yield block

    for module in (audio_module, cut_module):
        monkeypatch.setattr(module, "read_audio", counted)
    for name in "xy":
        recording = cut_module.Recording(str(tmp_path / f"{name}.wav"), None, [("u", Segment("u"))])
        (piece,) = cut_module.cut(tmp_path / "wav", recording, 30.0)
        assert piece.fault == "longer than 30 s" and sum(seconds) <= 50
        seconds.clear()
    assert not [*tmp_path.glob("wav/*")]


def test_limits_are_options(tmp_path, splits):
    add(splits["train"], tmp_path / "audio/x.wav", "s-x", "x", length=2.0)
    report = run(tmp_path, splits, "--max_seconds", "1.5", "--min_seconds", "0.5", "--nj", "2")
    assert report["train"]["left_out"] == {"longer than 1.5 s": 1}


def test_long_ones_are_split(tmp_path, splits, monkeypatch):
    """By whatever `Splitter` says; see tests/labels/test_split.py for what it says."""
    asked = []

    class Halves:
        def __init__(self, aligner, longest, threads):
            assert (aligner, longest) == (tmp_path / "x.pt", 1.5)

        def split(self, utt, source, text, language, folder):
            asked.append(utt)
            audio = load_audio(source)
            paths = [folder / f"{utt}-000{i}.wav" for i in (0, 2)]
            for path in paths:
                save_wav(path, audio[:16000])
            good = [(str(p), 16000, word) for p, word in zip(paths, text.split(), strict=True)]
            return good, Counter({"nothing said": 1})

    monkeypatch.setattr("espnet_dq.labels.split.Splitter", Halves)
    for name in splits:
        add(splits[name], tmp_path / f"audio/{name}-x.wav", f"s-{name}-x", f"in {name}", 3.0)
    options = ["--long", "split", "--aligner", str(tmp_path / "x.pt"), "--max_seconds", "1.5"]
    report = run(tmp_path, splits, *options)
    assert asked == ["s-train-x", "s-dev-x"]  # test stays whole
    for name in ("train", "dev"):
        assert report[name]["split"] == {"utterances": 1, "pieces": 2}
        assert report[name]["left_out"] == {"nothing said": 1}
        data = KaldiDir.load(tmp_path / "dump" / name, extra=["utt2num_samples"])
        assert faults(tmp_path / "dump" / name) == []
        pieces = {f"s-{name}-x-0000": "in", f"s-{name}-x-0002": name}
        assert data.text == {f"s-{name}": f"Text of {name}."} | pieces
        assert set(data.extra["utt2num_samples"].values()) == {"16000"}
    assert "split" not in report["test"]
    assert set(KaldiDir.load(tmp_path / "dump/test").wav) == {"s-test", "s-test-x"}
    add(splits["dev"], tmp_path / "audio/clash.wav", "s-dev-x-0002", "clash")
    with pytest.raises(InputError, match="'s-dev-x-0002' is an utterance and a piece"):
        run(tmp_path, splits, *options)


def test_audio_that_nobody_has_transcribed(tmp_path, splits):
    """Stages 1 and 2 of train and dev without a text; what needs one refuses them."""
    for name, data in splits.items():
        data.save(tmp_path / "mine" / name)
        if name != "test":
            (tmp_path / "mine" / name / "text").unlink()
    given = ["--data_root", str(tmp_path / "mine"), "--out", str(tmp_path / "data")]
    assert validate_data.main([str(tmp_path / "mine/train"), "--untranscribed"]) == 0
    with pytest.raises(InputError, match="train/text: no such file"):
        kaldi_dir.main(given)
    assert kaldi_dir.main([*given, "--untranscribed"]) == 0
    given = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "dump")]
    with pytest.raises(InputError, match="train/text:1: nothing after the key 's-train'"):
        format_data.main(given)
    assert format_data.main([*given, "--untranscribed"]) == 0
    report = json.loads((tmp_path / "dump/format.json").read_text())
    assert [report[name]["utterances"] for name in splits] == [1, 1, 1]
    assert report["shared_texts"] == 0  # that train and dev both have none is not one
    assert report["voices"]["label"] == "seen voices" and "one speaker" in report["voices"]["said"]
    assert read_scp(tmp_path / "dump/dev/text", empty=True) == {"s-dev": ""}
    packed = ["--data", str(tmp_path / "dump/train"), "--out", str(tmp_path / "packed")]
    with pytest.raises(InputError, match="train/text:1: nothing after the key 's-train'"):
        pack_windows.main(packed)


def test_relative_paths_become_absolute(tmp_path, splits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits["dev"].wav["s-dev"] = "audio/dev.wav"
    run(tmp_path, splits)
    assert KaldiDir.load("dump/dev").wav["s-dev"] == str(tmp_path / "audio/dev.wav")


def test_one_id_in_two_splits(tmp_path, splits):
    add(splits["test"], tmp_path / "audio/y.wav", "s-train", "other words")
    with pytest.raises(InputError, match="'s-train' is in both train and test"):
        run(tmp_path, splits)
    assert not (tmp_path / "dump").exists()


def test_one_file_in_two_splits(tmp_path, splits):
    (tmp_path / "audio/link.wav").symlink_to(tmp_path / "audio/dev.wav")
    splits["test"].wav["s-test"] = str(tmp_path / "audio/link.wav")
    with pytest.raises(InputError, match=r"dev\.wav is in both dev and test"):
        run(tmp_path, splits)


def test_one_text_in_two_splits(tmp_path, splits, capsys):
    splits["test"].text["s-test"] = "TEXT of: train!"
    with pytest.raises(InputError, match=r"train and test: 'text of train' \(en\)"):
        run(tmp_path, splits)
    assert run(tmp_path, splits, "--allow_shared_text")["shared_texts"] == 1
    captured = capsys.readouterr()
    assert "warning" in captured.out + captured.err
    splits["test"].utt2lang["s-test"] = "de"  # the same words in another language
    assert run(tmp_path, splits)["shared_texts"] == 0


def test_a_split_without_usable_audio(tmp_path, splits):
    (tmp_path / "audio/dev.wav").write_bytes(b"")
    with pytest.raises(InputError, match="dev: no utterance is left"):
        run(tmp_path, splits)


@pytest.mark.parametrize(
    "options",
    [["--max_seconds", "0.05"], ["--min_seconds", "-1"], ["--long", "split"], ["--out", "{data}"]],
)
def test_wrong_use(tmp_path, splits, options):
    with pytest.raises(InputError, match="--"):
        run(tmp_path, splits, *[x.format(data=tmp_path / "data") for x in options])


def test_validate_data(tmp_path, splits, capsys):
    run(tmp_path, splits)
    folders = [str(tmp_path / "dump" / name) for name in splits]
    assert validate_data.main(folders) == 0
    text = tmp_path / "dump/dev/utt2lang"
    text.write_text("s-dev xx\n")
    (tmp_path / "dump/dev/spk2utt").write_text("s s-other\n")
    with pytest.raises(InputError, match=r"utt2lang: 's-dev'.*1 more"):
        validate_data.main(folders)
    with pytest.raises(InputError, match="2 faults"):
        validate_data.main([*folders, "--all"])
    assert len(capsys.readouterr().out.strip().splitlines()[-2:]) == 2


def test_validate_data_says_what_is_in_a_good_folder(tmp_path, capsys):
    """A line a folder: utterances, length by headers and segments, languages, most first."""
    data = KaldiDir()
    for n, lang in enumerate(["ru", "it", "it"]):
        utt, wav = f"a-{n}", tmp_path / f"{n} .wav"
        save_wav(wav, np.zeros(16000 * 30 * (n + 1), np.float32))
        data.add(utt, wav, "so", "a", lang)
    data.save(tmp_path / "mine/train")
    data.segments = {u: Segment(u, 12.0, None if u == "a-0" else 24.0) for u in data.wav}
    data.save(tmp_path / "mine/test")
    assert validate_data.main([str(tmp_path / "mine/train")]) == 0
    good = "good: 3 utterances, 3.0 minutes; by language: it 2, ru 1"
    assert capsys.readouterr().out == f"{tmp_path}/mine/train: {good}\n"
    # What holds them, instead of each: 18 s to the end of the recording, and 12 s twice.
    assert validate_data.main([str(tmp_path / "mine"), "--language", "de"]) == 0
    test, train = capsys.readouterr().out.splitlines()
    assert test == f"{tmp_path}/mine/test: good: 3 utterances, 0.7 minutes; by language: de 3"
    assert train.startswith(f"{tmp_path}/mine/train: good: 3 utterances, 3.0 minutes; ")
    (tmp_path / "0 .wav").write_bytes(b"")
    assert validate_data.main([str(tmp_path / "mine/train")]) == 0
    said = capsys.readouterr().out
    assert "2.5 minutes without 1 whose length is not known (the first: " in said
    assert "0 .wav" in said and said.count("\n") == 1
    data.wav["a-0"] = "cat x |"
    data.segments = {}
    data.save(tmp_path / "mine/train")
    assert validate_data.main([str(tmp_path / "mine/train"), "--allow_pipes"]) == 0
    assert "without 1 whose length is not known (the first: 'a-0' is a" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(200))
def test_parts_overlap_as_when_each_is_held_against_each(seed):
    rng = np.random.default_rng(seed)

    def parts():
        starts, lengths = rng.integers(0, 40, (4, 1)), rng.integers(1, 6, (4, 1))
        for (start,), (length,) in zip(starts.tolist(), lengths.tolist(), strict=True):
            end = None if rng.random() < 0.05 else float(start + length)
            yield Segment("r", float(start), end, [None, 0, 1, 1][rng.integers(4)])

    def heard(part):
        """Half seconds and channels."""
        channels = (0, 1) if part.channel is None else (part.channel,)
        last = 100 if part.end is None else int(2 * part.end)
        return {(t, c) for t in range(int(2 * part.start), last) for c in channels}

    left, right = list(parts()), list(parts())
    both = any(heard(x) & heard(y) for x in left for y in right)
    assert formatting._overlap(left, right) == formatting._overlap(right, left) == both


def test_what_is_left_out_is_listed_and_above_a_share_it_stops(tmp_path, splits, capsys):
    audio, train = tmp_path / "audio", splits["train"]
    add(train, audio / "silent.wav", "s-silent", "silent")
    save_wav(audio / "silent.wav", np.zeros(16000, np.float32))
    add(train, audio / "other.wav", "s-other", "Text in Russian", lang="ru")
    earlier = ["utterance\tlanguage\tcause\twhere", "s-a\ten\tempty text\ts-a"]
    earlier += ["-\tga-IE\tnot a language of Whisper\tx.tsv:2"]  # no fault of the data
    (tmp_path / "data").mkdir()
    (tmp_path / "data/left_out.tsv").write_text("\n".join(earlier) + "\n")
    run(tmp_path, splits, "--max_left_out", "50")
    assert "3 of 6 utterances are left out (50.00 %): 1" in capsys.readouterr().out
    listed = (tmp_path / "dump/left_out.tsv").read_text().splitlines()
    assert listed == [
        *earlier,
        "s-other\tru\ttext in another script\ts-other: 'Text in Russian'",
        f"s-silent\ten\tsilence\ts-silent: {audio}/silent.wav",
    ]
    with pytest.raises(InputError, match=r"more than --max_left_out 49 %: 3 of 6 .*tsv$") as error:
        run(tmp_path, splits, "--max_left_out", "49")
    assert "\n" not in str(error.value)
    # What stage 1 has left out may be too much by itself: then nothing is decoded.
    (tmp_path / "dump/left_out.tsv").unlink()
    with pytest.raises(InputError, match=r"1 of 6 utterances .* 1 empty text; listed in .*/data/"):
        run(tmp_path, splits, "--max_left_out", "16")
    assert not (tmp_path / "dump/left_out.tsv").exists()
