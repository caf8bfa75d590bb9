"""Sensitivity against a loss computed plainly; allocation against brute force."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
import whisper
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import espnet_dq as dq
from espnet_dq.bin.allocate import main as allocate_main
from espnet_dq.bin.calibrate import main as calibrate
from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.sensitivity import main as sensitivity
from espnet_dq.bin.teacher_pass import main as teacher_pass
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.audio import load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir, write_scp
from espnet_dq.errors import InputError, WorkError
from espnet_dq.quant.allocate import UNIT, allocate
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import candidates
from espnet_dq.quant.sensitivity import Loss, stored_bytes

ROW = '{"name": "w", "grid": "uniform4", "bytes": 5, "kl": 0.5, "ce": 0.5}'
# Lines that are JSON, but no row of a table.
ODD = ["3", "null", "[" * 5000, ROW.replace("5,", "Infinity,"), ROW.replace('"w"', "7"),
       ROW.replace('"uniform4"', '["x"]'), '{"name": "w", "bytes": 5, "kl": 0.5, "ce": 0.5}',
       ROW.replace("}", ', "more": 1}'), ROW.replace("0.5,", "NaN,"), ROW.replace("0.5}", "NaN}"),
       ROW.replace("0.5,", "-Infinity,")]  # fmt: skip


@pytest.fixture(scope="module")
def table(make_toy, clips, tmp_path_factory):
    """(checkpoint, data folder, table) of a toy Whisper and three real clips."""
    folder = tmp_path_factory.mktemp("sensitivity")
    model = make_toy(seed=5)
    state = model.state_dict()
    torch.save({"dims": vars(model.dims), "model_state_dict": state}, folder / "toy.pt")
    data = KaldiDir()
    for i, (wav, lang, text) in enumerate(clips[:3]):
        utt = f"u{i}"
        data.add(utt, wav, text, utt, lang)
    data.save(folder / "data")
    sensitivity(options(folder))
    return folder


def options(folder, *more):
    return ["--model", f"{folder}/toy.pt", "--data", f"{folder}/data", "--clips", "3",
            "--out", f"{folder}/table.jsonl",
            *(more or ("--grids", "uniform8", "uniform3", "ggml_q4_0"))]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["encoder.blocks.1.mlp.0.weight", "decoder.token_embedding.weight"]
)
def test_the_loss_is_what_openai_whisper_gives(table, clips, name):
    rows = [json.loads(line) for line in (table / "table.jsonl").read_text().splitlines()[1:]]
    (row,) = [r for r in rows if (r["name"], r["grid"]) == (name, "uniform3")]
    plain, quantized = (whisper.load_model(str(table / "toy.pt"), device="cpu") for _ in "ab")
    weight = quantized.get_parameter(name)
    with torch.no_grad():
        weight.copy_(get_grid("uniform3").fake(weight))
    tokenizer = whisper.tokenizer.get_tokenizer(True, task="transcribe")
    kl = ce = count = 0
    for wav, lang, text in clips[:3]:
        audio = load_audio(wav)
        mel = whisper.log_mel_spectrogram(audio, padding=480000)[:, : len(audio) // 160]
        mel = whisper.pad_or_trim(mel, 3000)[None]
        prompt = [tokenizer.sot, tokenizer.to_language_token(lang), tokenizer.transcribe]
        ids = [*prompt, tokenizer.no_timestamps, *tokenizer.encode(" " + text), tokenizer.eot]
        with torch.no_grad():
            p, q = (
                m(mel, torch.tensor([ids[:-1]]))[0, 3:].double().log_softmax(-1)
                for m in (plain, quantized)
            )
        kl += float((p.exp() * (p - q)).sum())
        ce += float((p - q)[torch.arange(len(q)), ids[4:]].sum())
        count += len(q)
    assert row["kl"] == pytest.approx(kl / count, rel=1e-3)
    assert row["ce"] == pytest.approx(ce / count, rel=1e-2, abs=1e-6)
    assert row["kl"] > 0


def test_every_pair_that_fits_is_there_and_fewer_bits_lose_more(table):
    head, *rows = [json.loads(x) for x in (table / "table.jsonl").read_text().splitlines()]
    found = {(r["name"], r["grid"]): r["kl"] for r in rows}
    assert head["utterances"] == ["u0", "u1", "u2"]
    for name in head["candidates"]:
        assert found[name, "uniform3"] > found[name, "uniform8"] > 0
        # 80 * 3 columns of the first convolution are no multiple of 32
        assert ((name, "ggml_q4_0") in found) == (name != "encoder.conv1.weight")


def test_a_killed_run_goes_on(table, tmp_path, capsys):
    whole = (table / "table.jsonl").read_text()
    for name in ("toy.pt", "data"):
        (tmp_path / name).symlink_to(table / name)
    # The table names its model by path, so the same one is given.
    torn = tmp_path / "table.jsonl"
    torn.write_text(whole[:-40])
    given = options(table)
    given[given.index("--out") + 1] = str(torn)
    sensitivity(given)
    again = torn.read_text().splitlines()
    assert again[:-1] == whole.splitlines()[:-1]
    assert json.loads(again[-1])["name"] == json.loads(whole.splitlines()[-1])["name"]
    given[given.index("--clips") + 1] = "2"
    with pytest.raises(InputError, match="measured with another model or other data"):
        sensitivity(given)
    given = options(table)
    given[given.index("--out") + 1] = str(torn)
    text = (table / "data/text").read_text()
    (table / "data/text").write_text(text.replace("e", "a"))  # a corrected text of the same clip
    try:
        with pytest.raises(InputError, match="measured with another model or other data"):
            sensitivity(given)
    finally:
        (table / "data/text").write_text(text)
    capsys.readouterr()


def test_from_the_table_to_a_verified_file_within_the_budget(table, tmp_path, capsys):
    grids, packed = tmp_path / "grids.yaml", tmp_path / "toy.safetensors"
    budget = 2.2
    given = ["--table", f"{table}/table.jsonl", "--budget_mb"]
    allocate_main([*given, str(budget), "--out", str(grids)])
    assert len(set(line.split()[-1] for line in grids.read_text().splitlines()[2:])) > 1
    checkpoint = ["--from", f"{table}/toy.pt", "--to", "packed", "--grid", str(grids)]
    convert([*checkpoint, "--out", str(packed)])
    assert packed.stat().st_size <= budget * 1e6
    assert verify([str(packed), "--against", f"{table}/toy.pt", "--grid", str(grids)]) == 0
    capsys.readouterr()
    with pytest.raises(InputError, match=r"^--budget_mb 0\.5: at least \S+ is needed$") as error:
        allocate_main([*given, "0.5", "--out", str(tmp_path / "none.yaml")])
    least = float(str(error.value).split()[-3])
    with pytest.raises(InputError, match=f"at least {least:.3f} is needed"):
        allocate_main([*given, str(least - 0.001), "--out", str(tmp_path / "none.yaml")])
    assert not (tmp_path / "none.yaml").exists()
    allocate_main([*given, str(least), "--out", str(tmp_path / "least.yaml")])


def test_what_no_grid_holds_stays_in_float(table, tmp_path):
    """Blocks of 32 do not divide the rows of the first convolution."""
    head, *lines = (table / "table.jsonl").read_text().splitlines()
    kept = [x for x in lines if json.loads(x)["grid"] in ("ggml_q4_0", "none")]
    (tmp_path / "table.jsonl").write_text("\n".join([head, *kept]))
    given = ["--table", str(tmp_path / "table.jsonl"), "--budget_mb"]
    for budget, others in (("2.4", "ggml_q4_0"), ("99", "none")):
        allocate_main([*given, budget, "--out", str(tmp_path / "grids.yaml")])
        grids = yaml.safe_load((tmp_path / "grids.yaml").read_text())
        assert grids["encoder.conv1.weight"] == "none"
        assert grids["decoder.token_embedding.weight"] == others


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_allocation_is_the_best_there_is(data):
    sizes, losses = st.integers(1, 9), st.floats(0, 1)
    table = {
        f"w{i}": [
            Loss(f"w{i}", f"g{j}", data.draw(sizes) * UNIT - j, data.draw(losses), 0.0)
            for j in range(data.draw(st.integers(1, 4)))
        ]
        for i in range(data.draw(st.integers(1, 4)))
    }
    budget = data.draw(st.integers(1, 30)) * UNIT
    fitting = [
        sum(loss.kl for loss in choice)
        for choice in itertools.product(*table.values())
        if sum(-(-loss.bytes // UNIT) for loss in choice) * UNIT <= budget
    ]
    if not fitting:
        with pytest.raises(InputError, match="too small"):
            allocate(table, budget)
        return
    chosen = allocate(table, budget)
    assert list(chosen) == list(table)
    assert sum(loss.bytes for loss in chosen.values()) <= budget
    assert sum(loss.kl for loss in chosen.values()) == pytest.approx(min(fitting))


@pytest.mark.parametrize("budget", ["25000000", "1e300", "inf"])  # of bytes, not of megabytes
def test_what_a_budget_leaves_takes_no_memory(budget, tmp_path):
    head = {"model": "toy.pt", "candidates": ["w"], "rest_bytes": 0, "tensors": 1}
    rows = [Loss("w", "uniform4", 50, 0.5, 0.5), Loss("w", "none", 200, 0.0, 0.0)]
    lines = [json.dumps(each) for each in (head, *map(vars, rows))]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    given = ["--table", str(tmp_path / "table.jsonl"), "--out", str(tmp_path / "grids.yaml")]
    assert allocate_main([*given, "--budget_mb", budget]) == 0
    assert yaml.safe_load((tmp_path / "grids.yaml").read_text()) == {"w": "none"}
    with pytest.raises(SystemExit):
        allocate_main([*given, "--budget_mb", "nan"])


def test_what_a_folder_lacks_is_named(save_toy, tmp_path):
    given = ["--model", str(save_toy(state=16, layers=1)), "--data", str(tmp_path)]
    for utt in "ab":
        save_wav(tmp_path / f"{utt}.wav", np.zeros(1600, np.float32))
    for name, table in {
        "wav.scp": {"a": f"{tmp_path}/a.wav", "b": f"{tmp_path}/b.wav"},
        "text": {"a": "guten Tag"},
        "utt2spk": {"a": "a", "b": "b"},
        "utt2lang": {"a": "German", "b": "klingon"},
    }.items():
        write_scp(tmp_path / name, table)
    for message, name, table in (
        ("text: no line for 'b' of wav.scp", "text", {"a": "guten Tag", "b": "hallo"}),
        ("utt2lang: 'b': 'klingon': not a language", "utt2lang", {"a": "German"}),
        ("utt2lang: no line for 'b' of wav.scp", "utt2lang", {"a": "German", "b": "de-AT"}),
    ):
        with pytest.raises(InputError, match=message):
            sensitivity([*given, "--out", str(tmp_path / "table.jsonl")])
        write_scp(tmp_path / name, table)
    options = ["--grids", "uniform8", "--out", str(tmp_path / "table.jsonl")]
    with pytest.raises(SystemExit) as ended:
        sensitivity([*given, *options, "--clips", "-5"])
    assert ended.value.code == 2
    assert sensitivity([*given, *options]) == 0


def test_a_loss_that_is_no_number_is_no_row(save_toy, tmp_path):
    saved = torch.load(save_toy(state=16, layers=1), weights_only=True)
    saved["model_state_dict"]["decoder.ln.weight"] *= 1e38
    saved["model_state_dict"]["decoder.token_embedding.weight"] *= 1e30
    torch.save(saved, tmp_path / "toy.pt")
    save_wav(tmp_path / "a.wav", np.zeros(1600, np.float32))
    data = KaldiDir()
    data.add("a", tmp_path / "a.wav", "hello", "a", "en")
    data.save(tmp_path / "data")
    with pytest.raises(WorkError, match=r"^\S+ on uniform8: what the model says is no number$"):
        sensitivity(options(tmp_path, "--grids", "uniform8"))
    assert len((tmp_path / "table.jsonl").read_text().splitlines()) == 1


def test_what_no_model_hears_is_named(save_toy, tmp_path):
    save_wav(tmp_path / "a.wav", np.zeros(16000, np.float32))
    teacher = ["--teacher", str(save_toy(seed=1, state=16, layers=1)), "--grid", "none"]
    teacher += ["--train_config", str(tmp_path / "kd.yaml"), "--out", str(tmp_path / "cache")]
    (tmp_path / "kd.yaml").write_text("{}")
    english, short = {"n_vocab": 51864}, {"audio_ctx": 20}
    for text, language, sizes, said in (
        ("a " * 600, "en", {}, "a: [0-9]+ tokens of text; the decoder has room for 441$"),
        ("a", "en", short, r"a: 1\.0 s; the model hears 0\.4 s$"),
        ("<|en|>", "en", {}, r"a: a text with <\|en\|>, which is no text"),
        ("a", "yue", {}, "a: unknown language 'yue'"),
        ("a", "en", english, r"toy.*\.pt: no multilingual Whisper tokenizer"),
    ):
        data, model = KaldiDir(), str(save_toy(state=16, layers=1, **sizes))
        data.add("a", tmp_path / "a.wav", text, "a", language, utt2num_samples=16000)
        data.save(tmp_path / "data")
        given = ["--data", str(tmp_path / "data")]
        if sizes is not english:
            with pytest.raises(InputError, match=f"^{said}"):
                teacher_pass([*given, "--student", model, *teacher])
            said = f"^{re.escape(str(tmp_path / 'data'))}: {said}"
            with pytest.raises(InputError, match=said):
                dq.quantize(model, "ct2_int8", data=tmp_path / "data")
        with pytest.raises(InputError, match=said):
            sensitivity([*given, "--model", model, "--out", str(tmp_path / "table.jsonl")])
        with pytest.raises(InputError, match=said):
            calibrate([*given, "--model", model, "--out", str(tmp_path / "ranges.json")])
        assert not [*tmp_path.glob("cache/**/*.ark")]


def test_a_table_that_is_not_whole(table, tmp_path):
    lines = (table / "table.jsonl").read_text().splitlines()
    for content, message in (
        ("\n".join(lines[:-3]), "is not in it yet"),
        ("nonsense", "not a table"),
        ("", "not a table"),
        (lines[0] + '\n{"name": 1}', "not a table"),
        (lines[0].replace('"rest_bytes"', '"rest"') + "".join(lines[1:]), "not a table"),
        ("\n".join([lines[0], lines[1].replace('"kl": ', '"kl": "x", "k": ')]), "not a table"),
        (lines[0].replace('"rest_bytes": ', '"rest_bytes": Infinity, "r": '), r":1: not a table"),
        *((f"{lines[0]}\n{lines[1]}\n{odd}", r"table\.jsonl:3: not a table") for odd in ODD),
    ):
        path = tmp_path / "table.jsonl"
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            allocate_main(["--table", str(path), "--budget_mb", "9", "--out", str(tmp_path / "g")])


def test_another_file_is_no_table(table, tmp_path):
    """As by a slip of --out: it stays."""
    given = options(table)
    lines = (table / "table.jsonl").read_text().splitlines(keepends=True)
    for content, message in (
        ("x".encode("utf-16"), "is no table of sensitivity"),
        (f"{lines[0]}{{\n{lines[1]}".encode(), r"x\.jsonl:2: damaged"),
        *((f"{lines[0]}{lines[1]}{odd}\n".encode(), r"x\.jsonl:3: damaged") for odd in ODD),
    ):
        (tmp_path / "x.jsonl").write_bytes(content)
        given[given.index("--out") + 1] = str(tmp_path / "x.jsonl")
        with pytest.raises(InputError, match=message):
            sensitivity(given)
        assert (tmp_path / "x.jsonl").read_bytes() == content


def test_bytes_are_those_of_the_file(make_toy):
    shape = (51865, 64)
    assert stored_bytes(shape, "uniform4") == 51865 * 32 + 51865 * 4
    assert stored_bytes(shape, "ggml_q5_0") == 51865 * 64 * 5 // 8 + 51865 * 2 * 2
    assert len(candidates(make_toy().dims)) > 20
