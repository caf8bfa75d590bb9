"""Drop from a Whisper's vocabulary what texts in some languages do not need.

Kept are the tokens of the texts of `--data`, those of each word of `--words` as it may stand in a
text, all that byte-pair encoding merges on the way to them, the 256 bytes, the special tokens,
digits, punctuation, and the tokens that decoding suppresses. Any text can still be written, the
rest with smaller tokens.

Example usage::

    python -Pm espnet_dq.bin.trim_vocabulary --from openai:tiny --keep_languages en,es \\
        --data dump/raw/train --words words.txt --out tiny_en_es.pt
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from whisper.tokenizer import Tokenizer

from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.data.kaldi import FOLDER, read_scp
from espnet_dq.data.languages import codes, whisper_code
from espnet_dq.errors import InputError, named, run, say
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


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], help="Kaldi folders (text and utt2lang)"
    )
    parser.add_argument(
        "--keep_languages",
        metavar="en,es,...",
        help="use only their texts in --data (default: all); every language token stays",
    )
    parser.add_argument(
        "--words", type=Path, nargs="+", default=[], help="texts or word lists, read line by line"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint (.pt) to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the smaller checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    if not args.data and not args.words:
        raise InputError("nothing says what to keep: give --data, --words, or both")
    languages = args.keep_languages.split(",") if args.keep_languages else None
    for i, name in enumerate(languages or ()):
        code = whisper_code(name)
        if code is None:
            raise InputError(f"--keep_languages: unknown language '{name}'")
        languages[i] = code

    source = source_path(args.source)
    check_written(args.out, source)
    for file in args.words:
        check_apart(args.out, file)
    for folder in args.data:
        check_apart(args.out, folder, FOLDER.files)
    weights = detect.load(source)
    if isinstance(weights.dims, OwnVocabulary):
        raise InputError(f"{source}: its vocabulary is not a whole one of Whisper's")
    tokenizer = vocabulary_tokenizer(weights.dims, source)
    wanted, texts = always(tokenizer), 0
    for where, text, language in _of_folders(args.data, languages):
        with named(where):
            wanted.update(encode_text(tokenizer, text, language))
        texts += 1
    for where, line in _of_files(args.words):
        with named(where):
            wanted.update(*(encode_word(tokenizer, word) for word in line.split()))
        texts += 1
    kept = [*sorted(closure(tokenizer, wanted)), *range(tokenizer.eot, weights.dims.n_vocab)]
    dims = own_vocabulary(replace(weights.dims, n_vocab=len(kept)), kept, str(source))
    state = weights.state | {EMBEDDING: weights.state[EMBEDDING][kept]}
    trimmed = Weights(dims, state, any_window=weights.any_window)
    save_pt(args.out, trimmed, getattr(torch, trimmed.lossless(state)))
    say(
        f"{args.out}: {len(kept)} of {weights.dims.n_vocab} tokens kept, "
        f"for {texts} texts, {bytes_on_disk(args.out)} bytes"
    )
    return 0


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


def _of_folders(folders: list[Path], languages: list[str] | None) -> Iterator[tuple[str, str, str]]:
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


def _of_files(files: list[Path]) -> Iterator[tuple[str, str]]:
    """Where a line stands, and the line."""
    for file in files:
        lines = read_text(file).splitlines()
        found = [(f"{file}:{n}", line) for n, line in enumerate(lines, 1) if line.strip()]
        if not found:
            raise InputError(f"{file}: no words")
        yield from found


if __name__ == "__main__":
    run(main)
