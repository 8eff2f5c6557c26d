"""A stand-in for the Hugging Face Hub on the loopback: just enough to list and download small files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Repositories = Mapping[str, tuple[str, Mapping[str, bytes]]]  # id -> (commit, path -> content)


@dataclass
class StandIn:
    url: str
    served: list[str] = field(default_factory=list)  # paths whose content was downloaded


@contextmanager
def serve(repositories: Repositories) -> Iterator[StandIn]:
    """Serve the repositories, each at its commit and at "main", while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path):
                self.describe(match[1], match[2], match[3] or "main")
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve(match[1], match[2], match[3])
            else:
                self.answer(404, b"{}")

        do_HEAD = do_GET  # noqa: N815

        def find(self, repo: str, revision: str) -> tuple[str, Mapping[str, bytes]] | None:
            if repo not in repositories:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return None
            commit, files = repositories[repo]
            if revision not in ("main", commit):
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return None
            return commit, files

        def describe(self, repo: str, kind: str | None, revision: str) -> None:
            if (found := self.find(repo, revision)) is None:
                return
            commit, files = found
            content: object = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            if kind == "tree":
                content = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            self.answer(200, json.dumps(content).encode())

        def resolve(self, repo: str, revision: str, name: str) -> None:
            if (found := self.find(repo, revision)) is None:
                return
            commit, files = found
            if name not in files:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            if self.command == "GET":
                stand_in.served.append(name)
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self.answer(200, files[name], {"ETag": etag, "X-Repo-Commit": commit})

        def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in = StandIn(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
