"""A Hugging Face Hub of a few endpoints, on a local port: what huggingface_hub asks for.

To upload: small files come within the commit, as base64; large ones through git LFS. To download: a
listing of a revision, and files.
"""

import base64
import hashlib
import json
import os
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.loopback import serve

TOKEN = "hf_of_the_test"
WEIGHTS = (".safetensors", ".bin", ".onnx")  # come through git LFS
LARGE = 10_000_000  # bytes from which the Hub wants a file by LFS


class Hub:
    """Repositories: `files` by name, `private` as asked for at their creation.

    `USER/NAME@REVISION` is another revision than main; `requests` are the paths asked for.

    Example usage::

        with Hub() as hub:
            subprocess.run(command, env=hub.env(tmp_path))
        assert hub.files["me/model"]["README.md"] == b"..."
    """

    def __init__(self):
        self.files, self.private, self.blobs, self.requests = {}, {}, {}, []
        self.damage = lambda name, data: data  # on its way

    def __enter__(self):
        self._server = serve(type("Bound", (_Handler,), {"hub": self}))
        self.url = self._server.__enter__()
        return self

    def __exit__(self, *error):
        return self._server.__exit__(*error)

    def env(self, home, token=TOKEN):
        """Environment in which the library knows this hub only, and its token."""
        return environment(home, self.url, token)


def commit_of(name):
    return hashlib.sha1(name.encode()).hexdigest()


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def environment(home, url, token):
    """An environment with this hub and token, and no trace of the user's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    ours = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    return kept | ours | ({"HF_TOKEN": token} if token else {})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, content, status=200, headers=None):
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self.about(found[1], found[2] or "main")
        if found := re.fullmatch(r"/api/models/[^/]+/[^/]+/tree/([0-9a-f]{40})", path):
            files = [
                {"type": "file", "path": name, "size": len(data), "oid": git_hash(data)}
                | ({"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 130}}
                   if name.endswith(WEIGHTS) else {})
                for name, data in self.of(found[1]).items()
            ]  # fmt: skip
            return self.reply(files)
        if found := re.fullmatch(r"/[^/]+/[^/]+/resolve/([0-9a-f]{40})/(.+)", path):
            return self.send(found[1], found[2])
        self.reply({"error": "Not found"}, 404)

    def of(self, commit):
        """The files of a commit."""
        return next(files for name, files in self.hub.files.items() if commit_of(name) == commit)

    def about(self, repository, revision):
        if repository not in self.hub.files:
            return self.reply({"error": "no"}, 404, {"X-Error-Code": "RepoNotFound"})
        name = repository if revision == "main" else f"{repository}@{revision}"
        if name not in self.hub.files:
            return self.reply({"error": "no"}, 404, {"X-Error-Code": "RevisionNotFound"})
        self.reply({"id": repository, "sha": commit_of(name), "siblings": []})

    def send(self, commit, name):
        data = self.of(commit)[name]
        etag = sha256(data) if name.endswith(WEIGHTS) else git_hash(data)
        self.send_response(200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.hub.damage(name, data))

    def do_PUT(self):
        data = self.body()
        self.hub.blobs[hashlib.sha256(data).hexdigest()] = data
        self.reply({})

    def do_POST(self):
        data, path = self.body(), self.path
        self.hub.requests.append(path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply({"error": "Invalid username or password."}, 401)
        if path.endswith("/commit/main"):
            return self.commit("/".join(path.split("/")[3:5]), data)
        asked = json.loads(data)
        if path == "/api/repos/create":
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.hub.files
            self.hub.files.setdefault(name, {})
            self.hub.private.setdefault(name, asked.get("visibility") == "private")
            return self.reply({"url": f"{self.hub.url}/{name}"}, 409 if known else 200)
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in asked["files"]
            ]
            return self.reply({"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                file | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{file['oid']}"}}}
                for file in asked["objects"]
            ]
            return self.reply({"transfer": "basic", "objects": objects})
        return self.reply({"error": f"{path} is not known here"}, 404)

    def commit(self, repository, data):
        for line in data.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                content = base64.b64decode(value["content"])
                self.hub.files[repository][value["path"]] = content
            elif entry["key"] == "lfsFile":
                self.hub.files[repository][value["path"]] = self.hub.blobs[value["oid"]]
        commit = "0" * 40
        url = f"{self.hub.url}/{repository}/commit/{commit}"
        self.reply({"commitUrl": url, "commitOid": commit})
