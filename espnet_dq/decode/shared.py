"""Decoding a folder alone, as one job of several, or once for all that decode the same."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.decode.folder import decode_folder, decoding_key
from espnet_dq.decode.parts import join_parts
from espnet_dq.fetch.names import source_path
from espnet_dq.files import alone, shared_before, shared_place
from espnet_dq.reading import read_json
from espnet_dq.runtimes.interface import GUARD, LIMITS


def decode(
    model: str,
    runtime: str,
    data: str,
    out: str,
    shared: Path | None = None,
    join: int | None = None,
    **options,
) -> tuple[Path, dict]:
    """Decode, unless that is done, or join what was decoded in parts.

    Args:
        model, runtime, data: See `decode_folder`.
        out: The folder to write; with `shared` a link to the one there.
        shared: Holds the folders of all that decode the same, by what decides them. None: where
            `out` is shared already.
        join: From how many parts `out` is written; None: it is decoded.
        options: The others of `decode_folder`.

    Returns:
        The folder, and its decode.json.

    Raises:
        InputError, WorkError: See `decode_folder`, `join_parts`, `shared_place`.
    """
    place = Path(out)
    if shared := shared or shared_before(place):
        path, heard = source_path(model), Path(data)
        decides = {name: options[name] for name in ("beam_size", "timestamps", "guard", "context")}
        tables = KaldiDir(wav=read_scp(heard / "wav.scp"), utt2lang=read_scp(heard / "utt2lang"))
        key = decoding_key(runtime, path, decides, tables.fingerprint())
        place = shared_place(place, shared, key)
    # Jobs of an array work on one folder at once, each on its part.
    with alone(place) if shared and not options["part"] else nullcontext():
        if shared and (place / "decode.json").is_file():
            return place, read_json(place / "decode.json")
        if join:
            return place, join_parts(data, place, join)
        return place, decode_folder(model, runtime, data, place if shared else out, **options)


def summary(report: Mapping) -> str:
    """What a decode.json says, in a line."""
    speed = "" if report["rtf"] is None else f", RTF {report['rtf']:.3f}"
    memory = report["peak_rss_bytes"] / 2**20
    failed = len(report["failed"])
    cut = report["cut"]["utterances"]
    long = f", {cut} cut at pauses" if cut else ""
    limit = report["token_limit"]
    in_two, ends = (len(limit[kind]) for kind in LIMITS)
    full = ""
    if in_two or ends:
        full = f", {in_two} decoded in two for want of tokens, {ends} cut at {limit['tokens']}"
    if found := report.get("guard"):
        again, shorter = (len(found[what]) for what in GUARD)
        full += f", guard: {again} tried again, {shorter} cut"
    return (
        f"{report['utterances']} utterances, {failed} failed{long}{full}{speed}, "
        f"peak memory {memory:.0f} MiB"
    )
