"""A Hugging Face Hub over real HTTP on 127.0.0.1: what huggingface_hub asks of it to send a dataset.

Large files come by the LFS protocol: clients are started with HF_HUB_DISABLE_XET=1.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_right"


@dataclass
class Hub:
    """The state of the server. Users are alice, who owns the token, and bob."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)  # name -> path -> content
    created: list[dict[str, Any]] = field(default_factory=list)  # bodies of the requests
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS, by SHA-256
    refuses_objects: bool = False  # large files, as a full disk would


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a server in a thread."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, code: int, body: object = None, error: str | None = None) -> None:
            data = json.dumps(body or {}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def is_known(self) -> bool:
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if not known:
                self.answer(401, {"error": "Invalid credentials in Authorization header"})
            return known

        def do_GET(self) -> None:
            if not self.is_known():
                return
            if self.path == "/api/whoami-v2":
                self.answer(200, {"name": "alice", "type": "user"})
                return
            name = "/".join(self.path.removeprefix("/api/datasets/").split("?")[0].split("/")[:2])
            if name not in hub.repositories:
                self.answer(404, {"error": "Repository not found"}, "RepoNotFound")
            elif "/tree/" in self.path:
                found = hub.repositories[name].items()
                self.answer(200, [{"type": "file", "path": p, "size": len(d), "oid": "0"} for p, d in found])
            else:
                files = [{"rfilename": path} for path in hub.repositories[name]]
                self.answer(200, {"id": name, "siblings": files, "tags": [], "sha": "0" * 40})

        def do_POST(self) -> None:
            data = self.body()
            if not self.is_known():
                return
            if self.path == "/api/repos/create":
                asked = json.loads(data)
                name = f"{asked.get('organization') or 'alice'}/{asked['name']}"
                if not name.startswith("alice/"):
                    self.answer(403, {"error": "You don't have the rights to create a dataset under bob"})
                    return
                if name in hub.repositories:
                    self.answer(409, {"error": "You already created this repo", "url": f"{hub.url}/{name}"})
                    return
                hub.created.append(asked)
                hub.repositories[name] = {".gitattributes": b"*.parquet filter=lfs\n"}
                self.answer(200, {"url": f"{hub.url}/datasets/{name}", "id": "1", "name": name})
            elif self.path == "/api/validate-yaml":
                head = json.loads(data)["content"].split("---")[1]
                is_right = isinstance(yaml.safe_load(head), dict)
                self.answer(200 if is_right else 400, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                self.answer(200, {"files": [self.mode_of(each) for each in json.loads(data)["files"]]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                found = json.loads(data)["objects"]
                places = [{**each, "actions": self.place_of(each)} for each in found]
                self.answer(200, {"transfer": "basic", "objects": places})
            elif "/commit/" in self.path:
                name = "/".join(self.path.removeprefix("/api/datasets/").split("/")[:2])
                for line in data.splitlines():
                    self.commit(hub.repositories[name], json.loads(line))
                url = f"{hub.url}/datasets/{name}/commit/1"
                self.answer(200, {"commitOid": "1" * 40, "commitUrl": url, "hookOutput": "", "success": True})
            else:
                self.answer(404)

        def mode_of(self, file: dict[str, Any]) -> dict[str, Any]:
            mode = "lfs" if file["path"].endswith(".parquet") else "regular"
            return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

        def place_of(self, file: dict[str, Any]) -> dict[str, Any]:
            return {"upload": {"href": f"{hub.url}/objects/{file['oid']}", "header": {}}}

        def commit(self, repository: dict[str, bytes], line: dict[str, Any]) -> None:
            value = line["value"]
            if line["key"] == "file":
                repository[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository[value["path"]] = hub.objects[value["oid"]]

        def do_PUT(self) -> None:
            if hub.refuses_objects:
                self.body()
                self.answer(507, {"error": "out of storage"})
                return
            hub.objects[self.path.rpartition("/")[2]] = self.body()
            self.answer(200)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
