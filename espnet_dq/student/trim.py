"""A vocabulary without what texts in some languages do not need.

Kept are the tokens of the texts, those of each word of word lists as it may stand in a text,
all that byte-pair encoding merges on the way to them, the 256 bytes, the special tokens, digits,
punctuation, and the tokens that decoding suppresses. Any text can still be written, the rest with
smaller tokens.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from whisper.tokenizer import Tokenizer

from espnet_dq.data.kaldi import FOLDER, read_scp
from espnet_dq.data.languages import codes, whisper_code
from espnet_dq.errors import InputError, named
from espnet_dq.fetch.names import source_path
from espnet_dq.files import bytes_on_disk, check_apart, check_replaceable
from espnet_dq.formats import detect
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.reading import read_text
from espnet_dq.student.checkpoint import check_written
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.vocabulary import OwnVocabulary, closure, own_vocabulary
from espnet_dq.whisper.weights import EMBEDDING, Weights


def trim_vocabulary(
    source: str | Path,
    out: Path,
    data: Sequence[Path] = (),
    words: Sequence[Path] = (),
    languages: Sequence[str] | None = None,
) -> str:
    """Write a Whisper whose vocabulary has only what texts need, as a `.pt`.

    Args:
        source: The path or name of a Whisper with a whole vocabulary.
        out: The file to write.
        data: Kaldi folders with `text` and `utt2lang`.
        words: Texts or word lists, read line by line.
        languages: Of `data`, only their texts; None: all. Every language token stays.

    Returns:
        How many tokens were kept, for how many texts, in a line.

    Raises:
        InputError: Nothing says what to keep, an unknown language or one without a text, a model or
            a text that cannot be read, or a file that may not be written.
    """
    check_replaceable(out)
    if not data and not words:
        raise InputError("nothing says what to keep: give --data, --words, or both")
    spoken = None if languages is None else [_code(name) for name in languages]
    source = source_path(source)
    check_written(out, source)
    for file in words:
        check_apart(out, file)
    for folder in data:
        check_apart(out, folder, FOLDER.files)
    weights = detect.load(source)
    if isinstance(weights.dims, OwnVocabulary):
        raise InputError(f"{source}: its vocabulary is not a whole one of Whisper's")
    tokenizer = vocabulary_tokenizer(weights.dims, source)
    wanted, texts = always(tokenizer), 0
    for where, text, language in _of_folders(data, spoken):
        with named(where):
            wanted.update(encode_text(tokenizer, text, language))
        texts += 1
    for where, line in _of_files(words):
        with named(where):
            wanted.update(*(encode_word(tokenizer, word) for word in line.split()))
        texts += 1
    kept = [*sorted(closure(tokenizer, wanted)), *range(tokenizer.eot, weights.dims.n_vocab)]
    dims = own_vocabulary(replace(weights.dims, n_vocab=len(kept)), kept, str(source))
    state = weights.state | {EMBEDDING: weights.state[EMBEDDING][kept]}
    trimmed = Weights(dims, state, any_window=weights.any_window)
    save_pt(out, trimmed, getattr(torch, trimmed.lossless(state)))
    return (
        f"{out}: {len(kept)} of {weights.dims.n_vocab} tokens kept, "
        f"for {texts} texts, {bytes_on_disk(out)} bytes"
    )


def _code(name: str) -> str:
    code = whisper_code(name)
    if code is None:
        raise InputError(f"--keep_languages: unknown language '{name}'")
    return code


def always(tokenizer: Tokenizer) -> set[int]:
    """Ordinary tokens that are kept whatever the texts: digits, punctuation, suppressed ones.

    And the one without a letter, by which CTranslate2 tells a multilingual vocabulary.
    """
    kept = {i for i in tokenizer.non_speech_tokens if i < tokenizer.eot}
    for token, i in tokenizer.encoding._mergeable_ranks.items():
        text = token.decode(errors="replace").removeprefix(" ")
        if (
            re.fullmatch("[0-9]+", text)
            or not token
            or (text and all(unicodedata.category(c).startswith("P") for c in text))
        ):
            kept.add(i)
    return kept


def encode_word(tokenizer: Tokenizer, word: str) -> set[int]:
    """The tokens of a word as it may stand in a text.

    That is as it is written, in lower case, and both with a capital first; behind a space, and
    behind what is no space, as a quote, or the word before it in languages without spaces.
    """
    forms = {word, lower := word.lower(), *(x[:1].upper() + x[1:] for x in (word, lower))}
    with_and_without = "en", "zh"  # spaces between words
    return {
        i
        for form in forms
        for language in with_and_without
        for i in encode_text(tokenizer, form, language)
    }


def _of_folders(
    folders: Sequence[Path], languages: Sequence[str] | None
) -> Iterator[tuple[str, str, str]]:
    """Where a text stands, the text, and its language."""
    found = set()
    for folder in folders:
        of = codes(read_scp(folder / "utt2lang"), folder / "utt2lang")
        for utt, text in read_scp(folder / "text").items():
            if utt not in of:
                raise InputError(f"{folder / 'utt2lang'}: no line for '{utt}' of text")
            if languages is None or of[utt] in languages:
                found.add(of[utt])
                yield f"{folder / 'text'}: '{utt}'", text, of[utt]
    if missing := [code for code in languages or () if code not in found]:
        raise InputError(f"--keep_languages: --data has no text in '{missing[0]}'")


def _of_files(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Where a line stands, and the line."""
    for file in files:
        lines = read_text(file).splitlines()
        found = [(f"{file}:{n}", line) for n, line in enumerate(lines, 1) if line.strip()]
        if not found:
            raise InputError(f"{file}: no words")
        yield from found
