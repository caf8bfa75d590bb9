"""Uploading a folder to a hub on a local port, by huggingface_hub itself, in its own process."""

import socket
import subprocess
import sys

import pytest

from espnet_dq.errors import InputError
from espnet_dq.report.hub import check_upload
from tests.report.fake_hub import LARGE, Hub, environment

SCRIPT = """
import sys
from pathlib import Path
from espnet_dq.errors import run
from espnet_dq.report.hub import check_upload, upload

def main():
    check_upload([sys.argv[2]])
    print(upload(Path(sys.argv[1]), sys.argv[2]))

run(main)
"""


@pytest.fixture
def folder(tmp_path):
    """Small and large files, one of them in a folder."""
    content = {
        "README.md": b"---\nlanguage: [en]\n---\n# A model\n",
        "model.bin": bytes(range(256)) * (LARGE // 256 + 1),
        "onnx/empty.txt": b"",
    }
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    return tmp_path / "folder", content


def call(folder, repository, env):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), repository],
        env=env,
        capture_output=True,
        text=True,
    )


def last_line(done):
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_all_bytes_arrive_in_a_private_repository(folder, tmp_path):
    path, content = folder
    with Hub() as hub:
        done = call(path, "me/model-ct2", hub.env(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.url}/me/model-ct2\n"
    assert hub.files == {"me/model-ct2": content}
    assert hub.private == {"me/model-ct2": True}


@pytest.mark.slow
def test_an_existing_repository_keeps_its_visibility_and_other_files(folder, tmp_path):
    path, content = folder
    with Hub() as hub:
        hub.files["me/model"], hub.private["me/model"] = {"LICENSE": b"MIT"}, False
        done = call(path, "me/model", hub.env(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert hub.files == {"me/model": {"LICENSE": b"MIT", **content}}
    assert hub.private == {"me/model": False}


@pytest.mark.slow
def test_without_network(folder, tmp_path):
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = call(folder[0], "me/model", environment(tmp_path / "home", url, "hf_x"))
    assert done.returncode == 1
    line = last_line(done)
    assert f"{folder[0]}: not uploaded to {url}/me/model: " in line and "refused" in line


@pytest.mark.slow
def test_a_token_that_the_hub_refuses(folder, tmp_path):
    with Hub() as hub:
        done = call(folder[0], "me/model", hub.env(tmp_path / "home", "hf_wrong"))
    assert done.returncode == 1 and not hub.files
    assert "not uploaded" in last_line(done) and "401" in last_line(done)


@pytest.mark.slow
def test_without_a_token(folder, tmp_path):
    with Hub() as hub:
        done = call(folder[0], "me/model", hub.env(tmp_path / "home", None))
    assert done.returncode == 2 and not hub.requests
    assert "no Hugging Face token: set HF_TOKEN" in last_line(done)


@pytest.mark.parametrize("name", ["model", "a/b/c", "me/", "me/x y", "me/-x", "me/" + "x" * 97])
def test_names_of_no_repository(name):
    with pytest.raises(InputError, match=f"{name}: no name of a repository"):
        check_upload([name])
