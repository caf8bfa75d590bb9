#!/usr/bin/env python3
"""A Hugging Face dataset on the disk: parquet, as downloaded from the Hub, or `save_to_disk`'s.

Parquet files are found by their split's name, in the file's or its folder's (train-00000-of-
00002.parquet, test/0000.parquet); `save_to_disk` leaves a folder for each split. The audio in
them is written, as it is, to OUT/audio; finished files are used again. Text, language and speaker
come from columns. Writes OUT/{train,dev,test} and OUT/report.json.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from espnet_dq.data.languages import UNKNOWN_LANGUAGE, known_language, whisper_code
from espnet_dq.data.listing import (
    BROKEN_ROW,
    NO_AUDIO,
    OUTSIDE,
    Listing,
    inside,
    parser,
    write_listing,
)
from espnet_dq.data.parallel import DIED, parallel_map
from espnet_dq.data.splits import SPLITS, named_split
from espnet_dq.errors import InputError, WorkError, run
from espnet_dq.files import atomic

ROWS = 64  # at a time: audio is in them
MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}


@dataclass(frozen=True)
class Columns:
    """Names of a dataset's columns; None: it has none."""

    audio: str
    text: str
    language: str | None
    speaker: str | None

    def names(self) -> list[str]:
        """Those that are read."""
        return [x for x in (self.audio, self.text, self.language, self.speaker) if x]


@dataclass(frozen=True)
class Row:
    """A row whose audio has been written, or of which it is known why not."""

    name: str  # SPLIT-FILE-ROW
    text: str
    language: str | None
    speaker: str | None
    audio: Path | None
    fault: str | None


def shards(root: Path, one_language: bool) -> dict[str, list[Path]]:
    """Split -> its .parquet or .arrow files, sorted.

    Args:
        root: The dataset.
        one_language: Whether all must be of one configuration, a folder of its own.

    Raises:
        InputError: A split has none, or there is more than one configuration.
    """
    if not root.is_dir():
        raise InputError(f"--data_root {root}: no such folder")
    found: dict[str, list[Path]] = {name: [] for name in SPLITS}
    homes = set()
    for path in sorted(filter(Path.is_file, [*root.rglob("state.json"), *root.rglob("*.parquet")])):
        by_name = named_split(path.name)
        split = by_name or named_split(path.parent.name)
        if split:
            found[split] += [path] if path.suffix == ".parquet" else _arrow_files(path)
            homes.add(path.parent if by_name else path.parent.parent)
    for split, files in found.items():
        if not files:
            raise InputError(f"--data_root {root}: no parquet or arrow files of the split {split}")
    if one_language and len(homes) > 1:
        raise InputError(
            f"--data_root {root}: several datasets ({', '.join(sorted(x.name for x in homes))}), "
            "so --language cannot be of all: give one of them, or --language_column"
        )
    return found


def _arrow_files(state: Path) -> list[Path]:
    """The files that a state.json lists."""
    try:
        names = [str(x["filename"]) for x in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise InputError(f"{state}: not as save_to_disk writes it: {e!r}") from e
    files = [inside(state.parent, name) for name in names]
    if None in files:
        raise InputError(f"{state}: names files that are elsewhere")
    return files


def batches(path: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    """The columns of a file, some rows at a time.

    Raises:
        InputError: The file is broken or has no such column.
    """
    try:
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path)
            _check_columns(path, table.schema_arrow, columns)
            yield from table.iter_batches(ROWS, columns=columns.names())
        else:
            with pa.memory_map(str(path)) as f, pa.ipc.open_stream(f) as stream:
                _check_columns(path, stream.schema, columns)
                for batch in stream:
                    yield from (batch.slice(i, ROWS) for i in range(0, len(batch), ROWS))
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{path}: {str(e).splitlines()[0]}") from e


def _check_columns(path: Path, schema: pa.Schema, columns: Columns) -> None:
    """Raise `InputError` if a column is not there or holds something else."""
    for name in columns.names():
        if name not in schema.names:
            raise InputError(f"{path}: no column '{name}' (it has {', '.join(schema.names)})")
        kind = schema.field(name).type
        if name == columns.audio:
            good = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        else:
            value = kind.value_type if pa.types.is_dictionary(kind) else kind
            good = any(
                each(value)
                for each in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
            )
        if not good and name != columns.speaker:
            wanted = "audio files" if name == columns.audio else "text"
            raise InputError(f"{path}: column '{name}' does not hold {wanted}, but {kind}")


def write_audio(folder: Path, columns: Columns, job: tuple[str, int, Path]) -> list[Row]:
    """Write the audio of one file's rows to `folder`; runs in a worker.

    Raises:
        InputError: See `batches`.
    """
    split, shard, path = job
    found: list[Row] = []
    for batch in batches(path, columns):
        for row in _rows(batch.select(columns.names())):
            name = f"{split}-{shard:05d}-{len(found):07d}"
            if row is None:
                found.append(Row(name, "", None, None, None, BROKEN_ROW))
                continue
            language = row[columns.language] if columns.language else None
            speaker = row[columns.speaker] if columns.speaker else None
            speaker = None if speaker is None else re.sub(r"\s", "_", str(speaker)) or None
            sound = row[columns.audio] or {}
            audio, fault = _write(folder, name, sound.get("bytes"), sound.get("path"), path)
            found.append(Row(name, row[columns.text] or "", language, speaker, audio, fault))
    return found


def _rows(batch: pa.RecordBatch) -> Iterator[dict | None]:
    """The rows of a batch; None in place of one whose text is not UTF-8."""
    for number in range(len(batch)):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield None


def _died(job: tuple[str, int, Path]) -> list[Row]:
    # Nobody knows how many rows are lost with a file, so they cannot be counted.
    raise WorkError(f"{job[2]}: {DIED}")


def _write(
    folder: Path, name: str, content: bytes | None, path: str | None, shard: Path
) -> tuple[Path | None, str | None]:
    """(the file with the audio, None), or (None, why there is none)."""
    if not content:
        if not path:
            return None, NO_AUDIO
        found = inside(shard.parent, path)
        return found, None if found else OUTSIDE
    suffix = next((x for magic, x in MAGIC.items() if content.startswith(magic)), None)
    if suffix is None:
        suffix = Path(path or "").suffix.lower()
        suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ".audio"
    audio = folder / f"{name}{suffix}"
    if not (audio.is_file() and audio.read_bytes() == content):
        with atomic(audio) as tmp:
            tmp.write_bytes(content)
    return audio, None


def main(argv: list[str] | None = None) -> int:
    """Write the three splits."""
    options = parser(__doc__)
    options.add_argument("--audio_column", default="audio", help="audio files (default: audio)")
    options.add_argument("--text_column", default="text", help="transcripts (default: text)")
    options.add_argument("--speaker_column", help="speakers' ids (default: none)")
    language = options.add_mutually_exclusive_group(required=True)
    language.add_argument("--language_column", help="languages, as codes or English names")
    language.add_argument("--language", help="the language of all rows")
    args = options.parse_args(argv)
    names = args.audio_column, args.text_column, args.language_column, args.speaker_column
    fixed = known_language(args.language) if args.language else None
    files = shards(args.data_root, fixed is not None)
    jobs = [(split, n, path) for split in SPLITS for n, path in enumerate(files[split])]
    work = partial(write_audio, args.out.resolve() / "audio", Columns(*names))
    written = parallel_map(work, jobs, len(jobs), args.nj, "write audio", _died)
    listing = Listing()
    for (split, _, path), found in zip(jobs, written, strict=True):
        for row in found:
            name, where = row.language or "unknown", f"{path}: {row.name}"
            lang = fixed or whisper_code(name)
            if row.fault == BROKEN_ROW:
                listing.skip(lang or name, BROKEN_ROW, where)
            elif lang is None:
                listing.skip(name, UNKNOWN_LANGUAGE, where)
            elif row.audio is None:
                listing.skip(lang, str(row.fault), where)
            else:
                utt = f"{row.speaker}-{row.name}" if row.speaker else row.name
                listing.add(split, utt, lang, row.speaker, row.text, row.audio, where)
    write_listing(listing, args.out, args.nj)
    return 0


if __name__ == "__main__":
    run(main)
