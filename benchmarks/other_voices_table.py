"""What the students of `other_voices.py` make of each set: errors and nats, by the untouched one's.

Each --lines file must have a run `untouched`. Columns "SET LANGUAGE" are averaged over a set's
languages; which of the sets a run was trained on, its name and the plan say. Of columns in which
untouched makes errors in more than 80 % of the words, characters count. One line a student, without
its texts, is appended to --out.

    .venv/bin/python benchmarks/other_voices_table.py --lines /tmp/other_voices.jsonl \\
        --eval /tmp/transfer/canary --plan other_voices --out benchmarks/results/other_voices.jsonl
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from espnet_dq.data.canary import NO_SPEECH
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.data.spelling import compared
from espnet_dq.errors import InputError, run
from espnet_dq.report.markdown import table
from espnet_dq.scoring.score import Utterance
from espnet_dq.scoring.transfer import HARD
from espnet_dq.scoring.utterances import align_texts


def examine(line: dict, data: KaldiDir, first: dict | None) -> dict[str, dict]:
    """ "SET LANGUAGE" -> nats a token, error rate in percent and whether of characters."""
    columns = defaultdict(list)
    for utt in line["said"]:
        if data.extra[KIND][utt] != NO_SPEECH:
            columns[f"{data.extra[SET][utt]} {data.utt2lang[utt]}"].append(utt)
    found = {}
    for column, utts in sorted(columns.items()):
        pairs = [Utterance.of(u, data.utt2lang[u], data.text[u], line["said"][u]) for u in utts]
        rates = {}
        for chars in (False, True):
            aligned = align_texts(pairs, chars=chars).values()
            rates[chars] = 100 * sum(x.errors for x in aligned) / sum(x.tokens for x in aligned)
        chars = first[column]["chars"] if first else rates[False] > HARD
        tokens, nats = (sum(line["nats"][u][i] for u in utts) for i in (0, 1))
        found[column] = {"nats": round(nats / tokens, 4), "rate": round(rates[chars], 2)}
        found[column]["chars"] = chars
    return found


def nobody(line: dict, data: KaldiDir) -> float:
    """Words that are said where nobody speaks, in one of its windows."""
    utts = [u for u in line["said"] if data.extra[KIND][u] == NO_SPEECH]
    return fmean(len(compared(line["said"][u], data.utt2lang[u])) for u in utts)


def main(argv: list[str] | None = None) -> int:
    """Print the table, and append the lines; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--lines", type=Path, required=True, help="of other_voices.py")
    add("--eval", type=Path, required=True, help="the canary's folder")
    add("--plan", required=True, help="its name, for the lines")
    add("--out", type=Path, required=True, help="JSON lines, appended to")
    args = parser.parse_args(argv)
    data = KaldiDir.load(args.eval, extra=[KIND, SET])
    lines = [json.loads(x) for x in args.lines.read_text(encoding="utf-8").splitlines()]
    untouched = [x for x in lines if x["run"] == "untouched"]
    if not untouched:
        raise InputError(f"{args.lines}: no run 'untouched'")
    first = examine(untouched[0], data, None)
    sets = sorted({column.split()[0] for column in first})
    rows = []
    with open(args.out, "a", encoding="utf-8") as out:
        for line in lines:
            of = examine(line, data, first)
            kept = {k: line[k] for k in ("run", "seed", "stage", "share", "date")}
            kept |= {"plan": args.plan, "columns": of, "words": round(nobody(line, data), 2)}
            out.write(json.dumps(kept) + "\n")
            cells = []
            for name in sets:
                mine = [c for c in of if c.split()[0] == name]
                ratio = fmean(of[c]["rate"] / first[c]["rate"] for c in mine)
                more = fmean(of[c]["nats"] - first[c]["nats"] for c in mine)
                cells.append(f"{ratio:.2f} ({more:+.3f})")
            rows.append([line["run"], line["seed"], line["stage"], f"{line['share']:g}", *cells])
    print(table(["run", "seed", "stage", "share", *sets], [[str(x) for x in r] for r in rows]))
    return 0


if __name__ == "__main__":
    run(main)
