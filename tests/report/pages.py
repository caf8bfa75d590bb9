"""What a report shows, read back from its files."""

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects what a browser would show or fetch; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.tables = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k.split(":")[-1] in ("src", "href", "srcset", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The first table whose head begins so, as {row name: {column: cell}}."""
        for first, *rows in self.tables:
            if first[: len(head)] == list(head):
                return {r[0]: dict(zip(first[1:], r[1:], strict=True)) for r in rows}
        raise AssertionError(f"no table {head}")


def numbers(text):
    """The tables of Markdown: head -> rows, without the lines under the heads."""
    found, head = {}, None
    for line in text.splitlines():
        cells = tuple(line.strip("|").split("|")) if line.startswith("|") else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
            found.setdefault(head, [])
        elif set(cells) != {"---"}:
            found[head].append(cells)
    return found
