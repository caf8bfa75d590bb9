"""Small builders of HTML; all text that comes in is escaped here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

CSS = """
:root { color-scheme: light; --ink: #1b1b1f; --soft: #5a5a66; --line: #dcdce2; --mark: #eaf5f1; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.25rem 3rem; background: #fff;
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .6rem 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { max-width: 46rem; margin: .5rem 0; }
.soft, caption, figcaption { color: var(--soft); font-size: .875rem; }
.facts { display: grid; gap: .75rem; margin: 1.2rem 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); list-style: none; }
.facts li { border: 1px solid var(--line); border-left: 4px solid var(--soft);
  border-radius: 6px; padding: .6rem .8rem; font-size: .9rem; overflow-wrap: anywhere; }
.facts .good { border-left-color: #009e73; } .facts .bad { border-left-color: #d55e00; }
.facts b { display: block; font-size: 1.65rem; line-height: 1.2; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: separate; border-spacing: 0; min-width: min(24rem, 100%);
  font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding: 0 0 .3rem; max-width: 46rem; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, .text { text-align: left; }
td.long { white-space: normal; }
th:first-child { position: sticky; left: 0; background: #fff; max-width: 45vw; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
tr.mark, tr.mark th { background: var(--mark); font-weight: 600; }
.side { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.side > * { min-width: 0; }
.aligned { display: flex; flex-wrap: wrap; gap: .2rem .45rem; margin: .2rem 0 1rem; }
.aligned span { display: grid; min-width: .6rem; font-size: .9rem; line-height: 1.35;
  max-width: 100%; overflow-wrap: anywhere; }
.aligned .wrong { background: #fbe9dd; border-radius: 3px; padding: 0 .2rem; }
.aligned i { font-style: normal; color: var(--soft); } .aligned .wrong i { color: var(--ink); }
figure { margin: .8rem 0; max-width: 34rem; }
svg { width: 100%; height: auto; }
summary { cursor: pointer; font-size: .9rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  body { padding: .5rem .75rem 2rem; } caption { max-width: calc(100vw - 2rem); }
  table { font-size: .8rem; } th, td { padding: .3rem .35rem; } .side { display: block; }
  thead th { white-space: normal; } tbody th { white-space: normal; }
  dl { display: block; } dd { margin: 0 0 .5rem; }
}
@media print {
  body { max-width: none; font-size: 10pt; } .scroll { overflow: visible; }
  figure { max-width: 26rem; } figure, table, .facts li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  tr.mark, .facts li { print-color-adjust: exact; }
}
"""

_TEXT = ' class="text"'
_LINE = 24  # characters of a cell that stay on one line


def text(value: object) -> str:
    """Any value as escaped text."""
    return escape(str(value))


def paragraph(value: str, soft: bool = False) -> str:
    """A paragraph of escaped text."""
    return f'<p class="soft">{text(value)}</p>' if soft else f"<p>{text(value)}</p>"


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    mark: str | None = None,
    prose: Sequence[int] = (),
) -> str:
    """A table whose first column names the row.

    Args:
        mark: the name of the row to set off.
        prose: columns that hold words, not numbers.
    """
    heads = "".join(
        f'<th scope="col"{_TEXT if k in prose else ""}>{text(h)}</th>' for k, h in enumerate(head)
    )
    body = []
    for name, *cells in rows:
        tds = "".join(_cell(c, k in prose) for k, c in enumerate(cells, 1))
        kind = ' class="mark"' if mark is not None and name == mark else ""
        body.append(f'<tr{kind}><th scope="row">{text(name)}</th>{tds}</tr>')
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: object, prose: bool) -> str:
    kind = "text long" if len(str(value)) > _LINE else "text"
    return f'<td class="{kind}">{text(value)}</td>' if prose else f"<td>{text(value)}</td>"


def figure(svg: str, caption: str) -> str:
    """A picture with its caption; `svg` comes from `plots` and is trusted."""
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def section(title: str, *parts: str) -> str:
    """A titled section of ready parts."""
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>"


def details(summary: str, *parts: str) -> str:
    """Parts that are folded away until a reader asks for them."""
    return f"<details><summary>{text(summary)}</summary>{''.join(parts)}</details>"


def side(*parts: str) -> str:
    """Parts beside one another where there is room."""
    return f'<div class="side">{"".join(f"<div>{p}</div>" for p in parts)}</div>'


def aligned(columns: Iterable[tuple[str | None, str | None]]) -> str:
    """Two lines of words, one over the other; those that differ set off."""
    cells = []
    for above, below in columns:
        kind = "" if above == below else ' class="wrong"'
        cells.append(f"<span{kind}><b>{text(above or '–')}</b><i>{text(below or '–')}</i></span>")
    return f'<div class="aligned" dir="auto">{"".join(cells)}</div>'


def definitions(entries: Mapping[str, object]) -> str:
    """Names and values in two columns."""
    rows = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in entries.items())
    return f"<dl>{rows}</dl>"


def page(title: str, body: str) -> str:
    """A whole HTML document: one file that fetches nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{CSS}</style></head>\n<body>{body}</body></html>\n"
    )
