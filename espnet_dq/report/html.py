"""report.html: one file that shows what an experiment reached, for screen, phone and paper."""

from collections.abc import Callable

from espnet_dq.report import course, origin, plots, tables
from espnet_dq.report.collect import Experiment
from espnet_dq.report.errors import examples, sure
from espnet_dq.report.evidence import data, failures, parity
from espnet_dq.report.headline import facts, students
from espnet_dq.report.markup import (
    definitions,
    figure,
    page,
    paragraph,
    section,
    side,
    table,
    text,
)
from espnet_dq.report.size import MIB, small_bytes
from espnet_dq.scoring import beside
from espnet_dq.scoring.score import MEAN

NOT_MEASURED = "Not measured in this run."


def render(exp: Experiment) -> str:
    """The whole page."""
    deployed = students(exp.results).get("student")
    mark = deployed["name"] if deployed else None
    title = exp.path.resolve().name
    body = [
        f"<h1>{text(title)}</h1>",
        paragraph(
            f"Distilled and quantized Whisper. Data: {exp.results['data_name']}, "
            f"seed {exp.run['seed']}, {exp.run['date']}, commit {exp.run['commit']}",
            soft=True,
        ),
        _headline(exp.results),
        *map(paragraph, tables.rounded_systems(exp.results)),
        _canary(exp.results, mark),
        _errors(exp, mark),
        examples(exp.results, mark),
        _size(exp.results, mark),
        _speed(exp, mark),
        _training(exp),
        parity(exp.verify),
        data(exp),
        failures(exp),
        _how(exp),
    ]
    return page(title, "\n".join(body))


def _headline(results: dict) -> str:
    found = facts(results)
    if not found:
        return paragraph("This run lists no student: there is nothing to compare.")
    kinds = {None: "", True: ' class="good"', False: ' class="bad"'}
    items = "".join(
        f"<li{kinds[f.good]}><b>{text(f.value)}</b>{text(f.meaning)}</li>" for f in found
    )
    student = students(results)["student"]
    said = (
        f"The result is {student['name']}: it runs in {student['runtime']}, its weights are on the "
        f"grid {student['grid']}, and it takes {student['bytes_on_disk'] / 1e6:.1f} MB on disk."
    )
    voices = results["voices"]
    heard = paragraph(f"Voices: {voices['said']}.") if voices else ""
    return paragraph(said) + f'<ul class="facts">{items}</ul>' + heard


def _canary(results: dict, mark: str | None) -> str:
    if results["canary"] is None:
        return paragraph(tables.NO_CANARY)
    return section(
        tables.CANARY,
        table(tables.CANARY_CAPTION, *tables.canary(results), mark),
        table(
            "The same by set and language", *tables.canary_details(results), None, prose=(0, 1, 2)
        ),
    )


def _rates(results: dict, name: str, caption: str, mark: str | None) -> str:
    order = tables.languages(results)
    rows = [
        [s["name"], *(tables.number(s[name].get(k)) for k in order)] for s in results["systems"]
    ]
    return table(caption, ["system", *order], rows, mark)


def _errors(exp: Experiment, mark: str | None) -> str:
    results, other = exp.results, tables.both_normalisers(exp.results)
    mean = "; mean: every language weighs the same" if MEAN in tables.languages(results) else ""
    norm = f"{tables.compared(exp)} {beside.units(tables.units(results))}"
    return section(
        "Errors",
        paragraph(f"All rates in percent{mean}. {norm}"),
        side(
            figure(
                plots.wer_by_language(results, tables.languages(results)),
                "Word error rate by language.",
            ),
            _rates(results, "wer", "WER (%) after normalisation, whole test set", mark)
            + _rates(results, "cer", "CER (%) after normalisation, whole test set", mark),
        ),
        table(tables.means_caption(exp), tables.MEANS, tables.means(results), mark),
        table(f"Where both normalisers differ (%). {beside.OPENAI}", beside.HEAD, other, mark)
        if other
        else paragraph(f"{beside.SAME}.", soft=True),
        sure(results),
        # Those of one language stand in the table of all rates.
        side(
            _rates(results, "wer_long", "WER (%), long part", mark)
            + _rates(results, "cer_long", "CER (%), long part", mark),
            _rates(results, "wer_unnormalised", "WER (%), text as written", mark)
            + _rates(results, "cer_unnormalised", "CER (%), text as written", mark),
        )
        if mean
        else "",
        paragraph(
            "The tables of Snt, Wrd, Corr, Sub, Del, Ins in RESULTS.md are aligned with sclite's "
            "weights (4 for a substitution, 3 for an insertion or a deletion), which can count a "
            "few more errors than jiwer does.",
            soft=True,
        ),
    )


def _wer(results: dict) -> str:
    return f"{beside.mean(tables.languages(results))}WER".replace("mean", "Mean")


def _size(results: dict, mark: str | None) -> str:
    reference = small_bytes()
    rows = [
        [
            s["name"],
            s["grid"],
            s["preset"] or tables.NONE,
            f"{s['bytes_on_disk'] / 1e6:.1f}",
            f"{s['paper_rule_bytes'] / MIB:.2f}",
            f"{reference / s['paper_rule_bytes']:.2f}×",
        ]
        for s in results["systems"]
    ]
    head = ["system", "grid", "preset", "on disk (MB)", "paper rule (MiB)", "vs small, paper rule"]
    return section(
        "Size",
        table(
            "On disk: every byte of the file or folder that the runtime loads, measured, in "
            "millions. Paper rule: 16 bits a value, quantized .weight tensors at the grid's bits, "
            f"counted, not measured; against whisper-small at 16 bits ({reference / MIB:.2f} MiB)",
            head,
            rows,
            mark,
            prose=(1, 2),
        ),
        figure(plots.error_against_size(results), f"{_wer(results)} against size on disk."),
    )


def _speed(exp: Experiment, mark: str | None) -> str:
    title, bench = "Speed and memory", exp.benchmark
    if bench is None:
        rows = [
            [name, tables.number(d["rtf"], 3), f"{d['peak_rss_bytes'] / 1e6:.0f}"]
            for name, d in exp.decodes.items()
        ]
        return section(
            title,
            paragraph(tables.SPEED),
            paragraph(f"Side by side: {NOT_MEASURED.lower()}"),
            table(
                "From the separate decoding runs: other load on the machine may differ between "
                "rows, so they do not compare",
                ["system", "RTF", "peak memory (MB)"],
                rows,
                mark,
            ),
        )
    systems = bench["systems"]
    rows = []
    for name, s in systems.items():
        rtf = s["rtf"]
        row = [name, f"{rtf['median']:.3f}", f"{rtf['min']:.3f} to {rtf['max']:.3f}"]
        row.append(f"{s['peak_rss_bytes'] / 1e6:.0f}")
        rows.append([*row, tables.number(s["first_word_seconds"], 2)])
    head = ["system", "RTF, median", "RTF, min to max", "peak memory (MB)", "first word (s)"]
    known = [f"{k}: {bench[k]}" for k in ("date", "clips", "rounds", "threads")]
    known.append(f"audio: {bench['audio_seconds']:.0f} s")
    caption = "Measured side by side in one run, systems taking turns"
    return section(
        title,
        paragraph(tables.SPEED),
        table(
            f"{caption} ({', '.join(known)}). RTF: "
            "seconds of work per second of audio, lower is faster",
            head,
            rows,
            mark,
        ),
        *(
            paragraph(f"{s['name']}: {NOT_MEASURED.lower()}")
            for s in exp.results["systems"]
            if s["name"] not in systems
        ),
    )


def _training(exp: Experiment) -> str:
    if not exp.logs:
        return section("Training", paragraph(NOT_MEASURED))
    captions: list[Callable[[str], str]] = [
        lambda stage: f"Losses during {stage}: lines are means of intervals of training batches.",
        lambda stage: (
            f"Which teacher layer taught which student layer during {stage}; layers count from 0, "
            "the numbers are the means at the start and at the end."
        ),
    ]
    parts = [paragraph(f"Warning: {said}") for said in (exp.doubts or {}).values()]
    if exp.results["merge"]:
        parts.append(table(tables.MERGED_CAPTION, *tables.merged(exp.results)))
    told = course.told(exp.plan, exp.logs)
    for stage, log in exp.logs.items():
        pictures = [
            figure(svg, caption(stage))
            for svg, caption in zip(plots.stage(stage, log), captions, strict=False)
        ]
        if not log.student_layers():
            pictures.append(
                paragraph(f"{stage} logged no matching of layers: it had no hidden term.")
            )
        waited = log.waiting()
        if waited is not None:
            said = f"The trainer waited for data in {100 * waited:.1f} % of the time of {stage}."
            pictures.append(paragraph(said))
        said = paragraph(told[stage]) if stage in told else ""
        parts.append(f"<h3>{text(stage)}</h3>{said}{side(*pictures)}")
    return section("Training", *parts)


def _how(exp: Experiment) -> str:
    run = exp.run
    known = {
        "command": origin.command(run["command"]),
        "config": origin.command(run["config"]),
        "seed": run["seed"],
        "commit": run["commit"],
        "date": run["date"],
        "data": exp.results["data_name"],
        "their licence": exp.results["data_licence"],
        "part that was scored": origin.part(run),
    }
    rows = []
    for s in exp.results["systems"]:
        options = exp.decodes[s["name"]]["options"]
        said = ", ".join(f"{key} {value}" for key, value in options.items())
        rows.append([s["name"], s["role"], s["runtime"], origin.place(s["path"], exp.path), said])
    return section(
        "How it was made",
        definitions(known),
        table(
            "Each system, the file that was scored, and its decoding options",
            ["system", "role", "runtime", "path", "decoding options"],
            rows,
            prose=(1, 2, 3, 4),
        ),
    )
