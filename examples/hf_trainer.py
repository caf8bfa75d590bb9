"""Fine-tune a Whisper on CTranslate2's int8 grid, in transformers' Seq2SeqTrainer.

    python -P examples/hf_trainer.py --train data/train --dev data/dev --out student_ct2

TRAIN and DEV are Kaldi folders (wav.scp, text, utt2lang), or folders of recordings with a text
beside each (talk.wav and talk.txt), all in one --language. What it needs:
pip install ".[runtimes,trainer]".
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import whisper
from faster_whisper import WhisperModel
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

import espnet_dq as dq
from espnet_dq.data.audio import load_audio
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.listing import beside
from espnet_dq.errors import InputError, run


class Clip(NamedTuple):
    audio: str
    text: str
    language: str


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="openai:tiny", help="file, folder or openai:NAME")
    parser.add_argument("--train", type=Path, required=True, help="folder to learn from")
    parser.add_argument("--dev", type=Path, required=True, help="folder to transcribe in the end")
    parser.add_argument("--out", type=Path, required=True, help="CTranslate2 folder to write")
    parser.add_argument("--language", help="of recordings with texts: Whisper's code")
    parser.add_argument("--teacher", help="also learn from this Whisper: openai:base, or a .pt")
    parser.add_argument("--checkpoints", type=Path, help="keep some there, and go on from the last")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def read(folder: Path, language: str | None) -> list[Clip]:
    """The clips of a folder."""
    if (folder / "wav.scp").exists():
        data = KaldiDir.load(folder)
        return [Clip(data.wav[u], data.text[u], data.utt2lang[u]) for u in sorted(data.wav)]
    pairs = [(text, recordings) for text, recordings in beside(folder) if text]
    if not pairs:
        raise InputError(f"{folder}: neither wav.scp nor texts (*.txt) there")
    if language is None:
        raise InputError(f"{folder}: recordings with texts: say their --language")
    clips = []
    for text, recordings in pairs:
        if len(recordings) != 1:
            count = len(recordings)
            raise InputError(f"{text}: {count} recordings of that name beside it, not one")
        clips.append(Clip(str(recordings[0]), text.read_text("utf-8").strip(), language))
    return clips


class Plain:
    """transformers' model, and batches for it."""

    def __init__(self, source: dq.Model):
        with tempfile.TemporaryDirectory() as folder:
            dq.save(source, folder, to="hf")
            self.processor = WhisperProcessor.from_pretrained(folder)
            self.net = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.module = dq.prepare(self.net, "ct2_int8")

    def batch(self, clips: list[Clip]) -> dict:
        audio = [load_audio(clip.audio) for clip in clips]
        heard = self.processor.feature_extractor(audio, sampling_rate=16000, return_tensors="pt")
        rows = []
        for clip in clips:
            self.processor.tokenizer.set_prefix_tokens(clip.language, "transcribe", False)
            tokens = self.processor.tokenizer(clip.text).input_ids
            rows.append(torch.tensor(tokens[1:]))  # the model puts the first in
        labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
        return {"input_features": heard.input_features, "labels": labels}


class Taught:
    """openai-whisper's model that learns from a teacher, and batches for both."""

    def __init__(self, source: dq.Model, teacher: str):
        with tempfile.TemporaryDirectory() as folder:
            path = dq.save(source, Path(folder, "student.pt"))
            self.net = whisper.load_model(str(path), device="cpu")
        self.module = dq.Distiller(dq.prepare(self.net, "ct2_int8"), teacher)

    def batch(self, clips: list[Clip]) -> dict:
        examples = [(load_audio(clip.audio), clip.text, clip.language) for clip in clips]
        return {"batch": self.module.batch(examples)}


def train(learner: Plain | Taught, clips: list[Clip], args: argparse.Namespace, work: str) -> None:
    """Steps of AdamW, as any script of transformers."""
    settings = Seq2SeqTrainingArguments(
        output_dir=work,
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        learning_rate=args.rate,
        warmup_steps=args.steps // 10,
        save_steps=max(1, args.steps // 2),
        save_strategy="steps" if args.checkpoints else "no",
        logging_steps=max(1, args.steps // 10),
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        seed=args.seed,
    )
    trainer = Seq2SeqTrainer(
        model=learner.module, args=settings, train_dataset=clips, data_collator=learner.batch
    )
    trainer.train(resume_from_checkpoint=any(Path(work).glob("checkpoint-*")))


def transcribe(folder: Path, clips: list[Clip]) -> list[str]:
    """What faster-whisper hears."""
    model, texts = WhisperModel(str(folder), device="cpu", compute_type="int8"), []
    for clip in clips:
        segments, _ = model.transcribe(load_audio(clip.audio), language=clip.language)
        texts.append("".join(segment.text for segment in segments).strip())
        print(f"{Path(clip.audio).name}: {texts[-1]}", flush=True)
    return texts


def main(argv: list[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    clips, dev = read(args.train, args.language), read(args.dev, args.language)
    source = dq.load(args.model)
    torch.manual_seed(args.seed)
    learner = Taught(source, args.teacher) if args.teacher else Plain(source)
    with tempfile.TemporaryDirectory() as folder:
        train(learner, clips, args, str(args.checkpoints or folder))
    dq.save(learner.net, args.out)
    report = dq.verify(args.out, against=learner.net).check()
    print(f"{args.out}: {report.mismatched} mismatches in {len(report.rows)} tensors")
    heard = transcribe(args.out, dev)
    for language in sorted({clip.language for clip in dev}):
        pairs = [(c.text, h) for c, h in zip(dev, heard, strict=True) if c.language == language]
        wer = dq.score(*zip(*pairs, strict=True), language=language)["wer"]["mean"]
        print(f"{args.dev}: {language}: {wer:.1f} % of the words are wrong")
    return 0


if __name__ == "__main__":
    run(main)
