"""Interrupt the recipe (egs2/dq_whisper/asr1/run.sh) in every way, go on, and judge what comes out.

    .venv/bin/python -m benchmarks.faults --faults kill,rename --tries 30 --work FOLDER

Toys go through all 13 stages once undisturbed, then again and again with these faults in each
stage, until there are --tries of them. After each fault no file may be half-written and no finished
stage may have begun again; in the end scores, texts and every trained weight must be those of the
undisturbed run. Of a chain of faults a line for each stage that was hit goes to --out. What is in
there of the same commit, and in --work, counts: a killed harness goes on. If the recipe does not,
the try before has failed, and the harness stops, to go on when that is mended. The table of
`docs/reliability.md` is made of these lines by `python -m benchmarks.faults.table`.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from benchmarks.faults.chains import FAULTS, Chain, Try
from benchmarks.faults.recipe import STAGES, Place, Reference, make_toys
from benchmarks.faults.results import RESULTS, result
from espnet_dq.errors import InputError, run
from espnet_dq.files import write_text
from espnet_dq.recipe.description import commit

HAPPENED = "went on; "
REFUSED = "ended with a line that names the cause, then went on; "
SAME = {
    True: "scores, texts and weights are the undisturbed run's",
    False: "what these stages make is the undisturbed run's",
}


def main(argv: list[str] | None = None) -> int:
    """Run chains of faults until there are enough tries; 0 if all of them were ok."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--faults",
        type=lambda text: [name for name in FAULTS if name in text.split(",")],
        default=list(FAULTS),
        help=f"what happens in each stage: some of {','.join(FAULTS)} (default: all)",
    )
    parser.add_argument(
        "--last", type=int, choices=STAGES, default=13, help="go no further than this stage (13)"
    )
    parser.add_argument("--tries", type=int, default=30, help="how often at least (30)")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    work, name = args.work.resolve(), "-".join([*args.faults, str(args.last)])
    command = f"python -m benchmarks.faults --faults {','.join(args.faults)} --last {args.last}"
    command += " --work FOLDER"
    _same_commit(work / "commit")
    toys = make_toys(work / "toys")
    known = Reference(work, Place(work / "reference", toys))
    while (had := sum(line["tries"] for line in read(args.out, command))) < args.tries:
        number = len(list(work.glob(f"{name}-*.ended")))
        place = Place(work / f"{name}-{number}", toys)
        print(f"{name}: {had} of {args.tries} tries, chain {number}", flush=True)
        tries = Chain(place, known, args.faults, args.last).run()
        with open(args.out, "a", encoding="utf-8") as file:
            for line in lines(command, tries, args.last):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        place.folder.with_name(f"{place.folder.name}.ended").touch()
        if not tries:
            break
    return int(any(line["ok"] < line["tries"] for line in read(args.out, command)))


def lines(command: str, tries: list[Try], last: int) -> list[dict]:
    """The lines of results.jsonl for a chain, one for each fault and stage."""
    found = []
    for fault, stage in sorted({(t.fault, t.stage) for t in tries}):
        of = [t for t in tries if (t.fault, t.stage) == (fault, stage)]
        refused = fault in ("disk full", "read-only folder")
        happened = (REFUSED if refused else HAPPENED) + SAME[last >= 12]
        more = {
            "how": [t.how for t in of],
            "said": [line for line, _ in Counter(t.said for t in of if t.said).most_common(2)],
            "wrong": [w for t in of for w in t.wrong][:5],
        }
        ok = sum(not t.wrong for t in of)
        found.append(result(fault, stage, len(of), ok, command, happened, **more))
    return found


def read(path: Path, command: str) -> list[dict]:
    """The results of one command at this commit."""
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    now = _clean(commit())  # the lines themselves make a tree dirty
    return [x for x in found if (x["command"], _clean(x["commit"])) == (command, now)]


def _same_commit(kept: Path) -> None:
    """Refuse a folder with the undisturbed run, or a chain, of another commit."""
    now = _clean(commit())
    if not kept.exists():
        write_text(kept, f"{now}\n")
    elif (then := kept.read_text(encoding="utf-8").strip()) != now:
        raise InputError(f"--work {kept.parent}: begun at commit {then}, this is {now}")


def _clean(name: str) -> str:
    return name.removesuffix("-dirty")


if __name__ == "__main__":
    run(main)
