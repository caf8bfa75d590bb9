"""Scripts for corpora that a user has: each one's own layout, made small, of real clips."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from whisper.tokenizer import LANGUAGES

from espnet_dq.bin import format_data
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.languages import ISO, OWN_NAMES, whisper_code
from espnet_dq.data.summary import read_sources
from espnet_dq.data.tables import unquoted
from espnet_dq.data.validation import faults
from espnet_dq.errors import InputError, WorkError
from local import (
    aishell,
    common_voice,
    fleurs,
    kaldi_dir,
    librispeech,
    mls,
    speechocean762,
    voxpopuli,
)
from tests.data import small_corpora as small
from tests.data.small_corpora import SPLITS, put, write


@pytest.fixture
def clip(clips):
    """A real clip."""
    return clips[0][0]


def prepare(script, root, tmp_path, *options):
    """Run a script; the three splits, and report.json."""
    out = tmp_path / "out"
    assert script.main(["--data_root", str(root), "--out", str(out), *options]) == 0
    assert all(faults(out / name) == [] for name in SPLITS)
    known = {"aishell": "Apache-2.0", "common_voice": "CC0-1.0", "voxpopuli": "CC0-1.0"}
    known["speechocean762"] = "free, also commercially (its README)"
    licence = known.get(script.__name__.split(".")[1], "CC-BY-4.0")
    sources = json.loads((out / "sources.json").read_text())
    expected = [] if script is kaldi_dir else [licence]  # whose data these are nobody knows
    assert [source["licence"].split(";")[0] for source in sources] == expected
    splits = [KaldiDir.load(out / name, extra=["utt2dur"]) for name in SPLITS]
    return *splits, json.loads((out / "report.json").read_text())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("zh-CN", "zh"),
        ("zh-TW", "zh"),
        ("zh-HK", "yue"),
        ("sv-SE", "sv"),
        ("ga-IE", None),
        ("nn-NO", "nn"),
        ("pt_br", "pt"),
        ("cmn_hans_cn", "zh"),
        ("yue_hant_hk", "yue"),
        ("fil_ph", "tl"),
        ("nb_no", "no"),
        ("jv_id", "jw"),
        ("es_419", "es"),
        ("ckb_iq", None),
        ("ast_es", None),
        ("german", "de"),
        ("german_opus", "de"),
        ("Mandarin", "zh"),
        ("en_accented", "en"),
        ("IT", "it"),
        ("jv", "jw"),
        ("zh_CN.UTF-8", "zh"),
        ("zh-Hant-HK", "yue"),
        ("zho_Hans", "zh"),
        ("zho-Hant-HK", "yue"),
        ("chi-HK", "yue"),
        ("Chinese (Cantonese)", "yue"),
        ("Chinese (Hong Kong)", "yue"),
        ("Chinese-Yue", "yue"),
        ("zh-Hant-TW", "zh"),
        ("cmn-Hant-HK", "zh"),
        ("nan-tw", None),
        ("zh-min-nan", None),
        ("chi-nan", None),
        ("Chinese (Min Nan)", None),
        ("Chinese Wu", None),
        ("Latin American Spanish", "es"),
        ("deu", "de"),
        ("ger", "de"),
        ("arb_Arab", "ar"),
        ("swh", "sw"),
        ("nno_Latn", "nn"),
        ("Haitian_Creole", "ht"),
        ("Chinese (Simplified)", "zh"),
        ("Norwegian Nynorsk", "nn"),
        (" farsi ", "fa"),
        ("Deutsch", "de"),
        ("ESPAÑOL", "es"),
        ("Espan\u0303ol", "es"),
        ("中文", "zh"),
        ("日本語", "ja"),
        ("Brazilian Portuguese", "pt"),
        ("Simplified Chinese", "zh"),
        ("Modern Standard Arabic", "ar"),
        ("Modern Greek", "el"),
        ("Slovene", "sl"),
        ("arz", "ar"),
        ("South African English", "en"),
        ("South Azerbaijani", None),  # which is written in Arabic letters
        ("Irish", None),
        ("Scottish Gaelic", None),
        ("American Sign Language", None),
        ("Swiss German", None),
        ("ast", None),
        ("Low German", None),
        ("", None),
        ("-", None),
    ],
)
def test_languages(name, code):
    assert whisper_code(name) == code


def test_every_language_has_a_name_of_its_own():
    pairs = [
        x.strip().split(":") for row in OWN_NAMES.split("\n") for x in row.split("|") if x.strip()
    ]
    assert {code for _, code in pairs} == set(LANGUAGES)
    for name, code in pairs:
        assert whisper_code(name) == whisper_code(name.title()) == code, name


def test_iso_639_3_names_all_of_whispers_languages():
    """Every code of three letters that is not Whisper's own, and none stands for nothing."""
    pairs = [pair.split(":") for pair in ISO.split()]
    assert len({name for name, _ in pairs}) == len(pairs)
    assert {code for _, code in pairs} == set(LANGUAGES)
    assert all(len(name) == 3 and whisper_code(name) == code for name, code in pairs)
    for code, name in LANGUAGES.items():
        assert whisper_code(code) == whisper_code(name.title().replace(" ", "_")) == code


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"name": "A"', r"line 1"),
        ('{"name": "A", "licence": "B"}', "not a list"),
        ('[{"name": "A", "licence": ""}, {"name": "B"}]', r"\[1\]: 'licence'"),
        ('[{"name": 1, "licence": ""}]', r"\[0\]: 'name'"),
        ("[7]", r"\[0\]: 'name'"),
    ],
)
def test_broken_sources_are_named(content, message, tmp_path):
    path = tmp_path / "sources.json"
    with pytest.raises(InputError, match=f"{path}: "):
        read_sources(path)
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_sources(path)


@pytest.fixture(scope="module")
def common_once(clips, tmp_path_factory):
    root = tmp_path_factory.mktemp("common") / "cv-corpus"
    small.common_voice(root, clips[0][0])
    return root


@pytest.fixture
def common(common_once, tmp_path):
    """Common Voice in four languages, two of them with rows that are of no use."""
    return shutil.copytree(common_once, tmp_path / "cv-corpus")


def test_common_voice(common, tmp_path, capsys):
    train, dev, test, report = prepare(common_voice, common, tmp_path)
    assert report["sv"]["left_out"] == {
        "a broken row": 3,
        "a path out of the corpus's folder": 2,
        "an id that stands twice": 1,
        "empty audio": 1,
        "empty text": 1,
        "no such audio file": 1,
        "not speech": 1,
    }
    assert report["ga-IE"] == {
        "train": 0,
        "dev": 0,
        "test": 0,
        "minutes": 0.0,
        "left_out": {"not a language of Whisper": 3},
    }
    assert (report["sv"]["train"], report["zh"]["dev"], report["ar"]["test"]) == (2, 1, 1)
    said = capsys.readouterr().out
    assert f"{common}/sv-SE/train.tsv:3: 8 values in 7 columns: a broken row" in said
    (late,) = (u for u in train.wav if u.endswith("-late"))
    assert train.text[late] == 'Cafe\u0301, "quoted"\u2028 here'  # nothing is normalised
    assert train.utt2lang[late] == "sv"
    speaker = train.utt2spk[late]
    assert late == f"{speaker}-late" and len(speaker) == len("sv-SE-") + 16
    assert sorted(test.text.values()) == [
        "Text test, sv-SE",
        "مرحبا، كيف حالك؟",
        "文本 test, zh-CN",
    ]
    assert len(dev.wav) == 3 and set(dev.utt2lang.values()) == {"sv", "zh", "ar"}
    for text in (*train.text.values(), *dev.text.values()):
        assert "validated" not in text and "other" not in text  # rows of tables that are not read
    for name in SPLITS:
        keys = (tmp_path / "out" / name / "text").read_bytes().split(b"\n")[:-1]
        assert keys == sorted(keys)  # as LC_ALL=C sort


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ('"""Hej,"" sa han."', '"Hej," sa han.'),
        ('"Det kallas ""hej""."', 'Det kallas "hej".'),
        ('"""Hej!"""', '"Hej!"'),
        ('"Hej!"', '"Hej!"'),
        ('"Hej," sa han. "Hej!"', '"Hej," sa han. "Hej!"'),
        ('Sa han ""hej"', 'Sa han ""hej"'),
        ('"', '"'),
        ('""', '""'),
    ],
)
def test_quotes_that_csv_has_left(sentence, text):
    assert unquoted(sentence) == text


def test_common_voice_with_quotes_of_csv(common, tmp_path):
    table = common / "zh-CN/test.tsv"
    table.write_text(table.read_text().replace("文本 test, zh-CN", ' """文本,"" 文。"'))
    _, _, test, _ = prepare(common_voice, common / "zh-CN", tmp_path)
    assert [*test.text.values()] == ['"文本," 文。']


def test_common_voice_through_stage_2(common, clips, tmp_path):
    """48 kHz stereo mp3 becomes the mean of its channels at 16 kHz: half of the clip."""
    prepare(common_voice, common, tmp_path, "--languages", "zh")
    arguments = ["--data", str(tmp_path / "out"), "--out", str(tmp_path / "dump")]
    format_data.main(arguments)
    (wav,) = KaldiDir.load(tmp_path / "dump/test").wav.values()
    info = soundfile.info(wav)
    assert (info.samplerate, info.channels) == (16000, 1)
    cut, clip = load_audio(wav), load_audio(clips[0][0])
    assert np.sqrt(np.mean(cut**2)) == pytest.approx(np.sqrt(np.mean(clip**2)) / 2, rel=0.1)


def test_languages_that_are_asked_for(common, tmp_path):
    _, _, test, report = prepare(common_voice, common, tmp_path, "--languages", "zh,sv-SE")
    assert report.keys() == {"zh", "sv"} and len(test.wav) == 2
    *_, report = prepare(common_voice, common / "zh-CN", tmp_path)
    assert report.keys() == {"zh"}
    for wanted, said in (("ga-IE", "ga-IE: not a language"), ("de", "no folder of it")):
        with pytest.raises(InputError, match=said):
            prepare(common_voice, common, tmp_path, "--languages", wanted)
    with pytest.raises(WorkError, match="not a language of Whisper"):
        prepare(common_voice, common / "ga-IE", tmp_path)


def test_asked_for_by_other_names(common, tmp_path):
    *_, report = prepare(common_voice, common, tmp_path, "--languages", "swe,Arabic")
    assert report.keys() == {"sv", "ar"}


def test_a_language_through_the_token_of_another(common, tmp_path):
    train, _, _, report = prepare(common_voice, common, tmp_path, "--language_tokens", "ga=cy")
    assert "ga-IE" not in report and report["cy"]["train"] == 1
    assert [lang for utt, lang in train.utt2lang.items() if utt.startswith("ga-IE")] == ["cy"]
    wanted = ["--languages", "ga", "--language_tokens", "ga-IE=Welsh"]
    assert prepare(common_voice, common, tmp_path, *wanted)[3].keys() == {"cy"}
    for tokens, said in (
        ("sv-SE=no", "sv-SE=no: Whisper knows it as sv"),
        ("ga-IE=ast", "ga-IE=ast: not NAME=LANGUAGE"),
        ("ga-IE", "ga-IE: not NAME=LANGUAGE"),
        ("=cy", "=cy: not NAME=LANGUAGE"),
        ("ga=cy,ga=en", "ga=en: ga stands twice"),
        ("ga=cy,ast=es", "ast: no folder of it"),
    ):
        with pytest.raises(InputError, match=f"--language_tokens {said}"):
            prepare(common_voice, common, tmp_path, "--language_tokens", tokens)


@pytest.mark.parametrize(("name", "options"), [("swh", ()), ("sw_KE", ()), ("en", ("Swahili",))])
def test_kaldi_folders_with_other_names_of_languages(name, options, tmp_path, clip):
    root = tmp_path / "kaldi"
    small.kaldi(root, clip)
    for split in SPLITS:
        table = root / split / "utt2lang"
        table.write_text(table.read_text().replace(" sw\n", f" {name}\n"))
    options = [x for language in options for x in ("--language", language)]
    for data in prepare(kaldi_dir, root, tmp_path, *options)[:3]:
        assert set(data.utt2lang.values()) == {"sw"}
    with pytest.raises(InputError, match="--language Klingon: not a language of Whisper"):
        prepare(kaldi_dir, root, tmp_path, "--language", "Klingon")


def test_texts_of_kaldi_folders(tmp_path, clip):
    """As of other corpora: remarks alone are no speech, and a tab is a space."""
    for name in SPLITS:
        put(clip, tmp_path / "wav" / f"{name}.wav")
        data = KaldiDir()
        texts = {"a": "A\ttext\u2028 <unk>", "b": "[noise]", "c": "<unk>", "d": "..."}
        for utt, text in texts.items() if name == "train" else [("a", "Text")]:
            data.add(f"{name}-{utt}", tmp_path / "wav" / f"{name}.wav", text, "ann", "en")
        data.save(tmp_path / name)
    train, *_, report = prepare(kaldi_dir, tmp_path, tmp_path)
    assert train.text == {"train-a": "A text\u2028 <unk>"}
    assert report["en"]["left_out"] == {"not speech": 3}


def test_broken_common_voice(common, tmp_path):
    write(common / "ar/dev.tsv", "client_id\tpath\ttext\n")
    with pytest.raises(InputError, match=r"ar/dev\.tsv:1: no column 'sentence'"):
        prepare(common_voice, common, tmp_path)
    (common / "ar/dev.tsv").write_bytes(b"")
    with pytest.raises(InputError, match=r"ar/dev\.tsv: empty"):
        prepare(common_voice, common, tmp_path)
    (common / "ar/dev.tsv").unlink()
    with pytest.raises(InputError, match=r"ar/dev\.tsv: no such file"):
        prepare(common_voice, common, tmp_path)
    with pytest.raises(InputError, match="no LANGUAGE/"):
        prepare(common_voice, common / "ar/clips", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        prepare(common_voice, tmp_path / "none", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_fleurs(tmp_path, clip, packed):
    root = tmp_path / "fleurs/data"
    small.fleurs(root.parent, clip, packed)
    train, _, _, report = prepare(fleurs, root.parent, tmp_path)
    assert sorted(train.text) == ["cmn_hans_cn-0", "en_us-0"]
    assert train.text["en_us-0"] == 'The "raw" Text, train.'
    assert train.utt2lang == {"cmn_hans_cn-0": "zh", "en_us-0": "en"}
    assert train.utt2spk["en_us-0"] == "en_us-0"
    assert report["en"]["left_out"] == {
        "a path out of the corpus's folder": 3,
        "no such audio file": 3,
    }
    assert report["luo_ke"]["left_out"] == {"not a language of Whisper": 3}
    where = tmp_path / "out/unpacked" if packed else root
    assert all(x.startswith(str(where)) for x in train.wav.values())
    assert not list(tmp_path.glob("**/data/*/escaped.wav")) and not list(tmp_path.glob("*.wav"))
    if packed:
        (clip,) = (tmp_path / "out/unpacked/en_us").glob("train.*/0.wav")
        before = clip.stat().st_mtime_ns
        prepare(fleurs, root.parent, tmp_path)  # finished archives are not unpacked again
        assert clip.stat().st_mtime_ns == before
        archive = root / "en_us/audio/dev.tar.gz"
        archive.write_bytes(archive.read_bytes()[:2000])
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(InputError, match=r"en_us/audio/dev\.tar\.gz"):
            prepare(fleurs, root.parent, tmp_path)


def test_mls(tmp_path, clip):
    root = tmp_path / "mls"
    small.mls(root, clip)
    _, dev, _, report = prepare(mls, root, tmp_path)
    assert dev.utt2lang == {"german-10_20_000001": "de", "polish-10_20_000001": "pl"}
    assert dev.utt2spk["german-10_20_000001"] == "german-10"
    assert dev.wav["german-10_20_000001"].endswith("mls_german/dev/audio/10/20/10_20_000001.flac")
    assert report["de"]["left_out"] == {"a broken row": 3, "no such audio file": 3}
    *_, report = prepare(mls, root / "mls_german", tmp_path)
    assert report.keys() == {"de"}


def test_mls_in_both_formats(tmp_path, clip):
    """A clip once, whichever of the two has it; what one folder lacks the other gives."""
    root = tmp_path / "mls"
    small.mls(root, clip)
    (root / "mls_polish_opus").rename(root / "mls_german_opus")
    (root / "mls_german/dev/audio/10/20/10_20_000001.flac").unlink()
    with open(root / "mls_german_opus/test/transcripts.txt", "a") as table:
        table.write("10_20_000007\tnur hier\n")
    opus = root / "mls_german_opus/test/audio/10/20"
    (opus / "10_20_000007.opus").write_bytes((opus / "10_20_000002.opus").read_bytes())
    train, dev, test, report = prepare(mls, root, tmp_path)
    assert train.wav["german-10_20_000000"].endswith(".flac") and len(train.wav) == 1
    assert dev.wav["german-10_20_000001"].endswith(
        "mls_german_opus/dev/audio/10/20/10_20_000001.opus"
    )
    assert test.text.keys() == {"german-10_20_000002", "german-10_20_000007"}
    assert {*test.utt2spk.values()} == {"german-10"}
    assert report["de"]["left_out"] == {"a broken row": 6, "no such audio file": 3}


def test_librispeech(tmp_path, clip):
    small.librispeech(tmp_path, clip)
    train, _, test, report = prepare(librispeech, tmp_path, tmp_path)
    assert train.text == {"100-7-0000": "HELLO THERE", "101-7-0000": "HELLO THERE"}
    assert test.utt2spk == {"103-7-0000": "103"}
    assert report["en"]["left_out"] == {"audio without transcript": 4, "no such audio file": 4}
    with pytest.raises(InputError, match="no train-"):
        prepare(librispeech, tmp_path / "LibriSpeech/dev-clean", tmp_path)


def test_aishell(tmp_path, clip):
    small.aishell(tmp_path, clip)
    _, dev, _, report = prepare(aishell, tmp_path, tmp_path)
    assert dev.text == {"S0001-BAC009S0001W0122": "而对楼市成交AB"}
    assert (dev.utt2spk, dev.utt2lang) == (
        {"S0001-BAC009S0001W0122": "S0001"},
        {"S0001-BAC009S0001W0122": "zh"},
    )
    assert report["zh"]["left_out"] == {
        "a broken row": 1,
        "audio without transcript": 3,
        "no such audio file": 1,
    }


def test_speechocean762(tmp_path, clip):
    small.speechocean762(tmp_path, clip)
    train, dev, test, report = prepare(speechocean762, tmp_path, tmp_path)
    assert (train.text, train.utt2spk) == (
        {"Strain0-train0": "WE CALL IT train"},
        {"Strain0-train0": "Strain0"},
    )
    assert (*dev.text.values(), *test.text) == ("BEAR", "Stest0-test0")
    assert report["en"]["left_out"] == {
        "a path out of the corpus's folder": 2,
        "no audio in the row": 2,
        "no such audio file": 2,
    }
    write(tmp_path / "test/utt2spk", "test0 Stest0\n")
    with pytest.raises(InputError, match="utt2spk: no speaker for utterance test1"):
        prepare(speechocean762, tmp_path, tmp_path)


def test_voxpopuli(tmp_path, clip):
    small.voxpopuli(tmp_path, clip)
    train, _, _, report = prepare(voxpopuli, tmp_path, tmp_path)
    assert train.text == {
        "en-7-2009-PLENARY-en_2009:train": "Raw, text.",
        "lt-7-2009-PLENARY-lt_2009:train": "normal text",
    }
    assert train.utt2spk["lt-7-2009-PLENARY-lt_2009:train"] == "lt-7"
    assert report["en"]["left_out"] == {"a path out of the corpus's folder": 3}
    for wanted, count in (("en", 1), ("english", 1), ("en_accented", 1), ("en,en_accented", 2)):
        train, *_ = prepare(voxpopuli, tmp_path, tmp_path, "--languages", wanted)
        assert len(train.wav) == count
        assert any("en_accented" in utt for utt in train.wav) == ("accented" in wanted)


def test_a_corpus_is_not_overwritten(tmp_path, clip):
    german = tmp_path / "mls_german"
    for split in SPLITS:
        put(clip, german / split / f"audio/1/2/1_2_{split}.flac")
        write(german / split / "transcripts.txt", f"1_2_{split}\tText\n")
    with pytest.raises(InputError, match="which no Kaldi folder has"):
        mls.main(["--data_root", str(german), "--out", str(german)])
    assert (german / "train/transcripts.txt").exists()
