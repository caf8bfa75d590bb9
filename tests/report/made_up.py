"""A made-up experiment folder for the report's tests: every number in it is invented."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.scoring.score import score
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights

SENTENCES = {
    "en": "please enter your password followed by the pound key",
    "es": "por favor introduzca su contraseña seguida de la tecla numeral",
    "fr": "veuillez saisir votre mot de passe suivi de la touche dièse",
    "it": "inserire la password seguita dal tasto cancelletto",
    "ru": "пожалуйста введите ваш пароль и нажмите решётку",
}
SYSTEMS = [  # name, role, runtime, grid, share of words that go wrong, RTF, MB of memory
    ("untouched-tiny", "untouched", "faster-whisper", "none", 0.27, 0.060, 410),
    ("teacher-base", "teacher", "faster-whisper", "none", 0.13, 0.110, 620),
    ("float-student", "float_student", "faster-whisper", "none", 0.19, 0.061, 412),
    ("student-ct2_int8", "student", "faster-whisper", "ct2_int8", 0.195, 0.041, 330),
    ("student-torch", "student", "torch", "ct2_int8", 0.195, 0.150, 900),
]
SMALL_DIMS = {"tiny": (80, 1500, 8, 2, 2, 51865, 448, 8, 2, 2)}
SMALL_DIMS["base"] = (80, 1500, 16, 2, 3, 51865, 448, 16, 2, 3)


def save_model(path: Path, dims: tuple[int, ...]) -> None:
    """A checkpoint of zeros."""
    sizes = ModelDimensions(*dims)
    state = {k: torch.zeros(s, dtype=torch.float16) for k, s in weight_shapes(sizes).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_pt(path, Weights(sizes, state))


def spoil(text: str, share: float, rng: random.Random) -> str:
    """The text with about `share` of its words changed or lost."""
    words = [w if rng.random() > share else w[:-1] for w in text.split()]
    return " ".join(w for w in words if w and rng.random() > share / 4)


def train_log(epochs: int, batches: int, hidden: bool, rng: random.Random) -> str:
    """Lines as ESPnet's trainer writes them."""
    prefix = "[node1:0/1] 2026-11-23 10:00:00,123 (trainer:810) INFO: "
    lines = []
    for epoch in range(1, epochs + 1):
        for end in range(20, batches + 1, 20):
            t = epoch - 1 + end / batches
            loss = 1.2 + 2.0 / (1 + t) + rng.random() / 10
            values = {"loss": loss, "loss_ce": loss * 0.8, "loss_kl": loss * 0.5}
            if hidden:
                values["loss_hidden"] = loss * 0.2
                chosen = [
                    min(5.0, j + 2 * t / epochs * (i > 0)) for i, j in enumerate((1, 2, 3, 4))
                ]
                values |= {f"match_l{i}": j for i, j in enumerate(chosen)}
            said = ", ".join(f"{k}={v:.3f}" for k, v in values.items())
            lines.append(f"{prefix}{epoch}epoch:train:{end - 19}-{end}batch: {said}")
        lines.append(
            f"{prefix}{epoch}epoch results: [train] iter_time=0.020, loss={loss:.3f}, "
            f"train_time=0.500, time=1 minute and 2 seconds, total_count={epoch * batches}, "
            f"[valid] loss={loss * 1.1:.3f}, time=4.5 seconds, "
            f"total_count={epoch * 9}"
        )
    return "\n".join(lines) + "\n"


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def build(
    root: Path,
    dims: dict[str, tuple[int, ...]] = SMALL_DIMS,
    clips: int = 12,
    languages: Sequence[str] = tuple(SENTENCES),
) -> Path:
    """Write data and an experiment folder under `root`; returns EXPDIR."""
    rng, data = random.Random(7), root / "dump" / "test"
    data.mkdir(parents=True)
    ref, lang = {}, {}
    for code in languages:
        sentence = SENTENCES[code]
        for n in range(clips):
            utt = f"{code}-{n:03d}"
            words = sentence.split()
            ref[utt], lang[utt] = " ".join(words[: 1 + n % len(words)]).capitalize() + ".", code
    samples = {utt: 8000 + 8000 * len(text.split()) for utt, text in ref.items()}
    for name, table in (("text", ref), ("utt2lang", lang), ("utt2num_samples", samples)):
        (data / name).write_text("".join(f"{k} {v}\n" for k, v in table.items()), encoding="utf-8")

    exp = root / "exp" / "asterisk_base_tiny_ct2_int8"
    systems, benchmark = [], {}
    for name, role, runtime, grid, share, rtf, memory in SYSTEMS:
        model = root / "models" / f"{name}.pt"
        save_model(model, dims["base" if role == "teacher" else "tiny"])
        how = {"grid": grid, "grids": {}, "preset": "none" if grid == "none" else "full"}
        systems.append({"name": name, "role": role, "runtime": runtime, **how, "path": str(model)})
        folder = exp / "decode" / name
        folder.mkdir(parents=True)
        # The same mistakes for the same share: the two decodes of one student agree.
        faults = random.Random(round(1000 * share))
        hyp = {utt: spoil(text, share, faults) for utt, text in ref.items()}
        lines = "".join(f"{utt} {text}".strip() + "\n" for utt, text in hyp.items())
        (folder / "text").write_text(lines, encoding="utf-8")
        failed = {"ru-003": "audio is <empty> & broken"} if runtime == "torch" else {}
        decode = {"rtf": rtf * 1.2, "peak_rss_bytes": memory * 10**6, "failed": failed}
        decode["token_limit"] = {"tokens": 444, "in two": [], "cut": []}
        if name == "student-ct2_int8":
            decode["token_limit"] |= {"in two": ["it-001"], "cut": ["<ru-002>"]}
        if role == "student":
            decode["guard"] = {"again": ["es-001"], "cut": ["it-001"]}
        write_json(folder / "decode.json", decode | {"options": {"beam_size": 1}})
        score(data, folder, folder / "score", None)
        if runtime != "torch":
            spread = {"min": rtf * 0.95, "median": rtf, "max": rtf * 1.1}
            benchmark[name] = {"rtf": spread, "peak_rss_bytes": memory * 10**6 + 1}
            benchmark[name]["first_word_seconds"] = rtf * 10
    write_json(
        exp / "run.json",
        {
            "corpus": "asterisk",
            "sources": [{"name": "Asterisk's core sounds", "licence": "CC-BY-SA-3.0"}],
            "teacher": "base",
            "student": "tiny",
            "seed": 42,
            "commit": "0123abc",
            "date": "2026-11-23",
            "command": "./run.sh --tag '<b>&'",
            "config": "conf/train.yaml",
            "data": str(data),
            "data_report": str(data.parent / "report.json"),
            "format_report": str(data.parent / "format.json"),
            "systems": systems,
        },
    )
    write_json(
        exp / "benchmark.json",
        {
            "date": "2026-11-23",
            "threads": 1,
            "clips": 40,
            "audio_seconds": 211.5,
            "rounds": 5,
            "systems": benchmark,
        },
    )
    row = {"shape": [1000, 1000], "grid": "ct2_int8", "bits": 8, "bytes": 10**6}
    row |= {"kind": "on a grid", "error": 0.00625, "integers": 0, "scales": 0}
    plain = {"shape": [4500], "grid": "float16", "bits": 16, "bytes": 9000, "error": None}
    rows = [row | {"name": f"w{n}"} for n in range(38)]
    rows += [row | plain | {"name": f"b{n}", "kind": "bias"} for n in range(37)]
    rows.append(row | plain | {"name": "<conv>", "kind": "could be on a grid"})
    totals = {"tensors": len(rows), "mismatched": 0, "grid_bytes": 38 * 10**6}
    totals |= {"float_bytes": 38 * 9000, "bytes_on_disk": 41 * 10**6, "paper_rule_bytes": 2**25}
    write_json(exp / "verify.json", totals | {"rows": rows})
    for stage, hidden in (("kd", True), ("qat", False)):
        (exp / stage).mkdir()
        log = train_log(5 if hidden else 3, 120, hidden, rng)
        (exp / stage / "train.log").write_text(log, encoding="utf-8")
    split = {"train": 440, "dev": 55, "test": clips, "minutes": 24.61}
    left_out = {"not speech <beep>": 7, "text and audio do not match": 3}
    write_json(data.parent / "report.json", {c: split | {"left_out": left_out} for c in languages})
    formatted = {"utterances": 60, "minutes": 4.5, "left_out": {"longer than 30 s": 2}}
    write_json(data.parent / "format.json", {"shared_texts": 0, "test": formatted})
    (exp / "data").mkdir(exist_ok=True)
    minutes = {code: {"given": 20.04, "heard": 30.0} for code in languages}
    write_json(exp / "data/train.minutes.json", minutes)
    return exp
