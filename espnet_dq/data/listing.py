"""From a corpus that a user has to Kaldi folders that point at its audio: what scripts share.

A script of `local/` reads its corpus's own tables and adds each row to a `Listing`, in the
corpus's own split; `write_listing` looks at the audio's headers and writes the folders. Audio is
not decoded here: stage 2 does that. Texts stay as written.
"""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import zlib
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from tqdm import tqdm

from espnet_dq.data import names
from espnet_dq.data.audio import seconds
from espnet_dq.data.corpus import text_fault
from espnet_dq.data.faults import CRASH, AudioFault
from espnet_dq.data.kaldi import KaldiDir, absolute, is_command
from espnet_dq.data.languages import (
    UNKNOWN_LANGUAGE,
    corpus_language,
    is_named,
    language_tokens,
    whisper_code,
)
from espnet_dq.data.left_out import LEFT_OUT, LeftOut
from espnet_dq.data.parallel import DIED, parallel_map
from espnet_dq.data.segments import Segment
from espnet_dq.data.splits import SPLITS, divide
from espnet_dq.data.summary import Source, write_splits
from espnet_dq.errors import InputError, one_line
from espnet_dq.files import Folder, atomic, sha256
from espnet_dq.values import a_path, count

# Why rows are left out, as report.json counts them; see also `corpus.text_fault` and `AudioFault`.
UNPACKED = Folder("unpacked", ())  # replaces nothing
BROKEN_ROW = "a broken row"
OUTSIDE = "a path out of the corpus's folder"
TWICE = "an id that stands twice"
NO_TRANSCRIPT = "audio without transcript"
NO_AUDIO = "no audio in the row"
# Endings of files that are recordings where no table says which are.
RECORDINGS = {
    ".3ga", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf",
    ".dss", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpc", ".oga",
    ".ogg", ".opus", ".rm", ".sph", ".tta", ".w64", ".wav", ".weba", ".webm", ".wma", ".wv",
}  # fmt: skip


@dataclass
class Listing:
    """The utterances of a corpus split by split, and what is left out.

    Utterances of the splits in `untranscribed` have no text; of others, those without are left out.
    `source`: the corpus, if it is a known one. `shares`: of train, dev and test, which are made of
    the only split (`divide`) when it is known what is left out.

    Example usage::

        listing = Listing()
        listing.add("train", "ann-1", "en", "ann", "Hello.", "/corpus/1.mp3", "train.tsv:2")
        write_listing(listing, Path("data"), nj=4)
    """

    splits: dict[str, KaldiDir] = field(default_factory=lambda: {x: KaldiDir() for x in SPLITS})
    left_out: LeftOut = field(default_factory=LeftOut)
    untranscribed: Collection[str] = ()
    source: Source | None = None
    shares: tuple[int, int, int] | None = None

    def skip(self, lang: str, reason: str, where: object, utt: str = "-") -> None:
        """Note a row that is left out; `where` names it (file and line, or the audio)."""
        self.left_out.add(utt, lang, reason, where)

    def clips(
        self,
        table: Iterable[tuple[str, dict[str, str] | None]],
        name: str,
        lang: str | None,
        place: Callable[[dict[str, str]], tuple[Path, str]],
    ) -> Iterator[tuple[str, dict[str, str], Path]]:
        """(where it stands, row, audio file) of a table's rows (`tables.rows`) that can be used.

        Counted and left out are all rows of a language that Whisper does not know (`lang` None;
        `name`: the corpus's name of it), broken rows, and audio that `place`, a folder and the name
        in it, puts elsewhere.
        """
        for where, row in table:
            if lang is None:
                self.skip(name, UNKNOWN_LANGUAGE, where)
            elif row is None:
                self.skip(lang, BROKEN_ROW, where)
            elif (clip := inside(*place(row))) is None:
                self.skip(lang, OUTSIDE, where)
            else:
                yield where, row, clip

    def add(
        self,
        split: str,
        utt: str,
        lang: str,
        speaker: str | None,
        text: str,
        audio: Path | str,
        where: object,
        segment: Segment | None = None,
    ) -> None:
        """Take a row, or count why not: an empty text, no speech in it, an id that was there.

        Args:
            split: train, dev or test.
            utt: Id, unique in the corpus; begins with the speaker, as Kaldi wants it.
            lang: Whisper's code.
            speaker: Id; None where the corpus does not tell: each utterance is then its own.
            text: As written; only line ends and tabs become spaces.
            audio: A file's path; a string may also be a command.
            where: Names the row.
            segment: The part of `audio`; None: all of it.
        """
        text = _one_line(text)
        fault = text_fault(text, lang)
        if _is_odd(utt, speaker or utt, text, audio):
            fault = BROKEN_ROW
        elif fault is None and any(utt in data.wav for data in self.splits.values()):
            fault = TWICE
        if fault:
            self.skip(lang, fault, where, utt or "-")
            return
        self.splits[split].add(utt, audio, text, speaker or utt, lang, segment)


def _one_line(text: str) -> str:
    return re.sub(r"[\t\r\n\v\f]+", " ", text).strip()


def _is_odd(utt: str, speaker: str, text: str, audio: Path | str) -> bool:
    """Whether Kaldi's tables take a row for something else, or cannot hold it."""
    path = str(audio)
    if isinstance(audio, str) and is_command(path):
        fault = names.text_fault(path) or re.search(r"[\r\n]", path)
    else:
        fault = path.endswith("|") or names.path_fault(path)
    keys = names.key_fault(utt) or names.key_fault(speaker)
    return bool(fault or keys or names.text_fault(text))


def write_listing(listing: Listing, out: Path, nj: int = 1, allow_pipes: bool = False) -> None:
    """Write `out/{train,dev,test}`, `out/report.json` and the list of what is left out.

    That are also utterances whose text is none of speech, and those whose audio's header cannot be
    read. Where some utterances are parts of recordings, the others become the whole of theirs.

    Raises:
        WorkError: A split has no utterance.
        InputError: There is too little to be split.
    """
    for name, data in listing.splits.items():
        if data.segments:
            for utt in data.wav.keys() - data.segments.keys():
                data.segments[utt] = Segment(utt)
        listing.splits[name] = _measure(name, listing, nj)
    if listing.shares:
        (whole,) = listing.splits.values()
        if not whole.wav:
            listing.left_out.write(out / LEFT_OUT)
            causes = listing.left_out.causes().most_common()
            why = ", ".join(f"{count} {cause}" for cause, count in causes) or "there are none"
            raise InputError(f"nothing that can be used: {why}; listed in {out / LEFT_OUT}")
        listing.splits = divide(whole, listing.shares)
    listing.left_out.write(out / LEFT_OUT)
    left_out = listing.left_out.by_language()
    sources = [listing.source] if listing.source else []
    write_splits(out, listing.splits, left_out, allow_pipes, listing.untranscribed, sources)


def _measure(name: str, listing: Listing, nj: int) -> KaldiDir:
    """The split's utterances whose audio has a readable header, with absolute paths, `utt2dur`."""
    data = listing.splits[name]
    files = [x for x in dict.fromkeys(data.wav.values()) if not is_command(x)]
    headers = parallel_map(_header, files, len(files), nj, f"{name}: headers", _died)
    lengths = dict(zip(files, headers, strict=True))
    places = {x: absolute(x) for x in files}
    for file, place in places.items():  # links may lead to a name that no table can hold
        if names.path_fault(place):
            lengths[file] = BROKEN_ROW, file
    durations, out = {}, []
    for utt, wav in data.wav.items():
        length, part = lengths.get(wav), data.segments.get(utt, Segment(utt))
        data.text[utt] = _one_line(data.text[utt])  # of folders nobody has looked at it
        fault = text_fault(data.text[utt], data.utt2lang[utt])
        if fault and name not in listing.untranscribed:
            length = fault, utt
        if isinstance(length, tuple):
            listing.skip(data.utt2lang[utt], *length, utt)
            out.append(utt)
            continue
        data.wav[utt] = places.get(wav, wav)
        end = length if part.end is None else part.end
        if end is not None:
            durations[utt] = f"{end - part.start:.3f}"
    data.remove(out)
    if len(durations) == len(data.wav):
        data.extra["utt2dur"] = durations
    return data


def _header(path: str) -> float | tuple[str, str]:
    """Seconds of a file by its header, or why not and what is wrong; runs in a worker."""
    try:
        return seconds(path)
    except AudioFault as e:
        return e.cause, str(e)


def _died(path: str) -> tuple[str, str]:
    return CRASH, f"{path}: {DIED}"


def parser(doc: str | None, languages: bool = False) -> ArgumentParser:
    """A corpus script's options: `--data_root --out --nj`, and those for many languages."""
    made = ArgumentParser(description=doc)
    made.add_argument("--data_root", type=a_path, required=True, help="the corpus, unpacked")
    made.add_argument("--out", type=a_path, default=Path("data"), help="data folder")
    made.add_argument("--nj", type=count, default=1, help="processes that read audio")
    if languages:
        made.add_argument(
            "--languages", help="as the corpus or Whisper names them, by comma (default: all)"
        )
        made.add_argument(
            "--language_tokens",
            type=language_tokens,
            default={},
            metavar="NAME=LANGUAGE,...",
            help="take languages that Whisper does not know through the tokens of others: ast=es",
        )
    return made


def language_folders(
    root: Path,
    mark: str,
    languages: str | None,
    tokens: Mapping[str, str],
    prefix: str = "",
) -> list[tuple[Path, str, str | None]]:
    """(folder, the corpus's name of its language, Whisper's code or None) of each language.

    Args:
        root: The folder that holds them, or one of them.
        mark: What a language's folder must have in it, such as "train.tsv".
        languages: Which are wanted, by comma, as the corpus or Whisper names them; None: all.
        tokens: See `language_tokens`.
        prefix: What stands before the language in a folder's name.

    Raises:
        InputError: There is none, one that was asked for is not there, or Whisper does not know
            it.
    """
    if not root.is_dir():
        raise InputError(f"--data_root {root}: no such folder")
    root = root.resolve()
    folders = [x for x in (root, *sorted(root.iterdir())) if (x / mark).is_file()]
    found = []
    for folder in folders:
        if folder.name.startswith(prefix):
            name = folder.name.removeprefix(prefix)
            found.append((folder, name, corpus_language(name, tokens)))
    if not found:
        raise InputError(f"--data_root {root}: no {prefix}LANGUAGE/{mark} in it")
    for name in tokens:
        if not any(is_named(x[1], name) for x in found):
            raise InputError(f"--language_tokens {name}: no folder of it with {mark} in {root}")
    if languages is None:
        return found
    chosen = []
    for wanted in languages.split(","):
        these = [x for x in found if wanted in x[1:]]
        code = whisper_code(wanted)
        these = these or [x for x in found if (x[2] == code if code else is_named(x[1], wanted))]
        if not these:
            raise InputError(f"--languages {wanted}: no folder of it with {mark} in {root}")
        if these[0][2] is None:
            raise InputError(f"--languages {wanted}: {UNKNOWN_LANGUAGE}")
        chosen += [x for x in these if x not in chosen]
    return chosen


def beside(folder: Path) -> Iterator[tuple[Path | None, list[Path]]]:
    """(text, recordings) of each name in a folder, as of talk.wav and talk.txt, sorted.

    The text is None where a recording has none beside it; other files are passed over, and hidden
    ones, which Macs leave on others' disks. Accents in names may be composed or not.
    """
    texts: dict[str, Path] = {}
    recordings: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = normalize("NFC", path.stem)
        if name.startswith("."):
            continue
        if path.suffix.lower() == ".txt":
            texts[name] = path
        elif path.suffix.lower() in RECORDINGS:
            recordings.setdefault(name, []).append(path)
    for name in sorted(texts.keys() | recordings.keys()):
        yield texts.get(name), recordings.get(name, [])


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the files of a .tar.gz into a folder, each by its name alone.

    The folder is called `folder` and the archive's content, so that what is there need not be
    unpacked again. Links, devices and files with holes, which can be of any size, are no clips and
    are left out.

    Raises:
        InputError: The archive is broken, or names a file as none can be named.
    """
    folder = folder.with_name(f"{folder.name}.{sha256(archive)[:16]}")
    if folder.is_dir():
        return folder
    with atomic(folder, UNPACKED) as tmp:
        tmp.mkdir(parents=True)
        try:
            with tarfile.open(archive, "r:gz") as tar:
                for member in tqdm(tar, desc=one_line(f"unpack {archive.name}"), unit="file"):
                    name = PurePosixPath(member.name).name
                    if not member.isfile() or member.issparse() or name in ("", ".."):
                        continue
                    if len(os.fsencode(name)) > 255 or "\0" in name:
                        raise InputError(f"{archive}: no name of a file: {name[:50]!r}")
                    with tar.extractfile(member) as content, open(tmp / name, "wb") as f:
                        shutil.copyfileobj(content, f)
        except (tarfile.TarError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as e:
            raise InputError(f"{archive}: {e}") from e
    return folder


def inside(folder: Path, name: str) -> Path | None:
    """The file `name` of a corpus's table below `folder`; None if it would be elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        return None
    return folder / name


def short(name: str) -> str:
    """A long speaker id made short: 16 hex digits of its SHA-256."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
