"""What RESULTS.md and report.html both show: heads, rows and captions, for each to render."""

from collections.abc import Iterable, Mapping

from espnet_dq.data.spelling import LETTERS_AS_WORDS
from espnet_dq.report import rounded
from espnet_dq.report.collect import RATES, Experiment
from espnet_dq.report.headline import ratio, signed, sure
from espnet_dq.scoring import beside
from espnet_dq.scoring.bootstrap import FEWEST
from espnet_dq.scoring.score import MEAN, UNITS
from espnet_dq.scoring.table import ALL

NONE = "–"  # where there is no number
MEANS = ["system", *(f"{rate[:3].upper()}{rate[3:].replace('_', ' ')}" for rate in RATES)]
DIFFERENCES = [
    "student minus",
    "rate",
    "language",
    "difference",
    "interval",
    "over",
    "utterances",
    "that differ",
    "verdict",
]
CONFUSED = ["reference", "heard", "language", "what", "times"]


CANARY = "Other people, other languages, noise"
NO_CANARY = (
    f"{CANARY}: not measured in this run (--canary). Rates of the test set say nothing of them."
)
CANARY_CAPTION = (
    "Errors by those of untouched, the mean over sets and languages: 0.90 is a tenth fewer. "
    "Intervals are of 95 %, over speakers where six or more are known, else over windows. There is "
    f"none (a dash) of fewer than {FEWEST} windows, or of one in a language. Windows of 30 s at "
    "most, decoded as the test set is"
)
SPEED = (
    "Speed is of greedy decoding in the model's whole windows (--context full). Where a student "
    "was trained for short ones, transcribe hears short clips in these, which is faster."
)
MERGED_CAPTION = (
    "Where the training on the grid began, between the untouched student, 0, and what kd made of "
    "it, 1. Nats a token of the texts of dev and of others. From half on, the next share is taken "
    "as long as dev's and the mean of the others', together, are less by more than 0.02"
)


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals; a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def languages(results: Mapping) -> list[str]:
    """The columns of rates in the languages of all systems, see `beside.columns`."""
    return beside.columns(lang for s in results["systems"] for lang in s["wer"])


def units(results: Mapping) -> dict[str, str]:
    """What WER counts in each language of any system."""
    return {lang: each for s in results["systems"] for lang, each in s["unit"].items()}


def means(results: Mapping) -> list[list[str]]:
    """Rows of the table of means over languages, its head being `MEANS`."""
    return [[s["name"], *(number(s[rate][MEAN]) for rate in RATES)] for s in results["systems"]]


def means_caption(exp: Experiment) -> str:
    """What the columns of `MEANS` are."""
    score, what = exp.score, "Means over languages" if beside.mean(units(exp.results)) else "Rates"
    return (
        f"{what} in percent. {beside.OPENAI} ({score['normalizer_openai']}). "
        f"Long: {score['long']}. "
        "Unnormalised: text as written, with its case, punctuation and numbers"
    )


def compared(exp: Experiment) -> str:
    """How text was compared, and by what, in one sentence."""
    # Not sclite where a system has a word that is too long for it; both make the same tables.
    tool = ", ".join(dict.fromkeys(s["tool"] for s in exp.scores.values()))
    text, rates = exp.score["normalizer"], exp.score["rates"]
    return f"Text compared {text}; rates: {rates}; tables of counts: {tool}."


def canary(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each system, and for each kind its ratio with its interval.

    First stands the test set's own rate, which for most trainings is of the voices that they heard.
    """
    tried = results["canary"]["systems"]
    kinds = [*next(iter(tried.values()))["kinds"]]
    test = (results["voices"] or {}).get("label", "voices not known")
    rows = [
        [
            s["name"],
            number(s["wer"][MEAN]),
            *(ratio(tried[s["name"]]["kinds"][kind][MEAN]) for kind in kinds),
            number(tried[s["name"]]["words_a_minute"].get(MEAN)),
        ]
        for s in results["systems"]
        if s["name"] in tried
    ]
    said = _counted(lang for s in results["systems"] for lang in s["wer"] if lang != MEAN)
    return ["system", f"test set, {test}: WER (%)", *kinds, f"{said} a minute, no speech"], rows


def canary_details(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows: of each kind, set and language the rates of all systems."""
    tried = results["canary"]["systems"]
    first = tried[results["canary"]["first"]]["kinds"]
    rows = []
    for kind, columns in first.items():
        for column, of in columns.items():
            if column != MEAN:
                rates = (number(each["kinds"][kind][column][of["by"]]) for each in tried.values())
                size = (str(of["words"]), str(of["speakers"] or "not known"))
                rows.append([kind, column, of["by"].upper(), *rates, *size])
    said = _counted(row[1].split()[-1] for row in rows)
    return ["what", "set and language", "rate (%)", *tried, said, "speakers"], rows


def _counted(languages: Iterable[str]) -> str:
    """What is counted where a canary's words are: letters, in languages without spaces."""
    return beside.counted({lang: UNITS[lang in LETTERS_AS_WORDS] for lang in languages})


def merged(results: Mapping) -> tuple[list[str], list[list[str]], str]:
    """Head, rows and the row that was taken, of the shares of kd that `--merge auto` tried."""
    tried = results["merge"]["tried"]
    head = ["share of kd", *next(iter(tried.values())), "together"]
    rows = [
        [share, *(number(x, 3) for x in (*of.values(), results["merge"]["together"][share]))]
        for share, of in tried.items()
    ]
    return head, rows, f"{results['merge']['share']:g}"


def rounded_systems(results: Mapping) -> list[str]:
    """A sentence for each system that is the student, rounded: that it is, and what that does."""
    several, found = beside.mean(units(results)), []
    sure_of = {
        d["against"]: f"; the student's minus this: {sure(d)}"
        for d in results["differences"]
        if (d["rate"], d["lang"]) == ("wer", MEAN)
    }
    for s in results["systems"]:
        if s["role"] == rounded.ROLE:
            rate = f"{several}WER {s['wer'][MEAN]:.1f} %"
            found.append(f"{s['name']}: {rounded.said(s)}. {rate}{sure_of.get(s['name'], '')}.")
    return found


def both_normalisers(results: Mapping) -> list[list[str]]:
    """Rows where openai-whisper's own normaliser gives other rates, their head `beside.HEAD`."""
    return [row for s in results["systems"] for row in beside.differing(s["name"], s)]


def difference_caption(results: Mapping) -> str:
    """What the table of differences shows, and what it does not speak for."""
    used, several = results["bootstrap"], beside.mean(units(results))
    few = f", or, of the mean, a language has fewer than {FEWEST}" if several else ""
    return (
        "The student minus each other system, in percentage points, with the "
        f"{100 * used['confidence']:.0f} % interval of a paired bootstrap "
        f"({used['draws']} draws, seed {used['seed']}) over speakers where a language has {FEWEST} "
        "or more, else over utterances. Not distinguishable: the interval holds zero, or fewer "
        f"than {FEWEST} of what is drawn differ{few}. Over utterances it speaks for more of the "
        "same speakers, not for other voices; over neither for a training with another seed"
    )


def difference_rows(results: Mapping) -> list[list[str]]:
    """Rows of the table of differences, its head being `DIFFERENCES`."""
    rows, shown = [], languages(results)
    for d in results["differences"]:
        if d["lang"] not in shown:
            continue
        interval = f"{signed(d['low'])} to {signed(d['high'])}"
        name = [d["against"], d["rate"].upper(), d["lang"]]
        counts = [str(d["utterances"]), str(d["differing"])]
        rows.append([*name, signed(d["points"]), interval, d["over"], *counts, d["verdict"]])
    return rows


def insertions(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of insertions a minute; no rows if no length is known."""
    systems = [s for s in results["systems"] if s["insertions_per_minute"]]
    shown = sorted({k for s in systems for k in s["insertions_per_minute"]} - {ALL})
    if len(shown) > 1:
        shown.insert(0, ALL)
    rows = [
        [s["name"], *(number(s["insertions_per_minute"].get(k), 2) for k in shown)] for s in systems
    ]
    return ["system", *shown], rows


def insertions_caption(results: Mapping) -> str:
    """What that table counts, and what its column `ALL` adds up."""
    unit = units(results)
    both = f"; {ALL}: both added up" if beside.mixed(unit) else ""
    return f"Inserted in a minute of audio: {beside.counted(unit)}{both}"


def title(utterance: Mapping) -> str:
    """An example's name and its errors."""
    errors, tokens, unit = (utterance[key] for key in ("errors", "tokens", "unit"))
    said = f"{_some(errors, 'error')} in {_some(tokens, unit)}"
    return f"{utterance['utt']} ({utterance['lang']}): {said}"


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def confused_rows(examples: Mapping) -> list[list[str]]:
    """Rows of the table of confused words and letters, its head being `CONFUSED`."""
    return [
        [x["said"] or NONE, x["heard"] or NONE, x["lang"], x["kind"], str(x["times"])]
        for x in examples["confusions"]
    ]


def examples_captions(results: Mapping) -> tuple[str, str]:
    """Of the utterances with most errors, and of what is confused most."""
    found = results["examples"]
    system, utterances, pairs = found["system"], found["utterances"], found["confusions"]
    each = " in each language" if len(units(results)) > 1 else ""
    counted = beside.counted(units(results))
    return (
        f"Utterances with most errors{each}, of {system} ({len(utterances)})",
        f"Confused most{each}, by {system}: {counted} ({len(pairs)})",
    )
