"""A Hugging Face Hub of a few endpoints, on a local port: what huggingface_hub asks for to upload.

Small files come within the commit, as base64; large ones through git LFS.
"""

import base64
import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler

from tests.loopback import serve

TOKEN = "hf_of_the_test"
LARGE = 10_000_000  # bytes from which the Hub wants a file by LFS


class Hub:
    """Repositories that arrived: `files` by name, `private` as asked for at their creation.

    Example usage::

        with Hub() as hub:
            subprocess.run(command, env=hub.env(tmp_path))
        assert hub.files["me/model"]["README.md"] == b"..."
    """

    def __init__(self):
        self.files, self.private, self.blobs, self.requests = {}, {}, {}, []

    def __enter__(self):
        self._server = serve(type("Bound", (_Handler,), {"hub": self}))
        self.url = self._server.__enter__()
        return self

    def __exit__(self, *error):
        return self._server.__exit__(*error)

    def env(self, home, token=TOKEN):
        """Environment in which the library knows this hub only, and its token."""
        return environment(home, self.url, token)


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

    def reply(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply({"error": "Not found"}, 404)

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
