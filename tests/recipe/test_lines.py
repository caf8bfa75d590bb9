"""Lines of results of the benchmarks."""

import json

import lines
from lines import Lines


def test_what_is_added_is_there(tmp_path, monkeypatch):
    """With date and commit, the one of the beginning; whatever characters a text has."""
    commits = iter(["clean", "clean-dirty"])
    monkeypatch.setattr(lines, "commit", lambda: next(commits))
    path = tmp_path / "results/here.jsonl"
    results = Lines(path)
    assert results.read() == [] and results.known(("text",)) == set()
    for text in ("one", "a\u2028b\x85c"):  # what `splitlines` takes for ends of lines
        added = results.add({"text": text})
        assert added == {"text": text, "date": added["date"], "commit": "clean"}
    assert [line["text"] for line in results.read()] == ["one", "a\u2028b\x85c"]
    assert results.known(("text", "seed")) == {("one", None), ("a\u2028b\x85c", None)}
    assert [json.loads(x) for x in path.read_text().split("\n")[:-1]] == results.read()
