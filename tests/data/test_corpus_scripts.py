"""The readers of local/: each corpus's own layout, made small."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.summary import write_sources
from espnet_dq.data.validation import faults
from espnet_dq.errors import InputError
from tests.data.small_corpora import put

LOCAL = Path(__file__).resolve().parents[2] / "local"


def script(name):
    spec = importlib.util.spec_from_file_location(f"local_{name}", LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


asterisk, festvox_ru, fillets, split, tuxpaint = map(
    script, ("asterisk", "festvox_ru", "fillets", "split", "tuxpaint")
)


def sounds(tmp_path, content):
    path = tmp_path / "core-sounds-it.txt.gz"
    path.write_bytes(gzip.compress(content))
    return path


def test_asterisk_texts(tmp_path):
    content = (
        b"\xef\xbb\xbf; Core Sounds\n\n activated: Attivato.\r\ndir-welcome:\n"
        + "conf-full: La conferenza ? piena: ciao\ndigits/1: è\n".encode()
    )
    assert asterisk.read_texts(sounds(tmp_path, content)) == [
        ("activated", "Attivato."),
        ("dir-welcome", ""),
        ("conf-full", "La conferenza ? piena: ciao"),
        ("digits/1", "è"),
    ]


@pytest.mark.parametrize("content", [b"a: one\nno name here\n", b"a: \xe8\n"])
def test_broken_asterisk_texts(tmp_path, content):
    with pytest.raises(InputError, match=r"core-sounds-it\.txt\.gz"):
        asterisk.read_texts(sounds(tmp_path, content))
    (tmp_path / "core-sounds-it.txt.gz").write_bytes(gzip.compress(b"a: b" * 99)[:-9])
    with pytest.raises(InputError, match=r"core-sounds-it\.txt\.gz"):
        asterisk.read_texts(tmp_path / "core-sounds-it.txt.gz")


def test_asterisk_match():
    audio = {x: Path(f"{x}.g722") for x in ("a", "twice", "vm-one", "vm-two", "digits/1M", "tone")}
    texts = [
        ("a", "One"),
        ("twice", "cero"),
        ("twice", "diez"),
        ("vm-one", "Press.vm-two: Press more"),  # a lost line end
        ("vm-two", "Press: more"),
        ("digits/1m", "un"),
    ]
    clips, left_out = asterisk.match("es", texts, audio, "asterisk_es_MX_f_A")
    assert [(c.utt, c.prompt, c.text) for c in clips] == [
        ("asterisk_es_MX_f_A-a", "a", "One"),
        ("asterisk_es_MX_f_A-vm-two", "vm-two", "Press: more"),
    ]
    assert left_out == {
        "one of two transcripts of a clip": 2,
        "name of a prompt in the text": 1,
        "transcript without audio": 1,
        "audio without transcript": 2,
    }


def test_festvox_texts(tmp_path):
    path = tmp_path / "txt.done.data"
    path.write_text('( ru_1 "Она прядь вол+ос, - \\"да\\"." )\n\n( ru_2 "+Окна." )\n')
    assert festvox_ru.read_texts(path) == {"ru_1": 'Она прядь волос, - \\"да\\".', "ru_2": "Окна."}
    path.write_text('( ru_1 "Да." )\nru_2 Окна\n')
    with pytest.raises(InputError, match=r"txt\.done\.data:2"):
        festvox_ru.read_texts(path)
    with pytest.raises(InputError, match="none"):
        festvox_ru.read_texts(tmp_path / "none")


def test_fillets_match(tmp_path):
    lua = {
        "wc/dialogs_cs.lua": """
dialogId("wc-a", "font_small", "He said \\"hi\\".")
dialogStr("Řekl \\"ahoj\\", (tiše).")

dialogId("wc-mute", "", "Text")
dialogStr("Němý")
""",
        "wc/demo_dialogs_cs.lua": 'dialogId("wc-a", "font_big", "x")\ndialogStr("Jiný text")\n',
        "keys/dialogs_cs.lua": 'dialogId("wc-a", "font_both", "x")\ndialogStr("Klíče")\n',
        "share/bore_dialogs_cs.lua": 'dialogId("j1", "font_big", "x")\ndialogStr("Vtip")\n',
        "keys/dialogs_nl.lua": 'dialogId("wc-a", "font_big", "x")\ndialogStr("Sleutels")\n',
    }
    for name, content in lua.items():
        (tmp_path / "script" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "script" / name).write_text(content)
    for name in ("wc/cs/wc-a", "keys/cs/wc-a", "share/bore/cs/j1", "wc/cs/extra"):
        (tmp_path / "sound" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sound" / f"{name}.ogg").touch()
    clips, left_out = fillets.match("cs", tmp_path / "script", tmp_path / "sound")
    assert {(c.prompt, c.speaker, c.text) for c in clips} == {
        ("keys/wc-a", "fillets_cs_both", "Klíče"),
        ("share/j1", "fillets_cs_big", "Vtip"),
    }
    assert left_out == {
        "one of two transcripts of a clip": 1,
        "transcript without audio": 1,
        "audio without transcript": 1,
    }
    dialogs = fillets.read_dialogs(tmp_path / "script/wc/dialogs_cs.lua")
    assert dialogs[0] == ("wc-a", "small", 'Řekl "ahoj", (tiše).')
    assert dialogs[1][1] == "unknown"


def test_tuxpaint_match_and_what_is_kept(tmp_path, clips, monkeypatch):
    """Speakers are not known; es fr ru are a part of their own; only what is kept is taken."""
    stamps = tmp_path / f"downloads/tuxpaint-stamps-default_2022.06.04-1/{tuxpaint.STAMPS}"
    texts = "A crow.\nro.utf8=O cioară neagră.\nru.utf8=Ворона.\nes.utf8=Un cuervo negro.\n"
    for name in ("crow", "hen", "cow"):
        for lang in ("ro", "ru", "es"):
            put(clips[0][0], stamps / f"animals/birds/{name}_desc_{lang}.ogg")
    for name in ("crow", "hen"):
        (stamps / f"animals/birds/{name}.txt").write_text(texts)
    clips, left_out = tuxpaint.match("ro", stamps)
    assert [(c.prompt, c.text) for c in clips] == [
        ("animals/birds/crow", "O cioară neagră."),
        ("animals/birds/hen", "O cioară neagră."),
    ]
    assert left_out == {"audio without transcript": 1}
    kept = tmp_path / "kept.txt"
    kept.write_text("ro animals/birds/crow\nes animals/birds/hen\nru animals/birds/crow\n")
    monkeypatch.setattr(tuxpaint, "KEPT", kept)
    out = tmp_path / "data"
    tuxpaint.main(["--out", str(out), "--downloads", str(tmp_path / "downloads")])
    found = {name: KaldiDir.load(out / "parts" / name) for name in tuxpaint.PARTS}
    assert list(found["tuxpaint"].wav) == ["tuxpaint_ro-animals-birds-crow"]
    assert set(found["tuxpaint_others"].utt2lang.values()) == {"es", "ru"}
    assert all(not data.speaker(utt) for data in found.values() for utt in data.wav)
    causes = json.loads((out / "parts/tuxpaint/left_out.json").read_text())["ro"]
    assert causes == {"audio without transcript": 1, "not found to say its text": 1}


def part(out, name, prompts):
    """A prepared part with one utterance a prompt, each with its own text."""
    (out / "parts").mkdir(parents=True, exist_ok=True)
    audio = out / "a.wav"
    audio.write_bytes(b"x")
    utts = {f"{name}-{p.replace('/', '-')}": (p, text) for p, text in prompts.items()}
    data = KaldiDir(
        dict.fromkeys(utts, str(audio)),
        {u: text for u, (_, text) in utts.items()},
        dict.fromkeys(utts, name),
        dict.fromkeys(utts, "ru"),
        {"utt2prompt": {u: p for u, (p, _) in utts.items()}, "utt2dur": dict.fromkeys(utts, "60")},
    )
    data.save(out / "parts" / name)
    (out / "parts" / name / "left_out.json").write_text(json.dumps({"ru": {"not speech": 1}}))


def test_split_looks_at_all_corpora_at_once(tmp_path):
    # digits/1F is in test by its name, vm-mismatch in dev, the others in train.
    part(tmp_path, "one", {"digits/1F": "Да.", "vm-mismatch": "Нет", "hello-world": "Привет"})
    part(tmp_path, "two", {"digits/1": "да", "digits/1F": "Окна", "letters/o": "Оу"})
    assert split.main(["one", "two", "--out", str(tmp_path)]) == 0
    found = {x: sorted(KaldiDir.load(tmp_path / x).wav) for x in ("train", "dev", "test")}
    assert found == {
        "train": ["one-digits-1F", "one-hello-world", "two-digits-1", "two-letters-o"],
        "dev": ["one-vm-mismatch"],
        "test": ["two-digits-1F"],
    }
    assert all(faults(tmp_path / x) == [] for x in found)
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "ru": {"train": 4, "dev": 1, "test": 1, "minutes": 6.0, "left_out": {"not speech": 2}}
    }


def test_sources_of_all_corpora_are_kept(tmp_path):
    """What each part says of itself, in their order; licences as their packages have them."""
    part(tmp_path, "one", {"digits/1F": "Да.", "vm-mismatch": "Нет", "hello-world": "Привет"})
    part(tmp_path, "two", {"letters/o": "Оу"})
    part(tmp_path, "three", {"letters/p": "Пэ"})
    write_sources(tmp_path / "parts/two/sources.json", [fillets.SOURCE])
    write_sources(tmp_path / "parts/three/sources.json", [asterisk.SOURCE])
    assert split.main(["one", "two", "three", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "sources.json").read_text())
    assert [x["licence"] for x in found] == ["GPL-2", "CC-BY-SA-3.0"]
    assert ["fillets-ng" in x["name"] for x in found] == [True, False]
    assert festvox_ru.SOURCE.licence == "BSD-like"


def test_split_refuses_one_id_in_two_corpora(tmp_path):
    part(tmp_path, "one", {"digits/1F": "Да."})
    (tmp_path / "parts/two").symlink_to(tmp_path / "parts/one")
    with pytest.raises(InputError, match="'one-digits-1F' is in another corpus too"):
        split.main(["one", "two", "--out", str(tmp_path)])


@pytest.mark.parametrize("name", sorted(path.stem for path in LOCAL.glob("*.py")))
def test_an_empty_path_is_none(name, capsys):
    main = script(name).main
    with pytest.raises(SystemExit):
        main(["--help"])
    known = {"--out", "--data_root", "--downloads", "--train"} & {*capsys.readouterr().out.split()}
    assert "--out" in known
    for option in known:
        with pytest.raises(SystemExit) as ended:
            main([option, ""])
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(f"argument {option}: a path is empty\n")
