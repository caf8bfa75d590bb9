"""The README.md of a published model: what it is, how good it was measured to be, how it is run."""

from collections.abc import Mapping, Sequence

from huggingface_hub import EvalResult, ModelCardData
from whisper.audio import SAMPLE_RATE
from whisper.model import ModelDimensions

from espnet_dq.data.spelling import LETTERS_AS_WORDS
from espnet_dq.errors import InputError
from espnet_dq.formats.registry import FORMATS
from espnet_dq.report import licences, rounded, tables
from espnet_dq.report.headline import canary_facts, mean_difference, sure
from espnet_dq.report.markdown import table
from espnet_dq.report.origin import command, part, repository, weights
from espnet_dq.scoring import beside
from espnet_dq.scoring.score import MEAN
from espnet_dq.whisper.forward import own_window

# What the model is compared with: role -> what the card calls it.
_OTHERS = {
    "untouched": "the untouched small Whisper",
    "untouched_rounded": "the same, only rounded to the grid",
    "teacher": "its teacher",
    "teacher_rounded": "its teacher, only rounded to the grid",
}
_METRICS = ("wer", "cer")
_ISO = {"jw": "jv"}  # Whisper's codes that are none
_UNMEASURED = (
    "**The error rates of this file were not measured.** Those below are of the model that was "
    "trained, on its own grid."
)


def render(
    form: str,
    run: Mapping,
    results: Mapping,
    size: int,
    parity: Mapping[str, int],
    exact: str,
    dims: ModelDimensions,
    rounded_to: str | None = None,
) -> str:
    """The model card, Markdown with Hugging Face's YAML head.

    Args:
        form: format of the files, one with a `card`.
        run: what the experiment's run.json holds.
        results: what its results.json holds, with `data_name` and `data_licence`, and `languages`,
            those of train.
        size: bytes of the model's files.
        parity: `verify`'s `tensors` and `mismatched` of this very file.
        exact: what the runtime is told to compute with the file's very weights: CTranslate2's
            compute type, transformers.js's dtype in JavaScript.
        dims: the model's.
        rounded_to: the grid that trained weights were rounded to; None: it was trained on its own.

    Raises:
        InputError: there is no system with the role `student` in `results`.
    """
    students = [s for s in results["systems"] if s["role"] == "student"]
    if not students:
        raise InputError("results.json: no system has the role student")
    runtime, card = FORMATS[form].runtime, FORMATS[form].card
    # The rates of this runtime if it was measured, else those of the first one that was.
    trained = next((s for s in students if s["runtime"] == runtime), students[0])
    names = {s["name"]: s for s in results["systems"]}
    measured = names.get(rounded.name(rounded_to)) if rounded_to else trained
    data, languages = results["data_name"], results["languages"]
    window = own_window(dims) / SAMPLE_RATE
    filled = {"LANGUAGE": languages[0], "COMPUTE": exact, "DTYPE": exact, "WINDOW": f"{window:g}"}
    title = f"Whisper for {', '.join(languages)}: {data}"
    what, against = _grid_in_words(trained, run, rounded_to)
    lines = [
        _head(title, languages, card.library, run, data, measured),
        f"# {title}",
        "",
        "A small Whisper, distilled from a larger one and quantized while it learned "
        f"(DQ-Whisper, arXiv 2305.10788): {what}, format `{form}`, {size / 1e6:.1f} MB.",
        "",
        f"Against {against}: {parity['mismatched']} mismatched values in {parity['tensors']} "
        "tensors.",
        "",
        *_run(form, dims, filled),
        "## Error rates",
        "",
        *([] if measured else [_UNMEASURED, ""]),
        *_rates(results, measured, trained, window, runtime),
        *_sure(results, trained, rounded_to is not None),
        *_canary(results, rounded_to is not None),
        *_origin(run, results, trained),
    ]
    return "\n".join(lines)


def _grid_in_words(trained: Mapping, run: Mapping, rounded_to: str | None) -> tuple[str, str]:
    """On which grid it is, and what the file was compared with, in words."""
    own, against = f"grid `{trained['grid']}`", "the model that was trained"
    if not rounded_to:
        return own, against
    described = next(
        s for s in run["systems"] if (s["role"], s["grid"]) == (rounded.ROLE, rounded_to)
    )
    what = (
        f"on the {own}, then **rounded to the grid `{rounded_to}`{rounded.how(described)}, "
        "which it was not trained on**"
    )
    return what, f"{against}, rounded to `{rounded_to}`"


def _origin(run: Mapping, results: Mapping, trained: Mapping) -> list[str]:
    """What it was made from, and how."""
    return [
        "## What it was made from",
        "",
        "The weights come from all of these. Check what their licences ask before you use or "
        f"share them. OpenAI's is in `{licences.NAME}`.",
        "",
        f"- training data: {results['data_name']}; licence: {results['data_licence']}",
        f"- start: {weights(run['student'])}",
        f"- teacher: {weights(run['teacher'])}",
        "",
        "## How it was made",
        "",
        f"- command: `{command(run['command'])}`, in `egs2/dq_whisper/asr1` of espnet_dq",
        f"- configuration: `{command(run['config'])}`, seed {run['seed']}, "
        f"commit {run['commit']}, {run['date']}",
        "",
        f"It was trained for: {', '.join(results['languages'])}. Measured in: "
        f"{', '.join(code for code in trained['wer'] if code != MEAN)}.",
        "",
    ]


def _head(
    title: str,
    languages: Sequence[str],
    library: str,
    run: Mapping,
    data: str,
    measured: Mapping | None,
) -> str:
    """What the Hub reads: https://huggingface.co/docs/hub/model-cards."""
    head = ModelCardData(
        language=[_ISO.get(code, code) for code in languages],
        license="other",
        license_name="see-below",
        license_link=licences.NAME,
        library_name=library,
        base_model=repository(run["student"]),
        pipeline_tag="automatic-speech-recognition",
        tags=["whisper", "dq-whisper", "distillation", "quantization"],
        metrics=list(_METRICS),
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="automatic-speech-recognition",
                dataset_type=data,
                dataset_name=data,
                dataset_config=code,
                dataset_split="test",
                metric_type=rate,
                metric_name=f"{rate.upper()} (%), in {measured['runtime']}",
                metric_value=round(measured[rate][code], 2),
            )
            for code in measured["wer"]
            if code != MEAN
            for rate in _METRICS
        ]
        if measured
        else None,
    )
    return f"---\n{head.to_yaml()}\n---\n"


def _run(form: str, dims: ModelDimensions, filled: Mapping[str, str]) -> list[str]:
    """How the format's runtime runs it, and what is `filled` in."""
    card, unheard = FORMATS[form].card, FORMATS[form].unheard(dims)
    untimed = FORMATS[form].untimed(dims)
    use = card.shorter if unheard and card.shorter else card.usage
    for place, text in filled.items():
        use = use.replace(place, text)
    return [
        "## Run it",
        "",
        f"```{card.language}",
        use,
        "```",
        "",
        f"`PATH` is the folder with this file. The tokenizer is {card.tokenizer}.",
        "",
        *([f"In code of your own: {unheard}.", ""] if unheard else []),
        *([f"Without subtitles: {untimed}.", ""] if untimed else []),
    ]


def _rates(
    results: Mapping, measured: Mapping | None, trained: Mapping, window: float, runtime: str
) -> list[str]:
    """What was measured, and how."""
    others = {s["role"]: s for s in reversed(results["systems"]) if s["role"] != "student"}
    rows = [("this model", measured)] if measured else []
    if measured is not trained:
        rows.append((f"the trained one, on `{trained['grid']}`", trained))
    rows += [(title, others[role]) for role, title in _OTHERS.items() if role in others]
    of = measured or trained
    languages, shown = [code for code in of["wer"] if code != MEAN], beside.columns(of["wer"])
    cells = [
        [title, s["runtime"], *(f"{s['wer'][c]:.1f} / {s['cer'][c]:.1f}" for c in shown)]
        for title, s in rows
    ]
    unmeasured = "" if of["runtime"] == runtime else f"; in {runtime} it was not measured"
    return [
        f"WER / CER in percent on the test part of: {results['data_name']} "
        f"({of['utterances']} {_scored(of)}{_voices(results)}), padded to {window:g} s, greedy, "
        f"language given, text compared by its spelling. {_lettered(languages)}Measured in "
        f"{of['runtime']}{unmeasured}.",
        "",
        table(["model", "runtime", *shown], cells),
        "",
    ]


def _scored(system: Mapping) -> str:
    """What was scored one by one: the recipe joins utterances with `--test_windows`."""
    return "windows of joined utterances" if part(system) == "test_windows" else "utterances"


def _canary(results: Mapping, other: bool) -> list[str]:
    """How it does on other people and languages; `other`: the model was rounded to another grid."""
    found = canary_facts(results)
    if not found:
        return [tables.NO_CANARY, ""]
    whose = "The model that was trained, " if other else "The model "
    said = f"{whose}on what it was not trained on, in the report's `{tables.CANARY}`:"
    return [said, "", *(f"- {fact.value} {fact.meaning}" for fact in found), ""]


def _voices(results: Mapping) -> str:
    """Whether the voices of test are those of train, where that was recorded."""
    voices = results.get("voices")
    return f", {voices['label']}" if voices else ""


def _lettered(languages: list[str]) -> str:
    found = sorted(LETTERS_AS_WORDS.intersection(languages))
    return f"In {', '.join(found)} WER counts letters with their marks. " if found else ""


def _sure(results: Mapping, trained: Mapping, is_rounded: bool) -> list[str]:
    """How sure the differences in WER are, of the trained system, if it was compared."""
    mean = beside.mean(trained["wer"])
    rows = {title: mean_difference(results, role) for role, title in _OTHERS.items()}
    found = [
        f"- against {title}: {sure(row)}"
        for title, row in rows.items()
        if row and row["system"] == trained["name"]
    ]
    if not found:
        return []
    whose = f" of the trained one, on `{trained['grid']}`" if is_rounded else ""
    said = f"How sure the differences in {mean}WER{whose} are (paired bootstrap):"
    return [said, "", *found, ""]
