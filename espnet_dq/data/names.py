"""Names that a corpus gives, of utterances and of files, and why some cannot be used.

Text of JSON, parquet and tables with tabs may hold what no line of a Kaldi table, no file system
and no UTF-8 can. All readers ask here, so that such a name is one fault and not the end of a run.
"""

import os
import re

LONGEST_PART = 255  # bytes of a file's or folder's name, on all usual file systems
LONGEST_PATH = 4095  # bytes; Linux's PATH_MAX without the NUL


def text_fault(text: str) -> str | None:
    """Why a text cannot stand in a file of lines, whatever its white space, or None."""
    if "\0" in text:
        return "holds a NUL"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "is not Unicode (half of a surrogate pair)"
    return None


def key_fault(key: str) -> str | None:
    """Why a key of a Kaldi table, an utterance's or a speaker's id, cannot be one, or None."""
    if not key:
        return "is empty"
    if key.split() != [key]:
        return "holds a white space at which ESPnet ends it"
    if "\ufeff" in key:
        return "holds a byte order mark"  # the first line of a file would begin with it
    return text_fault(key)


def path_fault(path: str) -> str | None:
    """Why a path cannot stand in `wav.scp`, or no file can have it; None if it may be there."""
    if path != path.strip():
        return "begins or ends in white space, which is no part of an entry"
    if re.search(r"[\r\n]", path):
        return "holds a line end"
    fault = text_fault(path)
    if fault:
        return fault
    size = len(os.fsencode(path))
    if size > LONGEST_PATH or any(len(os.fsencode(x)) > LONGEST_PART for x in path.split("/")):
        return "is longer than a file's name can be"
    return None


def shown(text: str) -> str:
    """A name as it can be printed and written: what is not Unicode as `\\ud800`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
