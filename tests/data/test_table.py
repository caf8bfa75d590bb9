"""Files of paths and texts, folders of recordings with texts, and the splits that both get."""

import csv
import json
import unicodedata

import numpy as np
import pytest
import soundfile

from espnet_dq.bin import format_data
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError, run
from local import kaldi_dir, table

SPLITS = ("train", "dev", "test")


def sound(path, seed=0, length=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, int(8000 * length))
    soundfile.write(path, samples, 8000)
    return path


@pytest.fixture
def rows(tmp_path):
    """Ten clips and what is said in them."""
    return [
        (sound(tmp_path / f"in/clips/{i}.wav", i).name, f"Das ist Satz {i}.") for i in range(10)
    ]


def prepared(tmp_path, root, *options):
    """The three splits in one, the split of each text, and report.json."""
    out = tmp_path / "out"
    assert table.main(["--data_root", str(root), "--out", str(out), *options]) == 0
    whole, places = KaldiDir(), {}
    for split in SPLITS:
        data = validate(out / split)
        whole.update(data)
        places |= dict.fromkeys(data.text.values(), split)
    return whole, places, json.loads((out / "report.json").read_text())


def written(path, head, rows, mark=""):
    """A table as Python's csv (with commas), or with tabs, or as JSON, by its name."""
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(mark)
        if path.suffix == ".csv":
            csv.writer(f).writerows([head, *rows])
        elif path.suffix == ".tsv":
            f.writelines("\t".join(row) + "\r\n" for row in [head, *rows])
        else:
            f.writelines(json.dumps(dict(zip(head, row, strict=True))) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(
    ("suffix", "mark", "names"),
    [
        (".csv", "", ("file_name", "transcription")),
        (".csv", "\ufeff", ("Path", "sentence")),
        (".tsv", "\ufeff", ("wav", "transcript")),
        (".jsonl", "\ufeff", ("filename", "text")),
        (".json", "", ("audio_filepath", "text")),
    ],
)
def test_each_kind_says_the_same(suffix, mark, names, rows, tmp_path, capsys):
    said = {f"clips/{name}": text for name, text in rows} | {"clips/9.wav": 'Er sagt "ja", laut.'}
    file = written(tmp_path / f"in/my table{suffix}", names, said.items(), mark)
    data, _, report = prepared(tmp_path, file, "--language", "German")
    assert set(data.text.values()) == set(said.values())
    assert {data.wav[u]: text for u, text in data.text.items()} == {
        str(tmp_path / "in" / name): text for name, text in said.items()
    }
    assert report["de"]["left_out"] == {} and set(data.utt2lang.values()) == {"de"}
    assert data.utt2spk == {u: u for u in data.wav}
    columns = f"audio {names[0]}, text {names[1]}, language as --language German"
    assert f"my table{suffix}: columns: {columns}\n" in capsys.readouterr().out


def test_all_columns(tmp_path):
    """As Common Voice and the Hub have them; the split is the table's own."""
    head = ["client_id", "path", "sentence", "locale", "split", "up_votes"]
    lines = [
        ["ann b", "a.wav", "Eins", "de", "train", "2"],
        ["x" * 128, "b.wav", "Two", "English", "validation", "2"],
        ["", "c.wav", "Tre", "it_IT", "Test", "2"],
        ["ann b", "a.wav", "Again", "de", "train", "2"],
        ["ann b", "d.wav", "", "de", "train", "2"],
        ["ann b", "e.wav", "(beep)", "de", "train", "2"],
        ["ann b", "gone.wav", "Fort", "de", "train", "2"],
        ["ann b", "../up.wav", "Oben", "de", "train", "2"],
        ["ann b", "", "Nichts", "de", "train", "2"],
        ["ann b", "f.wav", "Woher?", "de", "validated", "2"],
        ["ann b", "f.wav", "Dia dhuit", "ga", "train", "2"],
        ["ann b", "f.wav", "Which?", "", "train", "2"],
        ["ann b", "f.wav", "Zu kurz", "de"],
    ]
    for name in "abcdef":
        sound(tmp_path / f"in/{name}.wav", ord(name))
    sound(tmp_path / "up.wav")
    written(tmp_path / "in/metadata.tsv", head, lines)
    data, places, report = prepared(tmp_path, tmp_path / "in")
    assert places == {"Eins": "train", "Two": "dev", "Tre": "test"}
    by_text = {text: (data.utt2lang[u], data.utt2spk[u] == u) for u, text in data.text.items()}
    assert by_text == {"Eins": ("de", False), "Two": ("en", False), "Tre": ("it", True)}
    assert all(u.startswith(speaker) for u, speaker in data.utt2spk.items())
    assert report["de"]["left_out"] == {
        "a path out of the corpus's folder": 1,
        "an id that stands twice": 1,
        "empty text": 1,
        "in none of train, dev and test": 1,
        "no audio in the row": 1,
        "no such audio file": 1,
        "not speech": 1,
    }
    assert report["unknown"]["left_out"] == {
        "a broken row": 1,
        "no language": 1,
    }
    assert report["ga"]["left_out"] == {"not a language of Whisper": 1}


def test_segments_of_nemo(tmp_path):
    """`offset` and `duration`, absolute paths, keys that not every line has."""
    long = str(sound(tmp_path / "elsewhere/long talk.wav", 1, 12))
    lines = [
        {"audio_filepath": long, "text": f"Part {i}", "offset": float(i), "duration": 1.0}
        for i in range(10)
    ]
    lines += [
        {"audio_filepath": long, "text": "To the end", "offset": 10.5, "lang": "en", "speaker": 7},
        {"audio_filepath": str(sound(tmp_path / "whole.wav", 2)), "text": "Whole", "duration": 1.0},
        {"audio_filepath": long, "text": "No time", "offset": -1.0, "duration": 1.0},
        {"audio_filepath": long, "text": "No time", "offset": 1.0, "duration": -2.0},
        {"audio_filepath": long, "text": "No time", "offset": "x", "duration": 1.0},
        {"audio_filepath": long, "text": ["no", "text"]},
        {"audio_filepath": [long], "text": "No path"},
        {"audio_filepath": float("nan"), "text": "Nothing"},
    ]
    (tmp_path / "in").mkdir()
    text = "".join(json.dumps(x) + "\n" for x in lines) + "[1]\nnot JSON\n" + "[" * 99999 + "\n"
    (tmp_path / "in/manifest.json").write_text(text)
    out = tmp_path / "out"
    given = ["--data_root", str(tmp_path / "in"), "--out", str(out), "--language", "en"]
    assert table.main(given) == 0
    report = json.loads((out / "report.json").read_text())["en"]
    assert report["left_out"] == {"a broken row": 8, "no audio in the row": 1}
    cut = tmp_path / "dump"
    format_data.main(["--data", str(out), "--out", str(cut), "--max_left_out", "100"])
    lengths = {}
    for split in SPLITS:
        data = KaldiDir.load(cut / split, extra=["utt2num_samples"])
        lengths |= {data.text[u]: int(n) for u, n in data.extra["utt2num_samples"].items()}
    expected = {f"Part {i}": 16000 for i in range(10)} | {"To the end": 24000, "Whole": 16000}
    assert lengths == expected


@pytest.mark.parametrize(
    "head", ["audio;text;Start;End", "audio;text;Offset;Duration", "audio;text;start;Duration"]
)
def test_parts_by_other_names_of_columns(head, tmp_path):
    """Not the whole of a recording with the text of a part."""
    sound(tmp_path / "in/long.wav", 1, 12)
    times = [(i, 1 if head.endswith("Duration") else i + 1) for i in range(10)]
    lines = [f"long.wav;Part {i};{start};{last}" for i, (start, last) in enumerate(times)]
    (tmp_path / "in/x.csv").write_text("\n".join([head, *lines, "long.wav;Odd;3;0"]))
    data, _, report = prepared(tmp_path, tmp_path / "in/x.csv", "--language", "de")
    parts = {data.text[u]: (part.start, part.end) for u, part in data.segments.items()}
    assert parts == {f"Part {i}": (i, i + 1) for i in range(10)}
    assert report["de"]["left_out"] == {"a broken row": 1}


def test_clips_that_keep_where_they_were(rows, tmp_path):
    """In a recording that is not there: each is a file of its own, also if one stands twice."""
    lines = "".join(
        f"clips/{name};{text};{100 + i};{101 + i}\n" for i, (name, text) in enumerate(rows)
    )
    again = "".join(f"clips/{rows[0][0]};Again;{at}\n" for at in ("100.0;101", ";", "nan;"))
    for more, count in (("", 0), (again, 3)):
        (tmp_path / "in/x.csv").write_text(f"audio;text;start;end\n{lines}{more}")
        data, _, report = prepared(tmp_path, tmp_path / "in/x.csv", "--language", "de")
        assert len(data.wav) == len(rows) and not data.segments
        assert sum(report["de"]["left_out"].values()) == count
    (tmp_path / "in/x.csv").write_text(f"audio;text;Offset;offset\n{lines}")
    with pytest.raises(InputError, match="Offset and offset: rename one"):
        prepared(tmp_path, tmp_path / "in/x.csv", "--language", "de")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_rows_of_a_spreadsheet_that_look_empty(mark, rows, tmp_path):
    lines = "".join(f"clips/{name}{mark}{text}\n{mark} {mark}\n{mark}\n" for name, text in rows)
    file = tmp_path / ("in/x.csv" if mark == ";" else "in/x.tsv")
    file.write_text(f"audio{mark}text\n{lines}")
    data, _, report = prepared(tmp_path, file, "--language", "de")
    assert len(data.wav) == len(rows) and not report["de"]["left_out"]


def test_what_is_left_out_fills_no_split(rows, tmp_path):
    """Three texts have audio, whatever the places of the others."""
    lines = [(f"clips/{name}", text) for name, text in rows[:3]]
    lines += [(f"clips/gone{i}.wav", f"Fort {i}.") for i in range(30)]
    file = written(tmp_path / "in/x.csv", ["audio", "text"], lines)
    _, places, report = prepared(tmp_path, file, "--language", "de")
    assert sorted(places.values()) == sorted(SPLITS)
    assert report["de"]["left_out"] == {"no such audio file": 30}


@pytest.mark.parametrize(
    "head,more",
    [("audio;text", ""), ('audio;text;"size, MB"', ";3"), ("audio;text;notes, free", ";a, b"),
     ("sep=;\r\naudio;text", ""), ("audio\ttext", "")],
)  # fmt: skip
def test_a_spreadsheet_with_other_separators_and_lines_in_a_value(rows, tmp_path, head, more):
    mark = "\t" if "\t" in head else ";"
    lines = "".join(f'clips/{name}{mark}"{text[:-1]},\nzwei; drei"{more}\n' for name, text in rows)
    (tmp_path / "in/metadata.csv").write_text(f"{head}\n{lines}clips/0.wav\n", newline="")
    data, _, report = prepared(tmp_path, tmp_path / "in/metadata.csv", "--language", "de")
    assert set(data.text.values()) == {f"{text[:-1]}, zwei; drei" for _, text in rows}
    assert report["de"]["left_out"] == {"a broken row": 1}
    number = 2 * len(rows) + 2 + head.count("\n")  # as an editor counts
    assert f"metadata.csv:{number}" in (tmp_path / "out/left_out.tsv").read_text()


def test_a_tab_separated_table_by_a_program_that_quotes(rows, tmp_path):
    with open(tmp_path / "in/metadata.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["audio", "text"])
        writer.writerows((f"clips/{name}", f'"Ja", {text}') for name, text in rows)
    data, _, _ = prepared(tmp_path, tmp_path / "in/metadata.tsv", "--language", "de")
    assert set(data.text.values()) == {f'"Ja", {text}' for _, text in rows}


def test_rows_that_are_not_utf8_are_counted(rows, tmp_path):
    lines = "".join(f"clips/{name},{text}\n" for name, text in rows).encode()
    file = tmp_path / "in/metadata.csv"
    file.write_bytes(b"audio,text\n" + lines + "clips/0.wav,Grün\n".encode("cp1252") + b"a\n")
    _, _, report = prepared(tmp_path, file, "--language", "de")
    assert report["de"]["left_out"] == {"a broken row": 2}
    listed = (tmp_path / "out/left_out.tsv").read_text()
    assert f"{file}:12" in listed and f"{file}:13" in listed


def test_recordings_with_texts_beside_them(rows, tmp_path):
    folder = tmp_path / "in/clips"
    for name, text in rows:
        (folder / name).with_suffix(".txt").write_text(f"\ufeff{text}\n", encoding="utf-8")
    (folder / "0.json").touch()  # is no recording
    for ending in ("wav", "txt"):  # a Mac's, on a disk of another system
        (folder / f"._0.{ending}").write_bytes(b"\0\5\x16\7")
    name = unicodedata.normalize("NFD", "é")
    sound(folder / f"{name}.wav", 23).rename(folder / f"{name}.3gp")
    (folder / "é.txt").write_text("Ein Name in zwei Formen.")
    rows = [*rows, (f"{name}.3gp", "Ein Name in zwei Formen.")]
    sound(folder / "1.x.wav", 20)  # of which there is no text
    (folder / "gone.txt").write_text("Fort")
    (folder / "latin.txt").write_bytes("Grün".encode("cp1252"))
    sound(folder / "latin.wav", 21)
    for ending in ("wav", "flac"):
        sound(folder / f"both.{ending}", 22)
    (folder / "both.txt").write_text("Zwei")
    data, _, report = prepared(tmp_path, folder, "--language", "de")
    assert {data.text[u]: data.wav[u] for u in data.wav} == {
        text: str(folder / name) for name, text in rows
    }
    assert report["de"]["left_out"] == {
        "a broken row": 1,
        "audio without transcript": 1,
        "no audio in the row": 1,
        "one text of two recordings": 1,
    }


def test_names_that_people_give_to_splits(rows, tmp_path):
    names = ["Training", "training", "train", "TRAIN", "development", "devel", "Validation",
             "testing", "evaluation", "extra"]  # fmt: skip
    lines = [(f"clips/{c}", t, s) for (c, t), s in zip(rows, names, strict=True)]
    file = written(tmp_path / "in/x.csv", ["audio", "text", "split"], lines)
    _, found, report = prepared(tmp_path, file, "--language", "de")
    assert [*found.values()].count("dev") == 3 and [*found.values()].count("test") == 2
    assert report["de"]["left_out"] == {"in none of train, dev and test": 1}
    assert "x.csv:11: extra" in (tmp_path / "out/left_out.tsv").read_text()


def test_spaces_behind_separators(rows, tmp_path):
    head, *lines = ["text, file_name, language", *(f'"{t} Ja, gut.", clips/{c}, Deutsch'
                                                   for c, t in rows)]  # fmt: skip
    file = tmp_path / "in/x.csv"
    file.write_text("\n".join([head, *lines]))
    data, _, _ = prepared(tmp_path, file)
    assert set(data.text.values()) == {f"{t} Ja, gut." for _, t in rows}
    assert set(data.utt2lang.values()) == {"de"}
    head, *lines = ["file_name, text, language", *(f'clips/{c}, "{t} Ja, gut.", Deutsch'
                                                   for c, t in rows)]  # fmt: skip
    file.write_text("\n".join([head, *lines]))
    again, _, _ = prepared(tmp_path, file)
    assert again.text == data.text


def test_paths_of_other_systems(rows, tmp_path):
    """Windows' separators; accents composed in the table and decomposed in the name of the file."""
    names = {"clips/0.wav": "clips\\0.wav", "clips/1.wav": ".\\clips\\1.wav"}
    for i, form in ((2, "NFC"), (3, "NFD")):
        name = unicodedata.normalize(form, f"é{i}.wav")
        (tmp_path / f"in/clips/{i}.wav").rename(tmp_path / f"in/clips/{name}")
        other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", f"clips/é{i}.wav")
        names[f"clips/{i}.wav"] = other
    lines = [(names.get(f"clips/{c}", f"clips/{c}"), t) for c, t in rows]
    file = written(tmp_path / "in/x.csv", ["audio", "text"], lines)
    data, _, report = prepared(tmp_path, file, "--language", "de")
    assert len(data.wav) == 10 and not report["de"]["left_out"]
    lines[0] = ("..\\clips\\0.wav", lines[0][1])
    file = written(tmp_path / "in/x.csv", ["audio", "text"], lines)
    _, _, report = prepared(tmp_path, file, "--language", "de")
    assert report["de"]["left_out"] == {"a path out of the corpus's folder": 1}


def test_rows_without_a_language_count(rows, tmp_path):
    lines = [(f"clips/{c}", t, "de" if i < 7 else " " * (i - 7)) for i, (c, t) in enumerate(rows)]
    file = written(tmp_path / "in/x.csv", ["audio", "text", "language"], lines)
    prepared(tmp_path, file)
    with pytest.raises(
        InputError, match=r"more than --max_left_out 10 %: 3 of 10 .* 3 no language"
    ):
        format_data.main(["--data", str(tmp_path / "out"), "--out", str(tmp_path / "raw")])


@pytest.mark.parametrize(
    ("line", "why"),
    [(b"clips/3.wav,caf\xe9", "not UTF-8"), (b"clips/3.wav,Ja, gut", "3 values in 2 columns")],
)
def test_a_broken_row_says_why(line, why, rows, tmp_path, capsys):
    content = GOOD.encode().replace(b"clips/3.wav,Satz 3", line)
    (tmp_path / "in/metadata.csv").write_bytes(content)
    prepared(tmp_path, tmp_path / "in", "--language", "de")
    assert f"metadata.csv:5: {why}" in (tmp_path / "out/left_out.tsv").read_text()
    assert f"metadata.csv:5: {why}" in capsys.readouterr().out


@pytest.mark.usefixtures("rows")
def test_where_nothing_can_be_used_it_says_why(tmp_path, capsys):
    file = tmp_path / "in/x.csv"
    file.write_text(GOOD.replace("clips/", "no/"))
    given = ["--data_root", str(file), "--language", "de", "--out", str(tmp_path / "out")]
    refused(given, "nothing that can be used: 10 no such audio file; listed in ", capsys)
    assert (tmp_path / "out/left_out.tsv").read_text().count("\tno such audio file") == 10
    file = tmp_path / "in/y.json"
    file.write_text('[{"audio": "clips/0.wav", "text": "Satz"}]')
    given = ["--data_root", str(file), "--language", "de", "--out", str(tmp_path / "out")]
    refused(given, "no row that can be read: ", capsys)


def test_a_split_of_ones_own_goes_before_the_column(rows, tmp_path):
    lines = [(f"clips/{name}", text, "train") for name, text in rows]
    file = written(tmp_path / "in/x.csv", ["audio", "text", "split"], lines)
    with pytest.raises(InputError, match="no row of dev in the column split; --split 80/10/10"):
        prepared(tmp_path, file, "--language", "de")
    assert not (tmp_path / "out").exists()
    _, places, _ = prepared(tmp_path, file, "--language", "de", "--split", "6/2/2")
    assert set(places.values()) == set(SPLITS)


GOOD = "audio,text\n" + "".join(f"clips/{i}.wav,Satz {i}\n" for i in range(10))


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (GOOD, [], "no column for language (language, lang, locale): name it with --language_colu"),
        (GOOD, ["--language", "Klingon"], "--language Klingon: not a language of Whisper"),
        (GOOD, ["--language", "de", "--text_column", "x"], "no column 'x' (it has audio, text)"),
        (GOOD, ["--language", "de", "--split", "80/20"], "--split 80/20: not three whole numbers"),
        (GOOD, ["--language", "de", "--split", "80/20/0"], "--split 80/20/0: not three whole"),
        (GOOD, ["--split", "8/1/1", "--split_column", "x"], "--split and --split_column: one of"),
        (GOOD, ["--language", "de", "--language_column", "text"], "--language_column: one of them"),
        (GOOD.replace("audio", "sound"), ["--language", "de"], "no column for audio (audio, path,"),
        (GOOD.replace("text", "path"), ["--language", "de"], "audio and path: say which, with --"),
        (GOOD.replace("text", "audio"), ["--language", "de"], ":1: column 'audio' stands twice"),
        (GOOD.replace("Satz 3", '"Satz 3'), ["--language", "de"], "metadata.csv:5: "),
        (GOOD[:30], ["--language", "de"], "--split: 1 different text cannot be in three splits"),
        ("", ["--language", "de"], "metadata.csv: empty"),
        ("audio,text\n", ["--language", "de"], "metadata.csv: no row that can be read"),
        (GOOD.encode("utf-16"), ["--language", "de"], ":1: the line of column names is not UTF-8"),
    ],
)
@pytest.mark.usefixtures("rows")
def test_mistakes(content, options, said, tmp_path, monkeypatch, capsys):
    file = tmp_path / "in/metadata.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(["--data_root", str(file), "--out", str(tmp_path / "out"), *options], said, capsys)
    assert not (tmp_path / "out").exists()


def refused(given, said, capsys, script=table):
    """One line on standard error, whatever progress stands before it, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        run(lambda: script.main(given))
    assert ended.value.code == 2
    (error,) = (x for x in capsys.readouterr().err.splitlines() if x and "headers:" not in x)
    assert said in error


@pytest.mark.usefixtures("rows")
def test_wrong_folders(tmp_path, capsys):
    root = tmp_path / "in"
    for name, said in (("gone", "no such file or folder"), ("clips", "no metadata.csv, ")):
        refused(["--data_root", str(root / name), "--language", "de"], said, capsys)
    refused(["--data_root", str(root / "clips/0.wav")], "not .csv, .tsv or .jsonl", capsys)
    (root / "clips/0.txt").write_text("Satz")
    refused(["--data_root", str(root / "clips")], "say their --language", capsys)
    for name in ("metadata.csv", "manifest.json"):
        (root / name).write_text(GOOD)
    refused(["--data_root", str(root)], "metadata.csv and manifest.json: name one", capsys)


def test_one_kaldi_folder_is_split(rows, tmp_path, capsys):
    root, out = tmp_path / "in", tmp_path / "out"
    data = KaldiDir()
    for i, (name, text) in enumerate(rows):
        data.add(f"s{i % 5}-{i}", root / "clips" / name, text, f"s{i % 5}", "de")
    data.save(root / "my")
    given = ["--data_root", str(root / "my"), "--out", str(out)]
    assert kaldi_dir.main([*given, "--split", "60/20/20"]) == 0
    found = {split: validate(out / split) for split in SPLITS}
    speakers = [{*of.utt2spk.values()} for of in found.values()]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    assert sum(len(of.wav) for of in found.values()) == 10
    assert "split 60/20/20 by speaker: train " in capsys.readouterr().out
    refused([*given, "--untranscribed"], "is one folder, whose test needs text", capsys, kaldi_dir)
    again = ["--data_root", str(out), "--out", str(tmp_path / "more"), "--split", "8/1/1"]
    refused(again, "--split: the folders are split already", capsys, kaldi_dir)
