"""Long utterances in pieces of a window, each with its part of the text.

The audio is cut at pauses. Which words are in which piece, a Whisper is asked, twice. What it hears
of the pieces, aligned with the text, says about where the text is to be cut. Then it reads the
text itself: for each place in question, how likely are the words before it as all of the one
piece, and those behind it as the beginning of the next? The likeliest place is taken, if no other
comes near; otherwise the pieces on both sides are left out, as no text is better than a wrong one.
"""

import hashlib
import json
import os
from collections import Counter
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from pathlib import Path

import jiwer
import numpy as np
import regex
import torch
import whisper
from torch import Tensor
from tqdm import tqdm
from whisper.tokenizer import Tokenizer, get_tokenizer

from espnet_dq.data.audio import SAMPLE_RATE, read_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.left_out import LeftOut
from espnet_dq.data.pieces import pieces
from espnet_dq.data.spelling import compared
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, file_name, sha256
from espnet_dq.reading import read_json
from espnet_dq.runtimes import load_runtime
from espnet_dq.runtimes.interface import window
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.encoding import SPACELESS, encode_text
from espnet_dq.whisper.room import most_tokens
from espnet_dq.whisper.vocabulary import ids_in_whole

AROUND = 2  # words that are tried on each side of what the alignment says
TRIED = 25  # places at most: where so many are in question, text and audio differ
BEHIND = 8  # words that are read behind the last place
MARGIN = 3.0  # nats between the best place and the second, so 20 to 1
UNLIKE = 0.4  # share of characters heard otherwise
PAUSE = 0.1  # loudness around a cut against that of the speech, so -10 dB
KEPT = 64  # pieces whose features are kept, half an hour
EDGE = int(0.15 * SAMPLE_RATE)  # samples on each side of a cut
NO_PAUSE = "piece cut where there is no pause"


class Splitter:
    """Splits utterances with the Whisper in a `.pt` file.

    Args:
        aligner: the file; the better it knows the language, the fewer pieces are left out.
        longest: seconds that a piece has at most.
        threads: CPU threads.

    Raises:
        InputError: it is no such file.
    """

    def __init__(self, aligner: Path | str, longest: float, threads: int) -> None:
        self.path = Path(aligner)
        runtime = load_runtime("torch", self.path, threads)
        self.model, self.languages = runtime.model, runtime.languages
        self.vocabulary = runtime.vocabulary
        self.longest = min(longest, runtime.window)
        self.weights = sha256(self.path)

    def split(
        self, utt: str, source: Path, text: str, language: str, folder: Path
    ) -> tuple[list[tuple[str, int, str]], Counter[str]]:
        """Write the pieces of an utterance to `folder`, as WAV, and what they are beside them.

        A split of the same by the same model that is there already is taken as it is.

        Returns:
            Path, samples and text of each good piece, and why how many others were left out.

        Raises:
            InputError: the audio cannot be read, or the model does not know the language.
        """
        if language not in self.languages:
            raise InputError(f"{self.path}: '{utt}': the model knows no language '{language}'")
        parts = [self.weights, sha256(source), text, language, self.longest]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        record = folder / f"{file_name(utt)}.json"
        if record.is_file():
            found = read_json(record)
            good = [(str(folder / Path(wav).name), *more) for wav, *more in found["good"]]
            if found["key"] == key and all(os.path.isfile(wav) for wav, *_ in good):
                return good, Counter(found["left_out"])
        # Copies: a piece is a view of more than it needs.
        audio = [piece.copy() for _, piece in pieces(read_audio(source), self.longest)]
        good, left_out = [], Counter()
        for number, (piece, part, fault) in enumerate(
            zip(audio, *self.assign(audio, text, language), strict=True)
        ):
            if fault:
                left_out[fault] += 1
                continue
            wav = folder / f"{file_name(utt)}-{number:04d}.wav"
            save_wav(wav, piece)
            good.append((str(wav), len(piece), part))
        with atomic(record) as tmp:
            content = {"key": key, "good": good, "left_out": left_out}
            tmp.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        return good, left_out

    @torch.inference_mode()
    def assign(
        self, audio: list[np.ndarray], text: str, language: str
    ) -> tuple[list[str], list[str]]:
        """The text of each piece, and why it is not to be trusted, or "".

        Of audio without a text only where it is cut is judged.

        Args:
            audio: consecutive pieces, (samples,) float32 at 16 kHz.
            text: what is said in all of them.
            language: in which.
        """
        quiet = [_pause(a, b) for a, b in pairwise(audio)]
        edges = [slice(max(i - 1, 0), i + 1) for i in range(len(audio))]  # cuts before and behind
        if not text:
            return [""] * len(audio), ["" if all(quiet[each]) else NO_PAUSE for each in edges]
        units = split_words(text, language)
        # Of a day of audio they are many gigabytes; to encode twice what is longer costs only time.
        features = lru_cache(KEPT)(lambda i: self._encode(audio[i]))
        heard = [compared(self._hear(features(i), language), language) for i in range(len(audio))]
        cuts, sure = [0], []
        for i, (first, last) in enumerate(_places(units, heard, language)):
            places = range(
                max(cuts[-1], first - AROUND), max(cuts[-1], min(last + AROUND, len(units))) + 1
            )
            best, margin = self._best(
                places, units, cuts[-1], [features(i), features(i + 1)], language
            )
            cuts.append(best)
            sure.append(margin >= MARGIN)
        texts = ["".join(units[a:b]).strip() for a, b in pairwise([*cuts, len(units)])]
        faults = []
        for i, words in enumerate(heard):
            said = "".join(compared(texts[i], language))
            if not all(quiet[edges[i]]):
                faults.append(NO_PAUSE)
            elif not all(sure[edges[i]]):
                faults.append("piece whose text is uncertain")
            elif not said:
                faults.append("piece in which nothing is said")
            else:
                unlike = jiwer.cer(said, "".join(words)) > UNLIKE
                faults.append("piece whose text is unlike what is heard" if unlike else "")
        return texts, faults

    def _encode(self, piece: np.ndarray) -> Tensor:
        mel = window(piece, self.model.dims.n_mels, 2 * self.model.dims.n_audio_ctx)
        return self.model.encoder(mel[None])

    def _hear(self, features: Tensor, language: str) -> str:
        options = whisper.DecodingOptions(
            language=language,
            temperature=0.0,
            without_timestamps=True,
            sample_len=most_tokens(self.model.dims.n_text_ctx),
            fp16=False,
        )
        (result,) = self.model.decode(features, options)
        return result.text

    def _best(
        self, places: range, units: list[str], start: int, features: list[Tensor], language: str
    ) -> tuple[int, float]:
        """The likeliest of the places, and its margin in nats (0 where none can be told).

        The units from `start` up to the place are in the first piece, the others follow.
        """
        middle = places[len(places) // 2]
        if len(places) > TRIED:
            return middle, 0.0
        tokenizer = get_tokenizer(
            self.model.is_multilingual,
            num_languages=self.model.num_languages,
            language=language,
            task="transcribe",
        )
        before = self._encoded(units[start : places[-1]], language)
        behind = [
            list(chain(*self._encoded(units[place : places[-1] + BEHIND], language)))
            for place in places
        ]
        ends = list(accumulate((len(ids) for ids in before), initial=0))
        longest = max(ends[-1], *map(len, behind))
        prompt = list(tokenizer.sot_sequence_including_notimestamps)
        if len(prompt) + longest > self.model.dims.n_text_ctx:
            return middle, 0.0
        of_text, of_end = self._read(features[0], prompt, [list(chain(*before))], tokenizer.eot)
        of_next, _ = self._read(features[1], prompt, behind, tokenizer.eot)
        scores = torch.stack(
            [
                of_text[0, ends[place - start]]
                + of_end[0, ends[place - start]]
                + of_next[row, len(behind[row])]
                for row, place in enumerate(places)
            ]
        )
        if len(scores) == 1:
            return places[0], float("inf")
        (best, second), (row, _) = scores.topk(2)
        return places[int(row)], float(best - second)

    def _encoded(self, units: list[str], language: str) -> list[list[int]]:
        """Token ids of each unit as the model cuts it, in the whole vocabulary."""
        encoded = _encode_units(any_tokenizer(self.vocabulary), units, language)
        return [ids_in_whole(self.vocabulary, ids) for ids in encoded]

    def _read(
        self, features: Tensor, prompt: list[int], rows: list[list[int]], end: int
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood of the first n tokens of each row, and of the end after them.

        Both (rows, T + 1), n from 0 to T, the length of the longest row.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows], dtype=torch.long)
        tokens = torch.cat([torch.tensor([prompt]).expand(len(rows), -1), ids], dim=1)
        logits = self.model.decoder(tokens, features.expand(len(rows), -1, -1))
        logp = logits[:, len(prompt) - 1 :].float().log_softmax(-1)
        steps = logp[:, :-1].gather(2, ids[:, :, None])[:, :, 0]
        return torch.nn.functional.pad(steps.cumsum(1), (1, 0)), logp[:, :, end]


def split_words(text: str, language: str) -> list[str]:
    """Where the text may be cut: words with the space behind them, which together are the text.

    In languages that are written without spaces, letters with their marks. What is no word, as a
    dash, goes with the word before it.
    """
    pattern = r"[!-~]+ ?|(?! )\X ?" if language in SPACELESS else r"[^ ]+ ?"
    units: list[str] = []
    for unit in regex.findall(pattern, " ".join(text.split())):
        if units and not (compared(unit, language) and compared(units[0], language)):
            units[-1] += unit
        else:
            units.append(unit)
    return units


def _places(units: list[str], heard: list[list[str]], language: str) -> list[tuple[int, int]]:
    """For each cut of the audio, the first and the last place in the text where it may be.

    They are behind the last word that was heard rightly before the cut, and before the first one
    that was heard rightly after it.
    """
    words, unit_of = [], []
    for i, unit in enumerate(units):
        for word in compared(unit, language):
            words.append(word)
            unit_of.append(i)
    right: list[tuple[int, int]] = []  # position among the heard, unit
    told = [word for piece in heard for word in piece]
    if words and told:
        for chunk in jiwer.process_words(" ".join(words), " ".join(told)).alignments[0]:
            if chunk.type == "equal":
                count = chunk.ref_end_idx - chunk.ref_start_idx
                right += [
                    (chunk.hyp_start_idx + k, unit_of[chunk.ref_start_idx + k])
                    for k in range(count)
                ]
    places = []
    for cut in list(accumulate(map(len, heard)))[:-1]:
        first = max((unit + 1 for at, unit in right if at < cut), default=0)
        last = min((unit for at, unit in right if at >= cut), default=len(units))
        places.append((min(first, last), max(first, last)))
    return places


def _pause(before: np.ndarray, behind: np.ndarray) -> bool:
    """Whether it is quiet around the cut between two pieces."""
    around = np.concatenate([before[-EDGE:], behind[:EDGE]])
    return bool(around.var() <= PAUSE * max(before.var(), behind.var()))


def _encode_units(tokenizer: Tokenizer, units: list[str], language: str) -> list[list[int]]:
    """Token ids of each unit of a text, with the space before it."""
    return [
        *(encode_text(tokenizer, unit, language) for unit in units[:1]),
        *(
            tokenizer.encode(" " * before.endswith(" ") + unit.rstrip())
            for before, unit in pairwise(units)
        ),
    ]


def split_long(
    max_seconds: float,
    aligner: Path,
    threads: int,
    data: KaldiDir,
    wav_dir: Path,
    left_out: LeftOut,
) -> tuple[KaldiDir, dict[str, int]]:
    """The same utterances, those longer than `max_seconds` in pieces with their text.

    Args:
        max_seconds: What a piece has at most.
        aligner: A Whisper's `.pt` file.
        threads: CPU threads.
        data: A split with `utt2num_samples`; a piece of UTT is called UTT-NNNN.
        wav_dir: Where the pieces go; those of an earlier run are used again.
        left_out: What is left out so far; pieces without use are added, under their utterance.

    Returns:
        The utterances, and the counts of `utterances` that were split and of their good `pieces`.

    Raises:
        InputError: The file is no Whisper or does not know a language, or a name is there already.
    """
    samples = data.extra["utt2num_samples"]
    long = [utt for utt, n in samples.items() if int(n) > max_seconds * SAMPLE_RATE]
    made = KaldiDir(extra={"utt2num_samples": {}})
    if long:
        splitter = Splitter(aligner, max_seconds, threads)
        for utt in tqdm(long, desc="split", unit="utterance"):
            good, faults = splitter.split(
                utt, Path(data.wav[utt]), data.text[utt], data.utt2lang[utt], wav_dir
            )
            for fault in faults.elements():
                left_out.add(utt, data.utt2lang[utt], fault, f"a piece of {utt}")
            for wav, length, text in good:
                key = f"{utt}-{Path(wav).stem[-4:]}"
                of = data.utt2spk[utt], data.utt2lang[utt]
                made.add(key, wav, text, *of, utt2num_samples=length)
    rest = data.select(samples.keys() - set(long))
    if both := rest.wav.keys() & made.wav.keys():
        raise InputError(f"'{min(both)}' is an utterance and a piece")
    rest.update(made)
    return rest, {"utterances": len(long), "pieces": len(made.wav)}
