"""The teacher pass: what a frozen teacher, and a frozen encoder, say of every utterance.

Written once as Kaldi archives of float32 matrices, which ESPnet's own loader reads as
`kaldi_ark` in every epoch instead of computing them again. For an utterance with N selected
positions (see `sequences.py`), teacher layers L and width D:

    encoder_out        [P, D_s]    the student encoder's output (if it is frozen) in its own window
    encoder_out_S      [P_S, D_s]  in windows of S seconds (if training draws such); [0, D_s] of
                                   what is longer
    teacher_ids        [N, k]      the teacher's likeliest of the student's tokens, by the student's
                                   ids (Kaldi has no integer matrix)
    teacher_log_probs  [N, k]      their log-probabilities at the temperature
    teacher_hidden     [N, L * D]  tapped hidden states (if a hidden term needs them)
    teacher_end        [1] int32   closing timestamp token, -1 for none

Work is cut into shards that appear whole, so a killed pass goes on where it stopped.
`cache.json` holds every setting and the hashes of what went in: a cache of other settings,
weights or data is refused.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import kaldiio
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from espnet_dq.data.kaldi import AUDIO, KaldiDir
from espnet_dq.data.prompted import read_speech, read_text
from espnet_dq.distill.answers import TeacherPass, encoder_kind
from espnet_dq.distill.cache_settings import CacheSettings
from espnet_dq.distill.losses import topk_log_probs
from espnet_dq.distill.teacher import Teacher
from espnet_dq.errors import InputError, one_line, say
from espnet_dq.files import Folder, alone, atomic, sha256, shared_before, shared_place, write_text
from espnet_dq.jobs import Part
from espnet_dq.reading import read_value
from espnet_dq.student.checkpoint import Student
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.forward import (
    SAMPLES_PER_POSITION,
    encode,
    log_mel,
    own_window,
    window_samples,
)
from espnet_dq.whisper.sequences import build_sequences, has_timestamps
from espnet_dq.whisper.vocabulary import token_strings

BATCH = 4
SHARD = 4 * BATCH
SHARD_FOLDER = Folder("shard", ("*.ark", "*.scp"))


def write_cache(
    data: str | Path,
    out: str | Path,
    teacher: Teacher,
    student: Student,
    settings: CacheSettings,
    shared: Path | None = None,
    part: Part | None = None,
) -> Path:
    """Run the teacher over a Kaldi folder; returns `out`, which is complete or untouched.

    With `shared`, the cache is kept there under its fingerprint, and `out` is a link to it; without
    it, too, where it is such a link. A
    finished cache with the same fingerprint is left alone. With `part` only its shards are written:
    the call without it finds them and finishes. Raises `InputError` when the folder
    holds a finished cache of something else.
    """
    data, out = Path(data), Path(out)
    folder = KaldiDir.load(data, extra=[AUDIO] if (data / AUDIO).is_file() else [])
    description = _describe(folder, teacher, student, settings)
    if shared := shared or shared_before(out):
        out = shared_place(out, shared, description["fingerprint"])
    pass_ = _Pass(folder, teacher, student, settings)
    # Jobs of an array work on one cache at once, each on its part.
    with alone(out) if shared and not part else nullcontext():
        return _fill(out, data.name, pass_, description, part)


def _fill(out: Path, name: str, pass_: "_Pass", description: dict, part: Part | None) -> Path:
    """Write what is missing of the cache, or of a part of it; returns `out`."""
    done = out / "cache.json"
    if done.is_file():
        if read_value(done) == description:
            return out
        raise InputError(f"{out}: a cache of other settings, weights or data: remove it first")
    partial = out / "shards" / description["fingerprint"][:16]
    text = pass_.folder.text
    names = sorted(text, key=lambda u: (len(text[u]), u))
    shards = [names[i : i + SHARD] for i in range(0, len(names), SHARD)]
    asked = list(enumerate(shards))
    asked = part.of(asked) if part else asked
    left = [u for n, shard in asked if not (partial / f"{n:05d}").is_dir() for u in shard]
    _check_room(out, pass_.predicted_bytes(left))
    for number, shard in tqdm(asked, desc=one_line(f"teacher pass {name}"), unit="shard"):
        target = partial / f"{number:05d}"
        if not target.is_dir():
            with atomic(target, SHARD_FOLDER) as tmp:
                tmp.mkdir(parents=True)
                _write_shard(tmp, target, pass_.answers(shard))
    if part:
        return out
    # Every shard has the same kinds; one of them after the other, since there may be millions.
    for kind in sorted(scp.name for scp in (partial / "00000").glob("*.scp")):
        entries: list[str] = []
        for number in range(len(shards)):
            scp = partial / f"{number:05d}" / kind
            entries += scp.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic(out / kind) as tmp, open(tmp, "w", encoding="utf-8") as file:
            file.writelines(sorted(entries))
    write_text(done, json.dumps(description, indent=1) + "\n")
    return out


def _check_room(out: Path, needed: int) -> None:
    """Say how much will be written; `InputError` if the disk has less left."""
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise InputError(f"{out}: the cache takes {needed / 1e6:.0f} MB, {free / 1e6:.0f} are free")
    say(f"{out}: {needed / 1e6:.1f} MB to write", sys.stderr)


def _describe(
    folder: KaldiDir, teacher: Teacher, student: Student, settings: CacheSettings
) -> dict:
    content = hashlib.sha256()
    for table in (folder.audio(), folder.text, folder.utt2lang):
        content.update(json.dumps(table, sort_keys=True, ensure_ascii=False).encode())
    tokens = token_strings(vocabulary_tokenizer(student.dims).encoding)
    description = {
        **asdict(settings),
        "windows": list(settings.windows),
        "data": content.hexdigest(),
        "teacher": sha256(teacher.path),
        "vocabulary": hashlib.sha256("\n".join(tokens).encode()).hexdigest(),
        "utterances": len(folder.wav),
    }
    if settings.encoder:
        # The encoder's weights as its forward pass uses them: a grid changes the cache.
        weights = hashlib.sha256()
        for name, weight in sorted(student.reference_weights().items()):
            if name.startswith("encoder."):
                weights.update(name.encode() + weight.contiguous().numpy().tobytes())
        description["student_encoder"] = weights.hexdigest()
    text = json.dumps(description, sort_keys=True)
    return {**description, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}


class _Pass:
    """Student encoder and teacher over batches of utterances."""

    def __init__(
        self, folder: KaldiDir, teacher: Teacher, student: Student, settings: CacheSettings
    ):
        self.folder, self.teacher, self.settings = folder, teacher, settings
        self.dims = student.dims
        self.encoder = student.prepared().encoder if settings.encoder else None
        own = own_window(student.dims)
        # As training will draw them; those that the own window is not longer than are the own one.
        windows = {window_samples(0, [seconds], own) for seconds in settings.windows}
        self.windows = sorted({own, *windows}) if settings.encoder else []
        self.tokenizer = vocabulary_tokenizer(student.dims)

    def predicted_bytes(self, utterances: list[str]) -> int:
        """What these utterances take at most, counted from their texts; archives' keys apart."""
        settings, dims = self.settings, self.teacher.model().dims
        row = 2 * settings.top_k
        if settings.tap:
            row += dims.n_text_layer * dims.n_text_state * (4 if settings.tap == "ffn" else 1)
        heard = sum(samples // SAMPLES_PER_POSITION for samples in self.windows)
        rows = 0
        for utt in utterances:
            # The language, the text and its end, and two timestamps where there are any.
            rows += len(read_text(self.folder, utt, self.dims)[0]) + 2
            rows += 2 * has_timestamps(utt, settings.timestamp_share)
        return 4 * (rows * row + len(utterances) * heard * self.dims.n_audio_state)

    @torch.no_grad()
    def answers(self, utterances: list[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for start in range(0, len(utterances), BATCH):
            yield from self._batch(utterances[start : start + BATCH])

    def _batch(self, names: list[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        folder, settings = self.folder, self.settings
        clips = [read_speech(folder, utt, self.dims) for utt in names]
        speech, spoken = _pad(clips, 0.0), torch.tensor([len(c) for c in clips])
        texts, languages = zip(*(read_text(folder, utt, self.dims) for utt in names), strict=True)
        text, lengths = _pad([*map(torch.tensor, texts)], -1), torch.tensor([*map(len, texts)])
        lang = torch.tensor(languages)
        full = window_samples(speech.shape[1], "full", own_window(self.dims))
        window = settings.teacher_window
        own = own_window(self.teacher.model().dims)
        heard = full if window == "student" else window_samples(speech.shape[1], window, own)
        asked = TeacherPass(self.teacher, speech, spoken, heard, settings.precision, settings.tap)
        end = asked.ends(names, settings.timestamp_share, text, lengths, lang, self.tokenizer)
        seq = build_sequences(text, lengths, lang, end, self.tokenizer)
        answers = asked.ask(seq)
        ids, log_probs = topk_log_probs(answers.logits, settings.top_k, settings.temperature)
        values = {"teacher_ids": ids.float(), "teacher_log_probs": log_probs}
        if answers.states:
            stacked = torch.stack([seq.select(s).float() for s in answers.states], dim=1)
            values["teacher_hidden"] = stacked.flatten(1)
        encoded = {encoder_kind(w, full): self._encode(speech, spoken, w) for w in self.windows}
        for i, name in enumerate(names):
            entry = {k: v[seq.rows == i].numpy() for k, v in values.items()}
            entry["teacher_end"] = end[i : i + 1].int().numpy()
            entry |= {kind: output[i] for kind, output in encoded.items()}
            yield name, entry

    def _encode(self, speech: Tensor, spoken: Tensor, window: int) -> list[np.ndarray]:
        """The student encoder's output of each utterance, without rows where it is longer."""
        output = [np.zeros((0, self.dims.n_audio_state), np.float32)] * len(spoken)
        fitting = (spoken <= window).nonzero()[:, 0]
        if len(fitting):
            mel = log_mel(
                speech[fitting, :window], spoken[fitting], self.dims.n_mels, window,
                self.settings.padding,
            )  # fmt: skip
            for i, encoded in zip(fitting.tolist(), encode(self.encoder, mel), strict=True):
                output[i] = encoded.numpy()
        return output


def _pad(values: list[Tensor], padding: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=padding)


def _write_shard(
    tmp: Path, target: Path, answers: Iterator[tuple[str, dict[str, np.ndarray]]]
) -> None:
    """One archive a kind; the scp files name the place where the shard will stand."""
    for utterance, entry in answers:
        for kind, array in entry.items():
            ark, scp = tmp / f"{kind}.ark", tmp / f"{kind}.scp"
            kaldiio.save_ark(str(ark), {utterance: array}, scp=str(scp), append=True)
    for scp in tmp.glob("*.scp"):
        text = scp.read_text(encoding="utf-8")
        scp.write_text(text.replace(str(tmp), str(target.resolve())), encoding="utf-8")
