"""report.html in a browser, 400 pixels wide: tables scroll in boxes of their own, the page not."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from espnet_dq.report import collect, html
from tests.report import made_up

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
WIDTH = 400
LONG = "decoder/layer_0/" + "attention_of_the_encoder_s_output" * 2  # no place to break
# A window is never so narrow; a frame is. What reaches out of it, but for what a box scrolls:
MEASURE = f"""<body><iframe id=f src=report.html style="width:{WIDTH}px;height:900px;border:0">
</iframe><pre id=out></pre><script>onload = () => {{
  const page = document.getElementById('f').contentDocument;
  page.querySelectorAll('details').forEach(each => each.open = true);
  const out = [...page.querySelectorAll('body *')].filter(each => !each.parentElement.closest(
    '.scroll, svg') && each.getBoundingClientRect().right > {WIDTH});
  const cut = [...page.querySelectorAll('.scroll')].filter(each => each.scrollWidth >
    each.clientWidth && page.defaultView.getComputedStyle(each).overflowX != 'auto');
  document.getElementById('out').textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth, out: out.map(each => each.outerHTML.slice(0, 99)),
    cut: cut.length, tables: page.querySelectorAll('table').length}}); }}</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize("languages", [["ru"], [*made_up.SENTENCES]], ids=len)
def test_nothing_is_wider_than_a_phone(tmp_path, languages):
    exp = collect.load(made_up.build(tmp_path, languages=languages))
    for row in exp.verify["rows"]:
        row["name"] = LONG + row["name"]
    exp.verify["rows"][0]["integers"] = 3
    exp.results["examples"]["utterances"][0]["said"][0] = LONG
    exp.results["data_name"] = exp.run["command"] = exp.run["commit"] = LONG
    exp.decodes["student-torch"]["failed"] = {LONG: LONG}
    (tmp_path / "report.html").write_text(html.render(exp), encoding="utf-8")
    (tmp_path / "frame.html").write_text(MEASURE, encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu",
         "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"<pre[^>]*>(.*)</pre>", done.stdout)
    assert found, done.stderr[-2000:]
    said = json.loads(unescape(found[1]))
    assert said.pop("tables") > 12
    assert said == {"width": WIDTH, "out": [], "cut": 0}
