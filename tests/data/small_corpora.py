"""Each corpus in its own layout, made small, with what can be wrong in one.

A builder takes a folder that is not there yet and a mono WAV of two to twelve seconds at 16 kHz; it
returns how many entries it made: rows, and audio that no row names. A script of `local/` must take
or count each of them.
"""

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from espnet_dq.data.kaldi import KaldiDir
from local import asterisk as asterisk_script
from local import festvox_ru as festvox_script
from local import fillets as fillets_script

SPLITS = ("train", "dev", "test")


def put(source: Path, path: Path) -> None:
    """Copy a file, folders and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)


def write(path: Path, content: str) -> None:
    """Write a text as it stands, folders and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")


def encode(path: Path, samples: np.ndarray, rate: int, codec: str, sample_format: str) -> None:
    """Write (channels, samples) as PyAV's `codec`, which is the container's name, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=codec) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)


def mp3(clip: Path, path: Path) -> None:
    """The clip as Common Voice's: mp3, 48 kHz, here with a silent second channel."""
    samples, _ = soundfile.read(clip, dtype="float32")
    high = np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples)
    encode(path, np.stack([high, 0 * high]).astype(np.float32), 48000, "mp3", "fltp")


def g722(clip: Path, path: Path) -> None:
    """The clip as Asterisk's."""
    encode(path, soundfile.read(clip, dtype="int16")[0][None], 16000, "g722", "s16")


def common_voice(root: Path, clip: Path) -> int:
    """Four languages, one unknown to Whisper; rows of no use in one of them."""
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tlocale\r\n"
    sound = root / "x.mp3"
    mp3(clip, sound)
    languages = ("sv-SE", "zh-CN", "ar", "ga-IE")
    for lang in languages:
        for split in (*SPLITS, "validated", "invalidated", "other"):  # these three are not read
            name = f"common_voice_{lang}_{split}.mp3"
            put(sound, root / lang / "clips" / name)
            word = "文本" if lang == "zh-CN" else "Text"
            row = f"{lang * 64}\t{name}\ts1\t{word} {split}, {lang}\t2\t0\t{lang}\r\n"
            write(root / lang / f"{split}.tsv", head + row)
    for name in ("long", "empty", "late"):
        put(sound, root / f"sv-SE/clips/{name}.mp3")
    (root / "sv-SE/clips/empty.mp3").write_bytes(b"")
    rows = (
        ("long.mp3", "tab\tin the text"),
        ("long.mp3", " "),
        ("long.mp3", "(…)"),
        ("gone.mp3", "No clip."),
        ("empty.mp3", "An empty file."),
        ("../../x.mp3", "Elsewhere."),
        ("/etc/passwd", "Elsewhere."),
        ("touch x.mp3 |", "No command."),
        ("late .mp3", "An id with a space."),
        ("common_voice_sv-SE_train.mp3", "The same clip again"),
        ("late.mp3", 'Cafe\u0301, "quoted"\u2028 here'),
    )
    with open(root / "sv-SE/train.tsv", "a", encoding="utf-8", newline="") as f:
        for path, sentence in rows:
            f.write(f"{'sv-SE' * 64}\t{path}\ts2\t{sentence}\t2\t9\tsv-SE\r\n")
        f.write("\r\n")
    ar = (root / "ar/test.tsv").read_text().replace("Text test, ar", "مرحبا، كيف حالك؟")
    write(root / "ar/test.tsv", "\ufeff" + ar)
    return len(languages) * len(SPLITS) + len(rows)


def fleurs(root: Path, clip: Path, packed: bool = True) -> int:
    """Three languages, one unknown to Whisper; one with rows of no use; audio packed or not."""
    entries = 0
    for lang in ("cmn_hans_cn", "en_us", "luo_ke"):
        for number, split in enumerate(SPLITS):
            folder = root / "data" / lang / "audio" / split
            put(clip, folder / f"{number}.wav")
            rows = [f'1\t{number}.wav\tThe "raw" Text, {split}.\traw text\tt h e |\t16000\tMALE\n']
            if lang == "en_us":
                rows += ["2\t../../evil.wav\tText\ttext\tt\t1\tMALE\n"]
                rows += [f"3\tgone{split}.wav\tText\tx\tt\t1\tMALE\n"]
            write(root / "data" / lang / f"{split}.tsv", "".join(rows))
            entries += len(rows)
            if packed:
                with tarfile.open(folder.with_name(f"{split}.tar.gz"), "w:gz") as tar:
                    tar.add(folder, split)
                    tar.add(folder / f"{number}.wav", f"../../{split}/escaped.wav")
                shutil.rmtree(folder)
    return entries


def mls(root: Path, clip: Path) -> int:
    """A language in flac and one in opus; a broken row and one without audio in each split."""
    samples, rate = soundfile.read(clip)
    entries = 0
    for name, suffix in (("mls_german", "flac"), ("mls_polish_opus", "opus")):
        for number, split in enumerate(SPLITS):
            folder = root / name / split / "audio/10/20"
            folder.mkdir(parents=True)
            kind = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
            soundfile.write(folder / f"10_20_00000{number}.{suffix}", samples, rate, **kind)
            rows = [f"10_20_00000{number}\tdas ist ein text {split}\n"]
            rows += ["../x_1_2\tevil\n", f"10_20_9{number}\tgone\n"]
            write(root / name / split / "transcripts.txt", "".join(rows))
            write(root / name / split / "segments.txt", "not read")
            entries += len(rows)
    return entries


def librispeech(root: Path, clip: Path) -> int:
    """Two parts of train; in each part a clip without a text and a text without a clip."""
    samples, rate = soundfile.read(clip)
    parts = ("train-clean-100", "train-other-500", "dev-clean", "test-other")
    for number, part in enumerate(parts):
        folder = root / "LibriSpeech" / part / f"10{number}/7"
        folder.mkdir(parents=True)
        for i in (0, 1):
            soundfile.write(folder / f"10{number}-7-000{i}.flac", samples, rate)
        lines = f"10{number}-7-0000 HELLO THERE\n10{number}-7-0002 NO SUCH CLIP\n"
        write(folder / f"10{number}-7.trans.txt", lines)
    return 3 * len(parts)


def speechocean762(root: Path, clip: Path) -> int:
    """A clip in each split, one that has no path, one that lies outside, one that is not there."""
    for split in ("train", "test"):
        names = [f"{split}{number}" for number in range(4)]
        for name in names[:2]:
            put(clip, root / f"WAVE/SPEAKER{name}/{name}.WAV")
        places = {name: f"WAVE/SPEAKER{name}/{name}.WAV" for name in names}
        places[names[1]] = "../outside.WAV"
        del places[names[2]]
        write(root / split / "wav.scp", "".join(f"{n} {x}\n" for n, x in places.items()))
        write(root / split / "text", "".join(f"{name} WE CALL IT {split}\n" for name in names))
        write(root / split / "utt2spk", "".join(f"{name} S{name}\n" for name in names))
    # By the MD5 of its name, dev.
    put(clip, root / "WAVE/dev.WAV")
    for table, value in (("wav.scp", "WAVE/dev.WAV"), ("text", "BEAR"), ("utt2spk", "S008")):
        with open(root / "train" / table, "a", encoding="utf-8") as file:
            file.write(f"zdev {value}\n")
    return 9


def aishell(root: Path, clip: Path) -> int:
    """Clips without a text, a text without a clip, and a line of nothing."""
    table = ""
    for number, split in enumerate(SPLITS):
        name = f"BAC009S000{number}W0122"
        put(clip, root / f"data_aishell/wav/{split}/S000{number}/{name}.wav")
        put(clip, root / f"data_aishell/wav/{split}/S000{number}/{name}x.wav")
        table += f"{name} 而 对  楼市 成交 A B\n"
    table += "gone 没 有\n \n"
    write(root / "data_aishell/transcript/aishell_transcript_v0.8.txt", table)
    return table.count("\n") + len(SPLITS)


def voxpopuli(root: Path, clip: Path) -> int:
    """A language without raw texts, rows that lead out, and en_accented, which is not asked for."""
    samples, rate = soundfile.read(clip)
    head = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\n"
    entries = 0
    for lang in ("en", "lt", "en_accented"):
        for split in SPLITS:
            name = f"2009-PLENARY-{lang}_2009:{split}"
            folder = root / "transcribed_data" / lang / "2009"
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"{name}.ogg", samples, rate)
            raw = "Raw, text." if lang == "en" else ""
            rows = [f"{name}\t{raw}\tnormal text\t7\t{split}\tmale\n"]
            rows += [f"../../x\tEvil.\tevil\tNone\t{split}\tmale\n"]
            write(root / f"transcribed_data/{lang}/asr_{split}.tsv", head + "".join(rows))
            entries += 0 if lang == "en_accented" else len(rows)
    return entries


def kaldi(root: Path, clip: Path) -> int:
    """Folders with spaces in their names and relative paths; a clip of no bytes in train."""
    for name in SPLITS:
        data = KaldiDir()
        for i in range(2):
            audio = root / "audio" / f"{name} {i}.wav"
            put(clip, audio)
            utt = f"ann-{name}{i}"
            data.add(utt, audio, f"Habari {name} {i}", "ann", "sw")
        data.save(root / name)
    (root / "audio/train 1.wav").write_bytes(b"")
    return 2 * len(SPLITS)


def csj(root: Path, clip: Path) -> int:
    """Folders as a recipe for CSJ leaves them: the recordings commands, the utterances segments."""
    for name in SPLITS:
        audio = root / "audio" / f"{name} 1.wav"
        put(clip, audio)
        parts = {f"{name}-a": "talk 0 0.9 A", f"{name}-b": "talk 0.9 -1"}
        folder = root / name
        write(folder / "wav.scp", f"talk cat '{audio}' |\n")
        write(folder / "segments", "".join(f"{utt} {part}\n" for utt, part in parts.items()))
        write(folder / "text", "".join(f"{utt} 言葉 {utt}\n" for utt in parts))
        for table in ("utt2spk", "spk2utt"):
            write(folder / table, "".join(f"{utt} {utt}\n" for utt in parts))
        write(folder / "reco2file_and_channel", "talk talk A\n")
    return 2 * len(SPLITS)


def recording(clip: Path, path: Path) -> dict:
    """A call, the clip in one channel, then in the other, else noise; lhotse's Recording of it."""
    samples, _ = soundfile.read(clip, dtype="int16")
    both = np.random.default_rng(0).normal(0, 40, (2 * len(samples), 2)).astype(np.int16)
    both[: len(samples), 0], both[len(samples) :, 1] = samples, samples
    path.parent.mkdir(parents=True)
    soundfile.write(path, both, 16000)
    return {
        "id": "call 1",
        "sources": [{"type": "file", "channels": [0, 1], "source": str(path)}],
        "sampling_rate": 16000,
        "num_samples": len(both),
        "duration": len(both) / 16000,
        "channel_ids": [0, 1],
    }


def said(name: str, start: float, duration: float, channel: int | list[int] = 0, **more) -> dict:
    """lhotse's supervision of that recording."""
    text = {"text": "Привет, мир.", "language": "Russian", "speaker": "anna"} | more
    where = {"start": start, "duration": duration, "channel": channel}
    return {"id": name, "recording_id": "call 1"} | where | text


def cut(
    recording: dict, supervisions: list, start=0, duration=None, channel=0, kind="MonoCut", **more
) -> dict:
    """lhotse's cut of it."""
    where = {"start": start, "duration": duration or recording["duration"], "channel": channel}
    parts = {"supervisions": supervisions, "recording": recording, "type": kind} | more
    return {"id": f"cut-{supervisions[0]['id']}"} | where | parts


def manifest(path: Path, *cuts: dict) -> Path:
    """A CutSet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as f:
        f.writelines(json.dumps(x, ensure_ascii=False) + "\n" for x in cuts)
    return path


def lhotse_cuts(root: Path, clip: Path) -> int:
    """cuts_{train,dev,test}.jsonl.gz, train with all that can be in a cut."""
    call = recording(clip, root / "audio/call 1.wav")
    padding = {"id": "p", "duration": 3.75, "type": "PaddingCut", "feat_value": -23.0}
    faster = call | {"transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}
    memory = call | {"sources": [{"type": "memory", "channels": [0, 1], "source": "UklG"}]}
    split = call | {
        "sources": [
            {"type": "file", "channels": [n], "source": call["sources"][0]["source"]}
            for n in (0, 1)
        ]
    }
    both = {"channel": [0, 1], "kind": "MultiCut"}
    manifest(
        root / "cuts_train.jsonl.gz",
        # times of a supervision are its cut's; a cut has several, also of other channels
        cut(
            call,
            [
                said("anna-1", 0.25, 1.0),
                said("bob 2", -0.5, 0.5, 1, text="Hello.", language="en", speaker="bob"),
            ],
            start=1.0,
            duration=2.0,
            **both,
        ),
        cut(call, [said("anna-3", 0.0, 2.0, [0, 1])], **both),
        cut(faster, [said("anna-4", 0.0, 1.0)]),
        cut(memory, [said("anna-5", 0.0, 1.0)]),
        cut(split, [said("anna-6", 0.0, 1.0, [0, 1])], **both),
        cut(call, [said("anna-7", 0.0, 99.0)]),
        cut(call, [said("anna-8", 0.0, 1.0, language="Irish"), said("anna-9", 0, 1, text="")]),
        {"id": "m", "tracks": [{"cut": padding, "offset": 0.0}], "type": "MixedCut"},
        padding,
        cut(call, [said("anna-1", 0.25, 1.0)]),
    )
    for name, start in (("dev", 3.0), ("test", 3.5)):
        manifest(root / f"cuts_{name}.jsonl.gz", cut(call, [said(name, start, 0.5)]))
    return 14


NAMES = {"train": "train", "dev": "validation", "test": "test"}  # Hugging Face's
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def sounds(clip: Path, folder: Path) -> dict[str, bytes]:
    """Bytes of the clip as WAV, FLAC and Ogg."""
    samples, rate = soundfile.read(clip)
    folder.mkdir(parents=True)
    for suffix in ("wav", "flac", "ogg"):
        soundfile.write(folder / f"x.{suffix}", samples, rate)
    return {suffix: (folder / f"x.{suffix}").read_bytes() for suffix in ("wav", "flac", "ogg")}


def table(rows: list[tuple]) -> pa.Table:
    """Rows (audio bytes, audio path, text, language) as `datasets` lays them out."""
    columns = {
        "audio": pa.array([{"bytes": x[0], "path": x[1]} for x in rows], AUDIO),
        "sentence": pa.array([x[2] for x in rows], pa.string()),
        "language": pa.array([x[3] for x in rows], pa.string()),
        "speaker_id": pa.array(range(len(rows)), pa.int64()),
    }
    return pa.table(columns)


def rows_of(sounds: dict[str, bytes]) -> dict[str, list[tuple]]:
    """Rows of each split; train has what can be wrong in one."""
    good = [(sounds["flac"], "a.flac", "Hello,\tthere.\n", "English")]
    return {
        "train": [
            *good,
            (sounds["ogg"], "../../evil.wav", "Grüß dich", "de"),  # a name is not a place
            (sounds["wav"], None, "Bez nazwy", "pl_pl"),
            (None, None, "No audio", "en"),
            (None, "../../../etc/passwd", "Elsewhere", "en"),
            (None, "beside.flac", "Beside the table", "en"),
            (b"no audio", "x.mp3", "Broken", "en"),
            (sounds["flac"], "a.flac", None, "en"),
            (sounds["flac"], "a.flac", "Dia dhuit", "ga-IE"),
            (sounds["flac"], "a.flac", "Whose?", None),
        ],
        "dev": good,
        "test": good,
    }


def hub(root: Path, rows: dict, sounds: dict[str, bytes]) -> Path:
    """As downloaded from the Hub: data/SPLIT-N-of-N.parquet."""
    folder = root / "data"
    folder.mkdir(parents=True)
    for split, name in NAMES.items():
        pq.write_table(
            table(rows[split]), folder / f"{name}-00000-of-00001.parquet", row_group_size=3
        )
    (folder / "beside.flac").write_bytes(sounds["flac"])
    return root


def saved(root: Path, rows: dict, sounds: dict[str, bytes]) -> Path:
    """As `DatasetDict.save_to_disk` leaves it."""
    for split, name in NAMES.items():
        folder = root / name
        folder.mkdir(parents=True)
        whole = table(rows[split])
        with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), whole.schema) as f:
            f.write_table(whole, max_chunksize=4)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": name}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
        (folder / "beside.flac").write_bytes(sounds["flac"])
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(NAMES.values())}))
    return root


def hf_dataset(root: Path, clip: Path, layout: Callable = hub) -> int:
    """A dataset in one of the two layouts."""
    content = sounds(clip, root / "beside")
    rows = rows_of(content)
    layout(root, rows, content)
    return sum(map(len, rows.values()))


def package(downloads: Path, name: str, version: str) -> Path:
    """Where `fetch` finds a Debian package that it has unpacked before."""
    return downloads / f"{name}_{version}"


def asterisk(downloads: Path, clip: Path) -> int:
    """Five languages, each with three good prompts and one of each that is of no use."""
    texts = "; a comment\n\nhello: Hello there.\ndigits/1: One more\nbeep: (beep)\nempty:\n"
    texts += "gone: No clip\ntwice: One\ntwice: Two\nvm-a: Press.vm-b: Both\nvm-b: Press more\n"
    texts += "broken: An empty file\nlong: " + "far too long a text for such a clip " * 9 + "\n"
    names = (
        "hello",
        "digits/1",
        "beep",
        "empty",
        "twice",
        "vm-a",
        "vm-b",
        "broken",
        "long",
        "more",
    )
    for lang in asterisk_script.SHA256:
        name, version = f"asterisk-core-sounds-{lang}", asterisk_script.VERSION
        path = package(downloads, name, version) / f"usr/share/doc/{name}/core-sounds-{lang}.txt.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(texts.encode()))
        voice = (
            package(downloads, f"{name}-g722", version) / f"usr/share/asterisk/sounds/{lang}_X_f_A"
        )
        for prompt in names:
            g722(clip, voice / f"{prompt}.g722")
        (voice / "broken.g722").write_bytes(b"")
    return 12 * len(asterisk_script.SHA256)  # 11 texts and a clip without one


def festvox_ru(downloads: Path, clip: Path) -> int:
    """A good sentence, one without a clip, a clip without a sentence, a clip that is none."""
    made = festvox_script.PACKAGE
    voice = package(downloads, made.name, made.version) / festvox_script.VOICE
    texts = '( ru_1 "Он+а ид+ёт." )\n( ru_2 "Нет звука." )\n( ru_3 "Не звук." )\n'
    write(voice / "etc/txt.done.data", texts)
    for name in ("ru_1", "ru_3", "ru_4"):
        put(clip, voice / f"wav/{name}.wav")
    (voice / "wav/ru_3.wav").write_text("no sound")
    return 4


def fillets(downloads: Path, clip: Path) -> int:
    """In each language a good line, one without a clip, one said in two ways, and a clip alone."""
    made = fillets_script.TEXTS
    game = fillets_script.GAME
    for lang, sound in fillets_script.CLIPS.items():
        script = package(downloads, made.name, made.version) / game / "script/level"
        folder = package(downloads, sound.name, sound.version) / game / f"sound/level/{lang}"
        dialog = 'dialogId("{}", "font_small", "x")\ndialogStr("{}")\n'
        lines = [("good", 'Ne, \\"ahoj\\".'), ("gone", "Nic"), ("twice", "Jedna")]
        write(script / f"dialogs_{lang}.lua", "".join(dialog.format(*x) for x in lines))
        write(script / f"demo_dialogs_{lang}.lua", dialog.format("twice", "Druhá"))
        samples, rate = soundfile.read(clip)
        folder.mkdir(parents=True)
        for name in ("good", "twice", "alone"):
            soundfile.write(folder / f"{name}.ogg", samples, rate)
    return 4 * len(fillets_script.CLIPS)
