"""The teacher pass and the disk; what a cache holds is tested where training reads it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import kaldiio
import numpy as np
import pytest
import torch
import yaml

import espnet_dq.distill.cache as cache
from espnet_dq.bin.teacher_pass import main
from espnet_dq.config import QuantConfig
from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.distill.cache import _Pass, write_cache
from espnet_dq.distill.cache_settings import CacheSettings, wanted
from espnet_dq.distill.teacher import Teacher
from espnet_dq.errors import InputError, run
from espnet_dq.jobs import Part
from espnet_dq.student.checkpoint import Student
from espnet_dq.whisper.dims import model_dims


@pytest.fixture
def inputs(save_toy, tmp_path) -> tuple:
    """A folder of one clip, teacher, student and settings."""
    save_wav(tmp_path / "u.wav", np.zeros(8000, np.float32))
    data = KaldiDir(
        wav={"u": str(tmp_path / "u.wav")},
        text={"u": "hello"},
        utt2spk={"u": "u"},
        utt2lang={"u": "en"},
    )
    data.save(tmp_path / "data")
    saved = torch.load(save_toy(), weights_only=True)
    student = Student(
        dims=model_dims(saved["dims"]),
        state=saved["model_state_dict"],
        quant=QuantConfig("ct2_int8", preset="none"),
        path=save_toy(),
    )
    settings = CacheSettings("block", 1.0, 4, "full", 0.0, encoder=True)
    teacher = Teacher(save_toy(seed=1, state=32, layers=3), student.dims)
    return tmp_path / "data", teacher, student, settings


@pytest.mark.slow
def test_full_disk(inputs, tmp_path, full_disk, capsys):
    """One line that names the shard, and nothing of it is left; the next pass finishes."""
    data, *others = inputs
    cache = tmp_path / "cache"

    def write():
        write_cache(data, cache, *others)

    with pytest.raises(SystemExit) as ended, full_disk():
        run(write)
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f": {cache}/shards/" in said and said.endswith("/00000: File too large")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    write()
    assert (cache / "cache.json").is_file() and (cache / "encoder_out.scp").is_file()


def test_size_is_told_before_and_must_fit(inputs, tmp_path, monkeypatch, capsys):
    data, teacher, student, settings = inputs
    disk = SimpleNamespace(free=10**5)
    monkeypatch.setattr("shutil.disk_usage", lambda path: disk)
    with pytest.raises(InputError, match="cache: the cache takes 0 MB, 0 are free"):
        write_cache(data, tmp_path / "cache", teacher, student, settings)
    disk.free = 10**9
    told = _Pass(KaldiDir.load(data), teacher, student, settings).predicted_bytes(["u"])
    cache = write_cache(data, tmp_path / "cache", teacher, student, settings)
    assert f"{told / 1e6:.1f} MB to write" in capsys.readouterr().err
    written = sum(f.stat().st_size for f in cache.rglob("*.ark"))
    assert 0 < written - told < 200  # the keys


@pytest.mark.slow
def test_what_configurations_agree_on(save_toy, tmp_path, capsys):
    """One cache serves two trainings, of which one may need no states; or the key is named."""
    save_wav(tmp_path / "u.wav", np.zeros(8000, np.float32))
    utt = {"u": "u"}
    KaldiDir({"u": str(tmp_path / "u.wav")}, {"u": "hello"}, utt, {"u": "en"}).save(
        tmp_path / "data"
    )

    def config(name, window="full", **model):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"encoder_conf": {"window": window}, "model_conf": model}))
        return str(path)

    def teacher_pass(*configs):
        options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "cache")]
        options += ["--teacher", str(save_toy(seed=1)), "--student", str(save_toy())]
        return main([*options, "--grid", "ct2_int8", "--train_config", *configs])

    logits, guided = config("logits", matching="logits"), config("guided", lambda_hidden=0)
    states, ffn = config("states", tap="block"), config("ffn", tap="ffn")
    with pytest.raises(InputError, match=r"ffn\.yaml: tap is ffn, but block in .*states\.yaml"):
        teacher_pass(states, logits, ffn)
    frozen = config("frozen", train_encoder="none")
    with pytest.raises(InputError, match="encoder is True, but False in"):
        teacher_pass(states, frozen)
    with pytest.raises(InputError, match=r"any\.yaml: encoder_conf.window is random: the output"):
        wanted(Path(config("any", "random", train_encoder="none")), "zeros")
    some = config("some", [5, 30], train_encoder="none")
    assert wanted(Path(some), "zeros").windows == (5, 30)
    other = config("other", [5], train_encoder="none")
    with pytest.raises(
        InputError, match=r"other\.yaml: windows is \(5,\), but \(5, 30\) in .*some"
    ):
        teacher_pass(some, frozen, other)
    with pytest.raises(InputError, match="cannot be cached for several windows"):
        CacheSettings(None, 1.0, 4, "student", 0.0, True, (5,))
    # With inputs on a grid training takes no encoder output that was made before.
    rounding = config("rounding", train_encoder="none", activations="int8_per_token")
    assert not wanted(Path(rounding), "zeros").encoder
    # Nor with learned ranges, which do not start where the grid's own rule has them.
    for preset, grid in (("full", False), ("paper", True)):
        learned = config("learned", train_encoder="none", ranges="lsq", preset=preset)
        assert wanted(Path(learned), "zeros").encoder == grid
    old = tmp_path / "old.yaml"
    old.write_text("freeze_param: [encoder]\n")
    with pytest.raises(InputError, match=r"old\.yaml: freeze_param: .*train_encoder: none"):
        teacher_pass(str(old))
    assert not (tmp_path / "cache").exists()
    rounded = config("rounded", precision="bfloat16")
    teacher_pass(guided, states, rounded, logits)
    assert (tmp_path / "cache" / "teacher_hidden.scp").is_file()
    assert json.loads((tmp_path / "cache/cache.json").read_text())["precision"] == "bfloat16"


@pytest.mark.slow
def test_precision_is_the_teachers(inputs, tmp_path):
    """In bfloat16 its answers are nearly the same, the encoder output of the student just that."""
    data, teacher, student, settings = inputs
    found = []
    for precision in ("float32", "bfloat16"):
        settings = replace(settings, precision=precision)
        place = write_cache(data, tmp_path / precision, teacher, student, settings)
        found.append({p.stem: kaldiio.load_scp(str(p))["u"] for p in place.glob("*.scp")})
    exact, rounded = found
    assert np.array_equal(exact["encoder_out"], rounded["encoder_out"])
    for kind in ("teacher_hidden", "teacher_log_probs"):
        assert not np.array_equal(exact[kind], rounded[kind])
        np.testing.assert_allclose(exact[kind], rounded[kind], rtol=0.05, atol=0.05)
    with pytest.raises(InputError, match="precision 'float16': known are float32, bfloat16"):
        replace(settings, precision="float16")


@pytest.mark.slow
def test_shared_by_all_that_want_the_same(inputs, tmp_path):
    """The second finds it, without a teacher to ask; with other settings, it lies elsewhere."""
    data, teacher, student, settings = inputs
    shared = tmp_path / "shared"
    place = write_cache(data, tmp_path / "one", teacher, student, settings, shared)
    assert place.parent == shared and place == (tmp_path / "one").resolve()
    assert str(place) in (tmp_path / "one/teacher_ids.scp").read_text()
    ask, teacher.model = teacher.model, None
    assert write_cache(data, tmp_path / "two", teacher, student, settings, shared) == place
    assert (tmp_path / "two").resolve() == place
    teacher.model = ask
    other = replace(settings, top_k=5)
    assert write_cache(data, tmp_path / "two", teacher, student, other) != place  # as it was
    assert (tmp_path / "two").resolve().parent == shared


@pytest.mark.slow
def test_other_sound_under_the_same_name_is_noticed(inputs, tmp_path):
    data, *others = inputs
    write_cache(data, tmp_path / "cache", *others)
    write_cache(data, tmp_path / "cache", *others)  # the same: left alone
    save_wav(tmp_path / "u.wav", np.full(8000, 0.1, np.float32))
    with pytest.raises(InputError, match="a cache of other settings, weights or data"):
        write_cache(data, tmp_path / "cache", *others)


@pytest.mark.slow
def test_parts_of_jobs_make_the_cache(inputs, tmp_path, monkeypatch):
    """The last call finds the shards of all parts, and has nothing left to ask."""
    monkeypatch.setattr(cache, "SHARD", 1)
    folder, *others = inputs
    data = KaldiDir.load(folder)
    for n in range(4):
        for table in (data.wav, data.text, data.utt2spk, data.utt2lang):
            table[f"u{n}"] = table["u"]
    data.save(folder)
    for number in (1, 2, 3):
        write_cache(folder, tmp_path / "parts", *others, part=Part(number, 3))
        assert not (tmp_path / "parts/cache.json").exists()
    write_cache(folder, tmp_path / "whole", *others)
    monkeypatch.setattr(_Pass, "answers", None)
    write_cache(folder, tmp_path / "parts", *others)
    for scp in (tmp_path / "whole").glob("*.scp"):
        expected = read_scp(scp)
        found = read_scp(tmp_path / "parts" / scp.name)
        assert found.keys() == expected.keys() and len(found) == 5
        for utt in found:
            a, b = (kaldiio.load_mat(entries[utt]) for entries in (found, expected))
            assert np.array_equal(a, b), (scp.name, utt)


def test_a_teacher_of_short_windows(inputs, save_toy, tmp_path):
    """It hears its own window, not 30 s."""
    data, _, student, settings = inputs
    teacher = Teacher(save_toy(seed=1, audio_ctx=500), student.dims)
    student = replace(student, dims=replace(student.dims, n_audio_ctx=500))
    state = student.state | {"encoder.positional_embedding": torch.zeros(500, 64)}
    student = replace(student, state=state)
    assert (
        write_cache(data, tmp_path / "cache", teacher, student, settings) / "cache.json"
    ).exists()
