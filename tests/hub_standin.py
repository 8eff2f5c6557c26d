"""A stand-in for the Hugging Face Hub on the loopback, for the real huggingface_hub client.

It speaks what the client asks for when it downloads and publishes: repository, tree and file requests, tokens,
private and gated repositories, creating repositories, commits, and Git LFS (a redirect to another host on the way
down, the batch API with single and multi-part uploads on the way up) for files from `LFS_FROM` bytes on.
It does not speak Xet, which the real Hub prefers: clients are run with HF_HUB_DISABLE_XET=1, and Xet is not tested,
but for what happens when its server is out of reach.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import yaml

Files = Mapping[str, bytes]  # path -> content
Repositories = Mapping[str, tuple[str, Files]]  # id -> (commit, files)
Delivery = Callable[[bytes], Iterable[bytes]]  # what is sent for a file's content; the connection is cut after it

LFS_FROM = 1_000_000  # bytes; the Hub decides by size and by kind of file
PART = 5_000_000  # bytes of a part; smaller files are uploaded whole


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]]  # sha -> files; the last one is "main"
    private: bool = False
    gated: bool = False
    variables: dict[str, str] = field(default_factory=dict)  # of a Space

    @property
    def main(self) -> str:
        return list(self.commits)[-1]


@dataclass
class StandIn:
    url: str
    repos: dict[str, Repo]  # "owner/name", "spaces/owner/name"
    tokens: dict[str, str]  # token -> "read" or "write"
    requests: list[str] = field(default_factory=list)  # "HEAD /some/model/resolve/main/manifest.json"
    served: list[str] = field(default_factory=list)  # paths whose content was downloaded
    deliver: dict[str, Delivery] = field(default_factory=dict)  # path -> how its content is sent
    receive: Callable[[str], int] = lambda path: 200  # status of an upload to the large-file store
    commits_fail: str = ""  # the repository that takes no commits today
    xet: str = ""  # where a Xet server is said to be, for clients that would rather ask that
    store: dict[str, bytes] = field(default_factory=dict)  # the large-file store: sha256 -> content

    @property
    def cdn(self) -> str:
        """Large files come from another host than the Hub, and without its token."""
        return self.url.replace("127.0.0.1", "localhost")


def client_settings(url: str, home: Path) -> dict[str, str]:
    """The whole environment of a program that takes the stand-in for the Hub and keeps its cache in `home`."""
    return {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PATH": ""}


def files_of(folder: Path) -> dict[str, bytes]:
    """Path in a folder -> content, as a repository holds it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut_at_half(content: bytes) -> Iterable[bytes]:
    return [content[: len(content) // 2]]


def flipped(content: bytes) -> Iterable[bytes]:
    return [content[:-1], bytes([content[-1] ^ 1])]


class Stall:
    """Sends four fifths of a file, and the rest only when it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, content: bytes) -> Iterable[bytes]:
        yield content[: len(content) * 4 // 5]
        self.reached.set()
        self.go.wait(60)
        yield content[len(content) * 4 // 5 :]


@contextmanager
def serve(repositories: Repositories | None = None, tokens: Mapping[str, str] | None = None) -> Iterator[StandIn]:
    """Serve the repositories, each at its commit and at "main", while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    repos = {name: Repo({commit: dict(files)}) for name, (commit, files) in (repositories or {}).items()}
    server.hub = StandIn(f"http://127.0.0.1:{server.server_port}", repos, dict(tokens or {}))  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}


REPO = r"((?:spaces/)?[^/]+/[^/]+)"
API = r"/api/(models|spaces)/([^/]+/[^/]+)"
ROUTES = [
    ("GET", API + r"(?:/revision/([^/]+))?", "info"),
    ("GET", API + r"/tree/([^/]+)(?:/(.+))?", "tree"),
    ("GET", f"/{REPO}/resolve/([^/]+)/(.+)", "resolve"),
    ("GET", r"/cdn/([0-9a-f]+)/(.+)", "send_large"),
    ("GET", r"/api/xet-token", "xet_token"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", API + r"/preupload/main", "preupload"),
    ("POST", API + r"/commit/main", "commit"),
    ("POST", API + r"/variables", "variables"),
    ("POST", f"/{REPO}\\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/store/([0-9a-f]+)(?:/(\d+))?", "receive_large"),
    ("POST", r"/complete/([0-9a-f]+)/(\d+)", "complete"),
]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.hub: StandIn = self.server.hub  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            return  # the client is gone
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for verb, pattern, action in ROUTES:
                if verb == method and (match := re.fullmatch(pattern, path)):
                    getattr(self, action)(*match.groups())
                    return
            self.answer(404, {})
        except RefusedError as refusal:
            self.answer(refusal.status, {"error": refusal.headers["X-Error-Message"]}, refusal.headers)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    # --- who asks, and for what ----------------------------------------------------------------------------------

    def role(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise RefusedError(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def writable(self, kind: str, name: str) -> Repo:
        self.may_write()
        return self.find(name if kind == "models" else f"spaces/{name}")

    def may_write(self) -> None:
        role = self.role()
        if role != "write":
            raise RefusedError(403 if role else 401, message="You don't have the rights to do this" if role else "")

    def find(self, repo: str) -> Repo:
        role = self.role()
        if repo not in self.hub.repos or (self.hub.repos[repo].private and role is None):
            raise RefusedError(404 if role else 401, "RepoNotFound")
        return self.hub.repos[repo]

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self.find(repo)
        commit = found.main if revision == "main" else revision
        if commit not in found.commits:
            raise RefusedError(404, "RevisionNotFound")
        return commit, found.commits[commit]

    # --- downloads -----------------------------------------------------------------------------------------------

    def info(self, kind: str, name: str, revision: str | None) -> None:
        repo = name if kind == "models" else f"spaces/{name}"
        commit, files = self.files(repo, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        self.answer(200, {"id": name, "sha": commit, "siblings": siblings, "private": self.hub.repos[repo].private})

    def tree(self, kind: str, name: str, revision: str, folder: str | None) -> None:
        """Always recursive."""
        _, files = self.files(name if kind == "models" else f"spaces/{name}", revision)
        below = f"{unquote(folder)}/" if folder else ""
        files = {path: data for path, data in files.items() if path.startswith(below)}
        if not files:
            raise RefusedError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        parents = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": path, "size": 0, "oid": git_hash(path.encode())}
            for path in sorted(parents)
            if path.startswith(below)
        ]
        for path, data in files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if is_large(data):
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        self.answer(200, entries)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        commit, files = self.files(repo, revision)
        if self.hub.repos[repo].gated:
            raise RefusedError(403, "GatedRepo", "Access to this model is restricted")
        headers = {"X-Repo-Commit": commit}
        if path not in files:
            self.answer(404, {}, headers | {"X-Error-Code": "EntryNotFound"})
        elif is_large(data := files[path]):
            oid = self.keep(data)
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
            if self.hub.xet:
                headers |= {"X-Xet-Hash": oid, "X-Xet-Refresh-Route": f"{self.hub.url}/api/xet-token"}
            self.answer(302, {}, headers | {"Location": f"{self.hub.cdn}/cdn/{oid}/{path}"})
        else:
            self.send_file(path, data, headers | {"ETag": f'"{git_hash(data)}"'})

    def send_large(self, oid: str, path: str) -> None:
        if "Authorization" in self.headers:
            raise RefusedError(400, message="Only one auth mechanism allowed")  # the link is signed
        self.send_file(path, self.hub.store[oid], {"ETag": f'"{oid}"'})

    def send_file(self, path: str, data: bytes, headers: Mapping[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        if match:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self.start(206 if match else 200, len(data) - start, headers)
        if self.command == "GET":
            self.hub.served.append(path)
            for chunk in self.hub.deliver.get(path, lambda content: [content])(data[start:]):
                try:
                    self.wfile.write(chunk)
                except OSError:
                    return  # the client is gone

    def xet_token(self) -> None:
        headers = {"X-Xet-Cas-Url": self.hub.xet, "X-Xet-Access-Token": "token"}
        self.answer(200, {}, headers | {"X-Xet-Token-Expiration": "9999999999"})

    # --- uploads -------------------------------------------------------------------------------------------------

    def create(self) -> None:
        self.may_write()
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        repo = name if asked.get("type", "model") == "model" else f"spaces/{name}"
        if repo in self.hub.repos:
            self.answer(409, {"url": f"{self.hub.url}/{repo}"})
            return
        first = {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}
        self.hub.repos[repo] = Repo({commit_id(first): first}, private=asked.get("visibility") == "private")
        self.answer(200, {"url": f"{self.hub.url}/{repo}"})

    def validate(self) -> None:
        header = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        if header is None or not isinstance(yaml.safe_load(header[1]), dict):
            self.answer(400, {"errors": [{"message": "no metadata"}], "warnings": []})
            return
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, kind: str, name: str) -> None:
        repo = self.writable(kind, name)
        files = repo.commits[repo.main]
        answers = []
        for asked in json.loads(self.body)["files"]:
            large = asked["size"] >= LFS_FROM
            entry = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if (data := files.get(asked["path"])) is not None:
                entry["oid"] = sha256(data) if is_large(data) else git_hash(data)
            answers.append(entry)
        self.answer(200, {"files": answers})

    def batch(self, repo: str) -> None:
        self.may_write()
        self.find(repo)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            oid, size = asked["oid"], asked["size"]
            entry = {"oid": oid, "size": size}
            url = f"{self.hub.cdn}/store/{oid}"
            if oid not in self.hub.store and size <= PART:
                entry["actions"] = {"upload": {"href": url}}
            elif oid not in self.hub.store:
                parts = -(-size // PART)
                header = {"chunk_size": str(PART)} | {f"{n:05}": f"{url}/{n}" for n in range(1, parts + 1)}
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/complete/{oid}/{parts}", "header": header}}
            objects.append(entry)
        self.answer(200, {"transfer": "multipart", "objects": objects})

    def receive_large(self, oid: str, part: str | None) -> None:
        if (status := self.hub.receive(self.path)) != 200:
            raise RefusedError(status, message="Request has expired")
        self.hub.store[f"{oid}/{part}" if part else self.keep(self.body)] = self.body
        self.answer(200, {}, {"ETag": f'"{sha256(self.body)}"'})

    def complete(self, oid: str, count: str) -> None:
        parts = [self.hub.store.pop(f"{oid}/{number}") for number in range(1, int(count) + 1)]
        assert [part["etag"] for part in json.loads(self.body)["parts"]] == [f'"{sha256(part)}"' for part in parts]
        assert self.keep(b"".join(parts)) == oid
        self.answer(200, {})

    def commit(self, kind: str, name: str) -> None:
        repo = self.writable(kind, name)
        if self.hub.commits_fail and self.hub.repos.get(self.hub.commits_fail) is repo:
            raise RefusedError(418, message="Out of order")
        files = dict(repo.commits[repo.main])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.store[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        commit = commit_id(files, repo.main)
        repo.commits[commit] = files
        self.answer(200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})

    def variables(self, kind: str, name: str) -> None:
        asked = json.loads(self.body)
        self.writable(kind, name).variables[asked["key"]] = asked["value"]
        self.answer(200, {asked["key"]: {"value": asked["value"]}})

    # -------------------------------------------------------------------------------------------------------------

    def keep(self, data: bytes) -> str:
        self.hub.store[sha256(data)] = data
        return sha256(data)

    def answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.start(status, len(body), {"Content-Type": "application/json", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


def is_large(data: bytes) -> bool:
    return len(data) >= LFS_FROM


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def commit_id(files: Files, parent: str = "") -> str:
    return hashlib.sha1(json.dumps([parent, {name: sha256(data) for name, data in files.items()}]).encode()).hexdigest()
