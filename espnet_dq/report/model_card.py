"""The README.md of a published model: what it is, how good it was measured to be, how it is run."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from espnet_dq.data.spelling import LETTERS_AS_WORDS
from espnet_dq.errors import InputError
from espnet_dq.report.headline import sure
from espnet_dq.report.origin import command, weights
from espnet_dq.scoring.score import MEAN

# format -> (runtime, how it is run with the files of the folder, where its tokenizer is)
USES = {
    "ct2": (
        "faster-whisper",
        "# pip install faster-whisper\n"
        "from faster_whisper import WhisperModel\n\nTRIMMED"
        'model = WhisperModel("PATH", compute_type="COMPUTE")\n'
        'segments, _ = model.transcribe("audio.wav", language="LANGUAGE")\n'
        'print(" ".join(segment.text for segment in segments))',
        "in `tokenizer.json`",
    ),
    "ggml": (
        "whisper.cpp",
        "# pip install pywhispercpp\n"
        'from pywhispercpp.model import Model\n\nmodel = Model("PATH/model.bin")\n'
        'print(" ".join(s.text for s in model.transcribe("audio.wav", language="LANGUAGE")))',
        "in the model file",
    ),
    "onnx": (
        "onnx",
        "# pip install sherpa-onnx soundfile\nimport sherpa_onnx\nimport soundfile\n\n"
        "recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(\n"
        '    encoder="PATH/encoder.onnx", decoder="PATH/decoder.onnx", tokens="PATH/tokens.txt",\n'
        '    language="LANGUAGE",\n)\nstream = recognizer.create_stream()\n'
        'samples, rate = soundfile.read("audio.wav", dtype="float32")\n'
        "stream.accept_waveform(rate, samples)\nrecognizer.decode_stream(stream)\n"
        "print(stream.result.text)",
        "in `tokens.txt`",
    ),
    "hf": (
        "transformers",
        "# pip install transformers torch soundfile\n"
        "import soundfile\nfrom transformers import pipeline\n\n"
        'model = pipeline("automatic-speech-recognition", "PATH")\n'
        'samples, rate = soundfile.read("audio.wav")\n'
        'audio = {"raw": samples, "sampling_rate": rate}\n'
        'print(model(audio, generate_kwargs={"language": "LANGUAGE"})["text"])',
        "in `tokenizer.json`",
    ),
    "packed": (
        "torch",
        "# with espnet_dq installed\n"
        "python -Pm espnet_dq.bin.transcribe audio.wav --model PATH/model.safetensors "
        "--language LANGUAGE",
        "openai-whisper's, which espnet_dq brings",
    ),
}

_TRIMMED = (
    "import ctranslate2\n\n"
    "# CTranslate2 takes a vocabulary of less than 51865 tokens for English only\n"
    "ctranslate2.models.Whisper.is_multilingual = True\n"
)


def render(
    form: str,
    run: Mapping,
    results: Mapping,
    size: int,
    parity: Mapping[str, int],
    compute_type: str,
    trimmed: bool,
) -> str:
    """The model card, Markdown with Hugging Face's YAML head.

    Args:
        form: format of the files, a key of `USES`.
        run: what the experiment's run.json holds.
        results: what its results.json holds, with `data_name` and `data_licence`.
        size: bytes of the model's files.
        parity: `verify`'s `tensors` and `mismatched` of this very file.
        compute_type: what CTranslate2 has to compute in, to compute with its very weights.
        trimmed: whether its vocabulary is.

    Raises:
        InputError: there is no system with the role `student` in `results`.
    """
    students = [s for s in results["systems"] if s["role"] == "student"]
    if not students:
        raise InputError("results.json: no system has the role student")
    runtime, use, tokenizer = USES[form]
    # The rates of this runtime if it was measured, else those of the first one that was.
    measured = next((s for s in students if s["runtime"] == runtime), students[0])
    data = results["data_name"]
    languages = [code for code in measured["wer"] if code != MEAN]
    use = use.replace("LANGUAGE", languages[0]).replace("COMPUTE", compute_type)
    use = use.replace("TRIMMED", _TRIMMED if trimmed else "")
    head = {
        "language": languages,
        "license": "other",
        "license_name": "see-below",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["whisper", "dq-whisper", "distillation", "quantization"],
    }
    others = {s["role"]: s for s in reversed(results["systems"]) if s["role"] != "student"}
    rows = [("this model", measured)] + [
        (title, others[role])
        for role, title in (
            ("untouched", "the untouched small Whisper"),
            ("teacher", "its teacher"),
        )
        if role in others
    ]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# Whisper for {', '.join(languages)}: {data}",
        "",
        "A small Whisper, distilled from a larger one and quantized while it learned "
        f"(DQ-Whisper, arXiv 2305.10788): grid `{measured['grid']}`, format `{form}`, "
        f"{size / 1e6:.1f} MB.",
        "",
        f"Against the model that was trained: {parity['mismatched']} mismatched values in "
        f"{parity['tensors']} tensors.",
        "",
        "## Run it",
        "",
        "```" + ("sh" if form == "packed" else "python"),
        use,
        "```",
        "",
        f"`PATH` is the folder with this file. The tokenizer is {tokenizer}.",
        "",
        "## Error rates",
        "",
        f"WER / CER in percent on the test part of: {data} "
        f"({measured['utterances']} utterances), 30 s windows, greedy, language given, text "
        f"compared by its spelling. {_lettered(languages)}Measured in "
        f"{measured['runtime']}"
        + ("." if measured["runtime"] == runtime else f"; in {runtime} it was not measured."),
        "",
        "|model|runtime|" + "|".join([*languages, MEAN]) + "|",
        "|" + "---|" * (len(languages) + 3),
        *(
            f"|{title}|{s['runtime']}|"
            + "|".join(f"{s['wer'][c]:.1f} / {s['cer'][c]:.1f}" for c in [*languages, MEAN])
            + "|"
            for title, s in rows
        ),
        "",
        *_sure(results, measured),
        "## What it was made from",
        "",
        "The weights come from all of these. Check what their licences ask before you use or "
        "share them.",
        "",
        f"- training data: {data}; licence: {results['data_licence']}",
        f"- start: {weights(run.get('student', ''))}",
        f"- teacher: {weights(run.get('teacher', ''))}",
        "",
        "## How it was made",
        "",
        f"- command: `{command(run['command'])}`",
        f"- configuration: `{command(run.get('config', 'not recorded'))}`, seed {run['seed']}, "
        f"commit {run['commit']}, {run['date']}",
        "",
        "It was trained for the languages above. Others were not measured.",
        "",
    ]
    return "\n".join(lines)


def _lettered(languages: list[str]) -> str:
    found = sorted(LETTERS_AS_WORDS.intersection(languages))
    return f"In {', '.join(found)} WER counts letters with their marks. " if found else ""


def _sure(results: Mapping, measured: Mapping) -> list[str]:
    """How sure the differences in mean WER are, of the system that was compared."""
    titles = {"untouched": "the untouched small Whisper", "teacher": "its teacher"}
    found = [
        f"- against {titles[row['role']]}: {sure(row)}"
        for row in results.get("differences", [])
        if (row["system"], row["rate"], row["lang"]) == (measured["name"], "wer", MEAN)
        and row["role"] in titles
    ]
    if not found:
        return []
    return ["How sure the differences in mean WER are (paired bootstrap over utterances):", "",
            *found, ""]  # fmt: skip


def model_file(form: str) -> str:
    """Name of the model within its folder; empty where the folder is the model."""
    return {"ggml": "model.bin", "packed": "model.safetensors"}.get(form, "")


def place(folder: Path, form: str) -> Path:
    """Where the model lies within its folder."""
    return folder / model_file(form) if model_file(form) else folder
