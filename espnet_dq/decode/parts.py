"""What jobs have decoded of a data folder, each its part, as the one folder that it would be."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnet_dq.data.kaldi import KaldiDir, read_scp, read_wav
from espnet_dq.data.validation import validate
from espnet_dq.decode.folder import (
    PARTS,
    TIMED,
    check_out,
    check_some,
    part_folder,
    write_decoded,
)
from espnet_dq.errors import InputError
from espnet_dq.files import check_apart, check_replaceable, remove
from espnet_dq.reading import read_json
from espnet_dq.runtimes.interface import GUARD, LIMITS


def join_parts(data: Path | str, out: Path | str, count: int) -> dict:
    """Write `out/text`, `out/timed` and `out/decode.json` from `count` parts, and remove these.

    Seconds are the jobs' together, so that `rtf` is what one job needs for a second of audio;
    `peak_rss_bytes` is the greatest job's; `first_word_seconds` is null; `jobs` says how many.

    Raises:
        InputError: a part is not there, or not of this data or of the first part's model.
        WorkError: not one utterance could be decoded.
    """
    data, out = Path(data), Path(out)
    check_out(out)
    check_apart(out / TIMED, data)
    wav = read_wav(data)
    folders = [part_folder(out, number, count) for number in range(1, count + 1)]
    texts, reports, timed = {}, [], KaldiDir()
    for folder in folders:
        if not (folder / "decode.json").is_file():
            raise InputError(f"{folder}: this part has not been decoded")
        reports.append(read_json(folder / "decode.json"))
        if reports[-1]["key"] != reports[0]["key"]:
            raise InputError(f"{folder}: decoded from another model or data than {folders[0]}")
        texts |= read_scp(folder / "text", empty=True)
        if (folder / TIMED / "text").is_file() and (folder / TIMED / "text").stat().st_size:
            timed.update(validate(folder / TIMED, allow_pipes=True))
    if texts.keys() != wav.keys():
        raise InputError(f"{folders[0].parent}: these parts are not those of {data}")
    failed = {utt: why for report in reports for utt, why in report["failed"].items()}
    check_some(data, wav.keys() - failed.keys(), failed)
    whole = _joined(reports, len(wav), failed)
    asked = whole["options"].get("timestamps", False)
    write_decoded(out, {utt: texts[utt] for utt in wav}, whole, timed if asked else None)
    check_replaceable(out / "parts", PARTS)
    remove(out / "parts")
    return whole


def _joined(reports: Sequence[Mapping], utterances: int, failed: Mapping[str, str]) -> dict:
    """What decode.json says of all parts, by those of each."""

    def total(name: str) -> float:
        return round(sum(report[name] for report in reports), 3)

    def named(key: str, values: Iterable[str]) -> dict[str, list[str]]:
        return {v: sorted(utt for report in reports for utt in report[key][v]) for v in values}

    cut = {n: sum(report["cut"][n] for report in reports) for n in ("utterances", "pieces")}
    resumed = any(report["rtf"] is None and report["audio_seconds"] for report in reports)
    whole = {name: value for name, value in reports[0].items() if name != "key"}
    whole |= {
        "utterances": utterances,
        "failed": dict(sorted(failed.items())),
        "cut": whole["cut"] | cut,
        "token_limit": whole["token_limit"] | named("token_limit", LIMITS),
        "audio_seconds": total("audio_seconds"),
        "wall_seconds": total("wall_seconds"),
        "load_seconds": total("load_seconds"),
        "rtf": None if resumed else round(total("wall_seconds") / total("audio_seconds"), 5),
        "first_word_seconds": None,
        "peak_rss_bytes": max(report["peak_rss_bytes"] for report in reports),
        "date": max(report["date"] for report in reports),
        "jobs": len(reports),
    }
    if "guard" in whole:
        whole["guard"] = named("guard", GUARD)
    return whole
