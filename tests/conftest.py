"""Shared fixtures: real weights and real clips (fetched once, cached), and toy models.

And what the markers mean: see CONTRIBUTING.md.
"""

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch

from espnet_dq.data.audio import to_wav
from espnet_dq.fetch.debian import Package
from espnet_dq.fetch.debian import fetch as fetch_package
from espnet_dq.fetch.weights import default_cache, fetch, package_files
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.write import write
from local.asterisk import SHA256, VERSION, read_texts
from tests import toys
from tests.room import pytest_collection_finish  # noqa: F401 - a hook

CLIPS = (
    ("en", "agent-incorrect"),
    ("en", "vm-goodbye"),
    ("es", "conf-onlyperson"),
    ("fr", "conf-onlyperson"),
    ("ru", "agent-incorrect"),
)

# A busy machine takes its time; how long tests take is measured elsewhere.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Started in the background or by nohup, pytest ignores these, and so would all that tests start.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

# Fixture -> the marker of each test that uses it, itself or through other fixtures.
MARKERS = {
    **dict.fromkeys(("weights_dir", "source_files", "real_texts", "real_clip"), "network"),
    "slurm": "slurm",
}
WARM = Path(__file__).with_name("warm")
NO_PROXY = "127.0.0.1,localhost,::1"
# For a test that is not marked `network`, and all that it starts: nowhere to keep what is fetched,
# and all servers but this machine's are behind a port at which nothing listens.
OFFLINE = {
    "ESPNET_DQ_CACHE": f"{os.devnull}/this test is not marked network",
    **{f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "ftp", "all")},
    **{f"{name}_PROXY": "http://127.0.0.1:9" for name in ("HTTP", "HTTPS", "FTP", "ALL")},
    "no_proxy": NO_PROXY,
    "NO_PROXY": NO_PROXY,
}
_offline = False


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in {MARKERS[x] for x in getattr(item, "fixturenames", ()) if x in MARKERS}:
            item.add_marker(name)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU here"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Garbage is looked for less often, and not among what was imported, which stays.

    That took a fifth of the time of most tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(wrapper=True)  # around the fixtures of every scope
def pytest_runtest_protocol(item: pytest.Item):
    global _offline
    _offline = item.get_closest_marker("network") is None
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items() if _offline else ():
            patch.setenv(name, value)
        result = yield
    _offline = False
    return result


def _refuse(event: str, args: tuple) -> None:
    """Let no test that is not marked `network` look up or connect to another machine."""
    if not _offline or event not in ("socket.connect", "socket.getaddrinfo"):
        return
    address = args[1] if event == "socket.connect" else args
    if isinstance(address, tuple) and address[0] not in (None, "", "127.0.0.1", "localhost", "::1"):
        raise RuntimeError(f"{event} {address[0]}: this test is not marked `network`")


sys.addaudithook(_refuse)


@pytest.fixture(scope="session")
def warm_server(tmp_path_factory, pytestconfig) -> Path:
    """Socket of a process that has imported torch and ESPnet and forks commands.

    Workers of pytest share it: who comes first starts it, and it ends with who has started them.
    """
    folder, run = tmp_path_factory.getbasetemp(), os.getpid()
    if hasattr(pytestconfig, "workerinput"):
        folder, run = folder.parent, os.getppid()
    path, server = folder / "warm", None
    with contextlib.suppress(FileExistsError):
        path.with_suffix(".started").touch(exist_ok=False)
        command = [sys.executable, "-P", str(WARM / "server.py"), str(path), str(run)]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline and (server is None or server.poll() is None)
        time.sleep(0.05)
    return path


@pytest.fixture
def warm(warm_server, monkeypatch) -> None:
    """Commands that the test starts begin with torch and ESPnet imported, see `tests/warm`."""
    monkeypatch.setenv("ESPNET_DQ_WARM", str(warm_server))
    monkeypatch.setenv("PYTHONPATH", str(WARM), prepend=os.pathsep)


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder with the real `tiny.pt` and `base.pt`."""
    folder = default_cache() / "pt"
    for model in ("tiny", "base"):
        fetch(model, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_in(weights_dir, tmp_path_factory):
    """Function: format -> the untouched tiny in it, a file or folder that nobody changes."""
    folder = tmp_path_factory.mktemp("tiny")

    @cache
    def write_in(form: str) -> Path:
        path = folder / (form if FORMATS[form].folder else f"{form}.bin")
        write(form, path, openai.load(weights_dir / "tiny.pt"), {}, "float16")
        return path

    return lambda form: weights_dir / "tiny.pt" if form == "openai" else write_in(form)


@pytest.fixture(scope="session")
def source_files() -> dict[str, Path]:
    """The files that tiny (ggml) and base (CTranslate2 folder) are converted from."""
    return {model: package_files(model) for model in ("tiny", "base")}


@pytest.fixture(scope="session")
def real_texts():
    """Function language -> {name of a prompt: text} of real prompts."""
    downloads = default_cache() / "debian"

    def texts(lang: str) -> dict[str, str]:
        package = f"asterisk-core-sounds-{lang}"
        folder = fetch_package(Package(package, VERSION, SHA256[lang][0]), downloads)
        return dict(read_texts(folder / f"usr/share/doc/{package}/core-sounds-{lang}.txt.gz"))

    return texts


@pytest.fixture(scope="session")
def real_clip(real_texts, tmp_path_factory):
    """Function (language, name of a prompt) -> (16 kHz wav, language, text)."""
    downloads, folder = default_cache() / "debian", tmp_path_factory.mktemp("clips")

    def clip(lang: str, name: str) -> tuple[Path, str, str]:
        package = f"asterisk-core-sounds-{lang}-g722"
        sounds = fetch_package(Package(package, VERSION, SHA256[lang][1]), downloads)
        (audio,) = (sounds / "usr/share/asterisk/sounds").glob(f"{lang}_*/{name}.g722")
        wav = folder / f"{lang}-{name}.wav"
        to_wav(audio, wav)
        return wav, lang, real_texts(lang)[name]

    return clip


@pytest.fixture(scope="session")
def clips(real_clip) -> list[tuple[Path, str, str]]:
    """(16 kHz wav, language, text) of five real prompts."""
    return [real_clip(lang, name) for lang, name in CLIPS]


@pytest.fixture
def full_disk():
    """Context manager in which no file gets larger than 16 KiB, as if the disk were full then."""

    @contextlib.contextmanager
    def limit() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def make_toy():
    """Function, arguments of `toys.make_model` -> random Whisper in eval mode."""
    return toys.make_model


@pytest.fixture(scope="session")
def save_toy(tmp_path_factory):
    """Function, arguments as of `make_toy` -> `.pt` that openai-whisper loads."""

    def save(seed: int = 0, state: int = 64, layers: int = 2, **more: int) -> Path:
        path = tmp_path_factory.mktemp("toy") / f"toy{seed}_{state}_{layers}.pt"
        return toys.save_model(path, toys.make_model(seed, state, layers, **more))

    return save


@pytest.fixture(scope="session")
def trim(tmp_path_factory):
    """Function (`.pt`, texts) -> path of the same model with the tokens of these texts."""
    from espnet_dq.bin.trim_vocabulary import main

    def trimmed(path: Path, texts: list[str]) -> Path:
        folder = tmp_path_factory.mktemp("trimmed")
        (folder / "words").write_text("\n".join(texts), encoding="utf-8")
        out = folder / path.name
        assert main(["--from", str(path), "--words", str(folder / "words"), "--out", str(out)]) == 0
        return out

    return trimmed
