"""A Kaldi folder as a CutSet of lhotse's, for icefall: one cut with one supervision an utterance.

Recordings and supervisions are in the cuts, as `CutSet.from_file` reads them; audio stays where
it is. The other way: `local/lhotse_cuts.py`.
"""

import gzip
import json
from pathlib import Path

import soundfile
from tqdm import tqdm

from espnet_dq.data.audio import naming
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.segments import Segment
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, check_replaceable


def write_cuts(folder: Path, out: Path) -> int:
    """Write the cuts of a Kaldi folder, with `segments` or without; returns how many.

    Raises:
        InputError: The file has another ending than `.jsonl.gz`, or may not be written, or the
            folder is not fit for use.
    """
    check_replaceable(out)
    if not out.name.endswith(".jsonl.gz"):
        raise InputError(f"--out {out}: lhotse wants the ending .jsonl.gz")
    data = validate(folder)
    recordings: dict[str, dict] = {}
    with atomic(out) as tmp, gzip.open(tmp, "wt", encoding="utf-8") as f:
        for utt in tqdm(sorted(data.wav), desc="cuts", unit="cut"):
            name = data.segments[utt].recording if data.segments else utt
            if name not in recordings:
                recordings[name] = recording_of(name, data.wav[utt])
            cut = cut_of(data, utt, recordings[name])
            f.write(json.dumps(cut, ensure_ascii=False) + "\n")
    return len(data.wav)


def recording_of(name: str, wav: str) -> dict:
    """lhotse's Recording of a file.

    Raises:
        InputError: libsndfile cannot read its header: then its length in samples is not known.
    """
    path = Path(wav).resolve()
    with naming(path):
        info = soundfile.info(path)
    channels = list(range(info.channels))
    return {
        "id": name,
        "sources": [{"type": "file", "channels": channels, "source": str(path)}],
        "sampling_rate": info.samplerate,
        "num_samples": info.frames,
        "duration": info.frames / info.samplerate,
        "channel_ids": channels,
    }


def cut_of(data: KaldiDir, utt: str, recording: dict) -> dict:
    """lhotse's cut of an utterance.

    Raises:
        InputError: The utterance lies outside its recording.
    """
    part = data.segments.get(utt, Segment(utt))
    length, channels = recording["duration"], recording["channel_ids"]
    end = length if part.end is None else min(part.end, length)
    if part.start >= end or part.channel not in (None, *channels):
        raise InputError(f"'{utt}': not in its recording: {part}")
    channel = channels if part.channel is None else [part.channel]
    mono = len(channel) == 1
    where = {"duration": round(end - part.start, 8), "channel": channel[0] if mono else channel}
    supervision = {
        "id": utt,
        "recording_id": recording["id"],
        "start": 0.0,
        **where,
        "text": data.text[utt],
        "language": data.utt2lang[utt],
        "speaker": data.utt2spk[utt],
    }
    return {
        "id": utt,
        "start": part.start,
        **where,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut" if mono else "MultiCut",
    }
