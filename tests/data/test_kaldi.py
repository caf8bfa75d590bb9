import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq.data.kaldi import KaldiDir, read_scp, spk2utt, write_scp
from espnet_dq.data.validation import faults, validate
from espnet_dq.errors import InputError
from espnet_dq.labels.pseudo import label_folder


@pytest.fixture
def folder(tmp_path):
    """A good data folder of three utterances, two speakers and two languages."""
    data = tmp_path / "train"
    data.mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF")
    (data / "wav.scp").write_text("".join(f"s1-{x} {tmp_path}/{x}.wav\n" for x in "abc"))
    (data / "text").write_text("s1-a Hello, world.\ns1-b да\ns1-c three  words here\n")
    (data / "utt2spk").write_text("s1-a s1\ns1-b s2\ns1-c s1\n")
    (data / "spk2utt").write_text("s1 s1-a s1-c\ns2 s1-b\n")
    (data / "utt2lang").write_text("s1-a en\ns1-b ru\ns1-c yue\n")
    return data


def edit(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_good_folder(folder):
    assert faults(folder) == []
    data = validate(folder)
    assert data.text == {"s1-a": "Hello, world.", "s1-b": "да", "s1-c": "three  words here"}
    assert data.utt2lang["s1-b"] == "ru"


@pytest.mark.parametrize(
    ("name", "old", "new", "where", "what"),
    [
        ("text", b"Hello, world.\n", b"Hello, world.\r\n", "text:1", "CR LF"),
        ("text", b"Hello, w", b"Hello,\rs9 w", "text:1", "holds a CR"),
        ("wav.scp", b"s1-b ", "s1-b\u00a0|x ".encode(), "wav.scp:2", "at which ESPnet ends it"),
        ("text", b"s1-a Hello", b"\xef\xbb\xbfs1-a Hello", "text:1", "byte order mark"),
        ("text", "да".encode(), b"\xe4\xe0", "text:2", "not UTF-8"),
        ("text", "s1-b да".encode(), b"s1-b", "text:2", "nothing after the key 's1-b'"),
        ("text", "s1-b да".encode(), b"s1-b \t ", "text:2", "nothing after the key 's1-b'"),
        ("text", "s1-b да\n".encode(), b"\n", "text:2", "empty line"),
        ("text", b"s1-c three", b"s1-a three", "text:3", "'s1-a' stands twice"),
        ("text", b"s1-c three  words here\n", b"", "text: ", "no line for 's1-c'"),
        ("text", b"s1-c three", b"s1-d three", "text: ", "'s1-c'"),
        ("utt2spk", b"s1-c s1\n", b"s1-c s1\ns1-d s1\n", "utt2spk", "'s1-d' is not in wav.scp"),
        ("utt2lang", b"s1-a en\ns1-b ru\n", b"s1-b ru\ns1-a en\n", "utt2lang", "not sorted"),
        ("utt2lang", b" yue", b" xx", "utt2lang", "'s1-c': not a language code of Whisper: xx"),
        ("utt2lang", b" en", b" english", "utt2lang", "not a language code"),
        ("wav.scp", b"b.wav", b"z.wav", "wav.scp", "'s1-b': no such file"),
        ("wav.scp", b"b.wav", b"b.ark:12", "wav.scp", "'s1-b': parts of Kaldi archives are not"),
        ("wav.scp", b"b.wav", b"b.wav |", "wav.scp", "'s1-b' is a command"),
        ("spk2utt", b"s2 s1-b\n", b"", "spk2utt", "'s2' does not agree"),
        ("spk2utt", b"s1 s1-a s1-c", b"s1 s1-a s1-b s1-c", "spk2utt", "'s1' does not agree"),
        ("utt2spk", b"s1-b s2", b"s1-b s1", "spk2utt", "does not agree"),
    ],
)
def test_broken_folders(folder, name, old, new, where, what):
    edit(folder / name, old, new)
    with pytest.raises(InputError) as error:
        validate(folder)
    line = str(error.value)
    assert line.startswith(f"{folder}/{where}") and what in line and "\n" not in line


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk", "spk2utt", "utt2lang"])
def test_missing_and_empty_files(folder, name):
    (folder / name).write_text("")
    assert faults(folder)
    (folder / name).unlink()
    more = ", and no --language is given" if name == "utt2lang" else ""
    assert faults(folder) == [f"{folder / name}: no such file{more}"]


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        validate(tmp_path / "none")


def test_a_command_is_never_run(folder, tmp_path):
    edit(folder / "wav.scp", f"{tmp_path}/b.wav".encode(), f"touch {tmp_path}/ran |".encode())
    assert len(faults(folder)) == 1
    assert not (tmp_path / "ran").exists()


def test_all_faults_are_listed(folder):
    edit(folder / "utt2lang", b"en", b"zz")
    edit(folder / "wav.scp", b"c.wav", b"y.wav")
    assert len(faults(folder)) == 2


def test_read_scp_keeps_the_rest_of_the_line(tmp_path):
    path = tmp_path / "wav.scp"
    path.write_text("a\t/with space/x y.wav\nb  two\tparts \nc one\u2028two\u00a0three")
    assert read_scp(path) == {
        "a": "/with space/x y.wav",
        "b": "two\tparts",
        "c": "one\u2028two\u00a0three",
    }


def test_empty_values_only_when_allowed(tmp_path):
    path = tmp_path / "text"
    path.write_text("a word\nb\nc \n")
    assert read_scp(path, empty=True) == {"a": "word", "b": "", "c": ""}
    with pytest.raises(InputError, match="text:2"):
        read_scp(path)


@pytest.mark.parametrize("value", ["x", "1_0", "-1", "\u0661", "1.5", "9" * 5000, "1 2"])
def test_counts_of_samples_are_numbers(tmp_path, value):
    path = tmp_path / "utt2num_samples"
    path.write_text(f"a 160\nb {value}\n")
    with pytest.raises(InputError, match=r"utt2num_samples: 'b': .* is no number"):
        read_scp(path)
    path = path.rename(tmp_path / "utt2dur")
    path.write_text("a 1.5\nb 1_0\n")
    with pytest.raises(InputError, match="utt2dur: 'b': '1_0' is no number"):
        read_scp(path)


@pytest.mark.parametrize("key, value", [("a", "x\nb y"), ("a", "x\ry"), ("a\nb", "x")])
def test_no_value_makes_a_line_of_its_own(tmp_path, key, value):
    with pytest.raises(InputError, match="table: a line break"):
        write_scp(tmp_path / "table", {key: value})
    assert list(tmp_path.iterdir()) == []


def test_save_and_load_are_inverse(folder, tmp_path):
    data = KaldiDir.load(folder)
    data.extra["utt2num_samples"] = dict.fromkeys(data.wav, "16000")
    data.save(tmp_path / "copy")
    assert faults(tmp_path / "copy") == []
    assert KaldiDir.load(tmp_path / "copy", extra=["utt2num_samples"]) == data
    assert (tmp_path / "copy/spk2utt").read_bytes() == (folder / "spk2utt").read_bytes()


def test_a_failed_save_leaves_the_old_folder(folder):
    data = KaldiDir.load(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    del data.utt2lang["s1-a"]
    with pytest.raises(ValueError, match="utt2lang"):
        data.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_select(folder):
    data = KaldiDir.load(folder)
    data.extra["utt2dur"] = {"s1-a": "1", "s1-b": "2", "s1-c": "3"}
    part = data.select(["s1-b"])
    assert (part.text, part.utt2spk) == ({"s1-b": "да"}, {"s1-b": "s2"})
    assert part.extra == {"utt2dur": {"s1-b": "2"}}


def test_draw_depends_on_nothing_but_seed_and_ids():
    utts = {f"{lang}-{i}": lang for lang in ("en", "ru") for i in range(20)} | {"cs-0": "cs"}
    data = KaldiDir(utts, utts, utts, utts, {"utt2num_samples": utts})
    drawn = data.draw(5)
    assert Counter(drawn.utt2lang.values()) == {"cs": 1, "en": 5, "ru": 5}
    assert list(drawn.wav) == sorted(drawn.wav) and drawn.extra["utt2num_samples"] == drawn.wav
    # Other languages and another order change nothing for one; another seed does.
    russian = data.select(u for u in reversed(utts) if utts[u] == "ru")
    assert set(russian.draw(5).wav) == {u for u in drawn.wav if utts[u] == "ru"}
    assert data.draw(5, seed=1).wav.keys() != drawn.wav.keys()


def test_spk2utt():
    assert spk2utt({"b": "y", "a": "x", "c": "x"}) == {"y": "b", "x": "a c"}


@pytest.mark.skipif(shutil.which("sort") is None, reason="needs the program sort")
@settings(max_examples=10, deadline=None)
@given(
    st.sets(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(
            lambda key: not key.startswith("\ufeff")
        ),
        min_size=2,
    )
)
def test_order_is_that_of_sort_in_the_c_locale(tmp_path_factory, keys):
    path = tmp_path_factory.mktemp("scp") / "table"
    write_scp(path, dict.fromkeys(keys, "x"))
    env = {**os.environ, "LC_ALL": "C"}
    wanted = subprocess.run(["sort", path], capture_output=True, env=env, check=True).stdout
    assert path.read_bytes() == wanted
    assert read_scp(path).keys() == keys


def test_fingerprint_is_that_of_all_tables_at_once(folder, tmp_path):
    """Windows and answers that are shared lie under it: it has to stay what it is."""
    (tmp_path / "b.wav").write_bytes(b"other")
    data = KaldiDir.load(folder)
    data.wav["s1-c"] = data.wav["s1-a"]
    audio = {u: hashlib.sha256(Path(p).read_bytes()).hexdigest() for u, p in data.wav.items()}
    text = json.dumps({**data.tables(), "wav.scp": audio}, sort_keys=True)
    assert data.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["text", "utt2spk", "utt2lang", "utt2num_samples"])
def test_tables_of_other_utterances_are_named(name, folder):
    """When they are loaded, before any work on them."""
    write_scp(folder / "utt2num_samples", dict.fromkeys(read_scp(folder / "wav.scp"), "16000"))
    entries = read_scp(folder / name)
    assert KaldiDir.load(folder, extra=["utt2num_samples"]).tables()[name] == entries
    for changed, message in (
        ({utt: value for utt, value in entries.items() if utt != "s1-b"}, "no line for 's1-b' of"),
        (entries | {"s1-d": entries["s1-b"]}, "'s1-d' is not in"),
    ):
        write_scp(folder / name, changed)
        with pytest.raises(InputError, match=f"train/{name}: {message} wav.scp"):
            KaldiDir.load(folder, extra=["utt2num_samples"])
        if name != "text":
            with pytest.raises(InputError, match=f"train/{name}: {message} wav.scp"):
                label_folder(folder, folder / "out", Path("teacher.pt"), "replace")
        write_scp(folder / name, entries)
