"""Labels from the teacher: text for audio that has none, a check of text that it has.

The teacher transcribes every utterance once (greedy, language given, no timestamps). `check` keeps
the text of a folder where the teacher heard about the same, `replace` takes the teacher's own where
it is sure of it. Filtering by the error rate between label and text is Distil-Whisper's (arXiv
2311.00430), and so is its limit; the limits of sureness are openai-whisper's own for a decode
that failed.

What the teacher said is kept beside the result, under the name of the source, a line an utterance:
a killed run goes on, the other mode or other limits ask the teacher nothing, and other data only of
what is new in them.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import batched
from pathlib import Path

import jiwer
import torch
from tqdm import tqdm
from whisper import DecodingOptions
from whisper.model import Whisper

from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir, read_scp, read_wav
from espnet_dq.data.prompted import check_length
from espnet_dq.data.spelling import compared, normalise
from espnet_dq.data.texts import as_said, repetition
from espnet_dq.data.unfit import has_special_token
from espnet_dq.errors import InputError, named
from espnet_dq.files import atomic, sha256, write_text
from espnet_dq.formats.openai import read as openai
from espnet_dq.reading import loads
from espnet_dq.runtimes.torch import speak_whole
from espnet_dq.whisper.dims import language_token, vocabulary_tokenizer
from espnet_dq.whisper.forward import log_mel, own_window, window_samples
from espnet_dq.whisper.room import most_tokens
from espnet_dq.whisper.vocabulary import OwnVocabulary

MODES = ("check", "replace")
BATCH = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True)
class Label:
    """What the teacher said of an utterance, and how sure it was.

    `logprob` is the mean over tokens, `compression` how much shorter zlib makes the text (high for
    loops, see `repetition`), `no_speech` the probability that nobody speaks. `cut`: the decoder had
    room for no more of it.
    """

    utt: str
    text: str
    logprob: float
    compression: float
    no_speech: float
    cut: bool


@dataclass(frozen=True)
class Limits:
    """What is kept: error rate in percent, for `check`; the rest for both."""

    max_error: float = 10.0
    min_logprob: float = -1.0
    max_compression: float = 2.4
    max_no_speech: float = 0.6

    def fault(self, label: Label, language: str) -> str | None:
        """Why a label in a language is not to be trusted, or None; what is no number is not."""
        if not normalise(label.text, language):  # as of dots, which Whisper writes over noise
            return "the teacher heard no words"
        if has_special_token(label.text):  # as a model may, in a place for words
            return "the teacher wrote a special token"
        if not label.compression <= self.max_compression:
            return "the teacher repeats itself"
        if label.cut:
            return "the teacher's text is longer than its decoder has room for"
        if not label.no_speech <= self.max_no_speech:
            return "the teacher heard no speech"
        return None if label.logprob >= self.min_logprob else "the teacher is not sure"


def label_folder(
    source: Path,
    out: Path,
    teacher: Path,
    mode: str,
    limits: Limits = Limits(),
    device: str = "cpu",
) -> dict:
    """Write the Kaldi folder `out` with what is kept of `source`; returns the report.

    Args:
        source: formatted Kaldi folder; for `replace` its `text` is not read.
        out: written whole, with `labels.json`, the report: utterances kept, and dropped by cause.
        teacher: openai-whisper's `.pt`.
        mode: `check`: the text stays, utterances whose error rate against the label is above the
            limit are dropped; `replace`: the label is the text.
        limits: what is kept.
        device: where the teacher runs, `cpu` or `cuda`, in float32.

    Raises:
        InputError: an unknown mode, bad data, a language that the teacher does not know, or nothing
            is left.
    """
    if mode not in MODES:
        raise InputError(f"unknown mode '{mode}': known are {', '.join(MODES)}")
    data = _load(source, mode)
    labels = _labels(data, out.with_name(f"{source.name}.labels.jsonl"), teacher, device)
    dropped: Counter[str] = Counter()
    kept = []
    for utt in sorted(data.wav):
        label = labels[utt]
        cause = limits.fault(label, data.utt2lang[utt])
        if cause is None and mode == "check":
            rate = error_rate(data.text[utt], label.text, data.utt2lang[utt])
            cause = "text and teacher differ" if rate > limits.max_error else None
        if cause:
            dropped[cause] += 1
        else:
            kept.append(utt)
            if mode == "replace":
                data.text[utt] = label.text
    if not kept:
        raise InputError(f"{source}: no utterance is left: {dict(dropped)}")
    data.select(kept).save(out)
    report = {
        "mode": mode,
        "teacher": sha256(teacher),
        **asdict(limits),
        "utterances": len(data.wav),
        "kept": len(kept),
        "dropped": dict(sorted(dropped.items())),
    }
    write_text(out / "labels.json", json.dumps(report, indent=1) + "\n")
    return report


def error_rate(text: str, label: str, language: str) -> float:
    """WER in percent between text and label; where words have no spaces, letters are the words.

    Text that normalises to nothing has a rate of 0 with a label that does, else 100.
    """
    reference, hypothesis = (" ".join(compared(side, language)) for side in (text, label))
    if not reference:
        return 100.0 if hypothesis else 0.0
    return 100.0 * jiwer.wer(reference, hypothesis)


def _load(source: Path, mode: str) -> KaldiDir:
    if mode == "check":
        return KaldiDir.load(source, extra=["utt2num_samples"])
    wav = read_wav(source)
    names = ("utt2spk", "utt2lang", "utt2num_samples")
    utt2spk, utt2lang, lengths = (read_scp(source / name) for name in names)
    extra = {"utt2num_samples": lengths}
    return KaldiDir(wav, dict.fromkeys(wav, ""), utt2spk, utt2lang, extra).check(source)


def _labels(data: KaldiDir, path: Path, teacher: Path, device: str) -> dict[str, Label]:
    """Labels of all utterances: those in `path`, and the teacher's for the rest, appended.

    Those of other audio, or of another language, are not taken: data may have changed since.
    """
    source, audio = {"teacher": sha256(teacher)}, data.audio()
    of = {utt: f"{data.utt2lang[utt]} {audio[utt]}" for utt in data.wav}
    known = {u: label for u, (heard, label) in _known(path, source).items() if of.get(u) == heard}
    wanted = sorted((u for u in data.wav if u not in known), key=lambda u: (data.utt2lang[u], u))
    if not wanted:
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    model = _model(teacher, sorted(set(data.utt2lang.values())), device)
    for utt in wanted:
        check_length(utt, int(data.extra["utt2num_samples"][utt]), model.dims)
    with open(path, "a", encoding="utf-8") as f, tqdm(total=len(wanted), desc="label") as bar:
        if f.tell() == 0:
            f.write(json.dumps(source) + "\n")
            f.flush()
        for batch in batched(wanted, BATCH[device]):
            for label in _ask(model, data, list(batch)):
                known[label.utt] = label
                line = {"of": of[label.utt], **asdict(label)}
                f.write(json.dumps(line, ensure_ascii=False) + "\n")
            f.flush()
            os.fsync(f.fileno())
            bar.update(len(batch))
    return known


def _model(teacher: Path, languages: list[str], device: str) -> Whisper:
    """The teacher, if it knows these languages."""
    weights = openai.load(teacher)
    tokenizer = vocabulary_tokenizer(weights.dims, teacher)
    with named(str(teacher)):
        for language in languages:
            language_token(tokenizer, language)
    model = Whisper(weights.dims)
    model.load_state_dict(weights.state)
    model = model.float().eval().to(device)
    if isinstance(weights.dims, OwnVocabulary):
        speak_whole(model)
    return model


_HEAD = b'{"teacher": '  # how a file of labels begins


def _known(path: Path, source: dict) -> dict[str, tuple[str, Label]]:
    """What stands in `path`, of which audio; a last line that a kill cut off is taken away."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if not whole and (_HEAD.startswith(raw) or raw.startswith(_HEAD)):
        os.truncate(path, 0)
        return {}
    try:
        first, *lines = (loads(line) for line in whole.splitlines())
        labels = {line["utt"]: (line.pop("of"), Label(**line)) for line in lines}
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path}: broken, remove it: {e}") from None
    if first != source:
        raise InputError(f"{path}: the labels of another teacher: remove it")
    if whole != raw:
        with atomic(path) as tmp:
            tmp.write_bytes(whole)
    return labels


@torch.inference_mode()
def _ask(model: Whisper, data: KaldiDir, utts: list[str]) -> Iterator[Label]:
    room = most_tokens(model.dims.n_text_ctx)
    for language in sorted({data.utt2lang[u] for u in utts}):
        names = [u for u in utts if data.utt2lang[u] == language]
        clips = [torch.from_numpy(load_audio(data.wav[u])) for u in names]
        speech = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        lengths = torch.tensor([len(c) for c in clips])
        full = window_samples(int(lengths.max()), "full", own_window(model.dims))
        mel = log_mel(speech.to(model.device), lengths, model.dims.n_mels, full)
        options = DecodingOptions(
            language=language,
            without_timestamps=True,
            temperature=0.0,
            sample_len=room,
            fp16=False,
        )
        for utt, r in zip(names, model.decode(mel, options), strict=True):
            text, cut = as_said(r.text), len(r.tokens) >= room
            yield Label(utt, text, r.avg_logprob, repetition(text), r.no_speech_prob, cut)
