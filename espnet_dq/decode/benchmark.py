"""Speed and memory of several systems, measured side by side in one run."""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data.audio import SAMPLE_RATE, read_audio
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.kaldi import read_scp, read_wav, write_scp
from espnet_dq.data.languages import codes
from espnet_dq.errors import InputError, WorkError, say
from espnet_dq.files import write_text
from espnet_dq.formats import json_file
from espnet_dq.reading import read_json
from espnet_dq.runtimes import RUNTIMES, WINDOW


def benchmark(
    systems: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    clips: int = 10,
    rounds: int = 3,
    threads: int = 2,
) -> dict:
    """Decode the same clips with every system in turn, `rounds` times over.

    The systems take turns, so that what else the machine does in the meantime meets all of them
    alike. Each turn is a fresh process, `bin.decode` with one clip at a time, so that memory is
    that of one system, from its start; the loading of the model is not in the RTF.

    Args:
        systems: the experiment's run.json, or a file with the same key `systems`.
        data: Kaldi folder, from which clips of 30 s or less are taken at even distances.
        out: the JSON file to write, whole or not at all.

    Returns:
        What is in the file: `date cpu threads clips audio_seconds rounds` and, in `systems`, for
        each name `runtime`, `compute_type`, `rtf` (wall seconds by seconds of audio: `min`,
        `median`, `max` over the rounds), `first_word_seconds` (see `decode_folder`),
        `peak_rss_bytes` and `load_seconds` (medians).

    Raises:
        InputError: run.json or the data folder is wrong.
        WorkError: a system did not decode.
    """
    named = read_systems(systems)
    turns: dict[str, list[dict]] = {name: [] for name in named}
    with tempfile.TemporaryDirectory() as scratch:
        subset = Path(scratch) / "data"
        chosen = _choose(Path(data), subset, clips)
        plan = [name for _ in range(rounds) for name in named]
        for name in tqdm(plan, desc="benchmark", unit="turn"):
            turns[name].append(_turn(name, named[name], subset, Path(scratch) / "out", threads))
    report = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "threads": threads,
        "clips": chosen,
        "audio_seconds": next(iter(turns.values()))[0]["audio_seconds"],
        "rounds": rounds,
        "systems": {name: _summary(results) for name, results in turns.items()},
    }
    write_text(out, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def read_systems(path: Path | str) -> dict[str, dict]:
    """Systems of a run.json by name, each with at least `runtime` and `path`.

    Raises:
        InputError: the file is missing or no such JSON; names the file and the key.
    """
    content = json_file.read(path)
    listed = content.get("systems") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: key 'systems' is not a list with at least one system")
    named = {}
    for i, system in enumerate(listed):
        for key in ("name", "runtime", "path"):
            if not isinstance(system, dict) or not isinstance(system.get(key), str):
                raise InputError(f"{path}: systems[{i}]: '{key}' is missing or not a text")
        if system["runtime"] not in RUNTIMES:
            raise InputError(f"{path}: systems[{i}]: unknown runtime '{system['runtime']}'")
        if system["name"] in named:
            raise InputError(f"{path}: systems[{i}]: the name '{system['name']}' stands twice")
        named[system["name"]] = system
    return named


def cpu_name() -> str:
    """The processor as its maker calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _choose(data: Path, subset: Path, clips: int) -> int:
    """Write a folder with at most `clips` utterances of `data`; returns how many."""
    wav, languages = read_wav(data), codes(read_scp(data / "utt2lang"), data / "utt2lang")
    known, tried, utts = sorted(wav), set(), []
    unread: list[AudioFault] = []
    for i in range(clips):
        # Keys begin with the corpus and the language: even distances take some of each. In the
        # place of one that does not fit, or cannot be read, the next one stands.
        at = (2 * i + 1) * len(known) // (2 * clips)
        for utt in (*known[at:], *known[:at]):
            if utt not in tried and not tried.add(utt) and _fits(wav[utt], unread):
                utts.append(utt)
                break
    if not utts:
        why = f": {unread[0]}" if unread else ""
        raise InputError(f"{data / 'wav.scp'}: no clip of {WINDOW:.0f} s or less{why}")
    if unread:
        say(f"{data / 'wav.scp'}: {len(unread)} clips cannot be read: {unread[0]}", sys.stderr)
    for name, table in (("wav.scp", wav), ("utt2lang", languages)):
        write_scp(subset / name, {utt: table[utt] for utt in utts if utt in table})
    return len(utts)


def _fits(path: str, unread: list[AudioFault]) -> bool:
    """Whether a clip is of a window at most, decoded: a header may tell less than there is.

    Of one that cannot be read, `unread` takes the reason.
    """
    left = WINDOW * SAMPLE_RATE
    try:
        return all((left := left - len(block)) >= 0 for block in read_audio(path))
    except AudioFault as e:
        unread.append(e)
        return False


def _turn(name: str, system: dict, data: Path, out: Path, threads: int) -> dict:
    """One system's decode.json from a fresh process."""
    command = [sys.executable, "-m", "espnet_dq.bin.decode", "--model", system["path"]]
    command += ["--runtime", system["runtime"], "--data", str(data), "--out", str(out)]
    command += ["--threads", str(threads), "--nj", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise WorkError(f"benchmark of {name}: {why}")
    report = read_json(out / "decode.json")
    if report["failed"]:
        utt, reason = next(iter(report["failed"].items()))
        raise WorkError(f"benchmark of {name}: {utt}: {reason}")
    return report | {"compute_type": report["options"]["compute_type"]}


def _summary(turns: list[dict]) -> dict:
    rtf = [turn["rtf"] for turn in turns]
    return {
        "runtime": turns[0]["runtime"],
        "compute_type": turns[0]["compute_type"],
        "rtf": {"min": min(rtf), "median": statistics.median(rtf), "max": max(rtf)},
        "first_word_seconds": statistics.median(turn["first_word_seconds"] for turn in turns),
        "peak_rss_bytes": round(statistics.median(turn["peak_rss_bytes"] for turn in turns)),
        "load_seconds": round(statistics.median(turn["load_seconds"] for turn in turns), 3),
    }
