"""A hub on this machine that speaks the Hub's protocol; a repository's name says what is wrong."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "aBcD" * 8
COMMIT = hashlib.sha1(b"this").hexdigest()
OLDER = hashlib.sha1(b"older").hexdigest()
SIGNATURE = "Signature=sEcReT"
LARGE = (".safetensors", ".bin")
WEIGHTS = Random(0).randbytes(3_000_000)
FILES = {
    "README.md": b"# tiny\n",
    "config.json": b'{"model_type": "tiny"}\n',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": Random(1).randbytes(70_000),
    "data/vocab.json": b'{"a": 0}\n',
}
OLDER_FILES = {**FILES, "model.safetensors": Random(2).randbytes(3_000_000)}


@dataclass(frozen=True)
class Request:
    """One that was answered."""

    method: str
    path: str
    host: str
    range: str
    token: str


@dataclass
class Hub:
    """The server, and what it was asked.

    Attributes:
        begun: set once a file of good/slow is asked for; it comes once `going_on` is set.
        more: files of further repositories, by their names; these have one commit.
    """

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    begun: threading.Event = field(default_factory=threading.Event)
    going_on: threading.Event = field(default_factory=threading.Event)
    more: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def files(self, repo: str, commit: str) -> dict[str, bytes]:
        """What a repository has at a commit; `@older` behind its name stands for that one."""
        is_older = commit == OLDER or repo.endswith("@older")
        return self.more.get(repo, OLDER_FILES if is_older else FILES)

    def asked(self, method: str, part: str) -> list[Request]:
        """The requests of a method whose path has a part."""
        return [one for one in self.requests if one.method == method and part in one.path]

    def times(self, what: str) -> int:
        """How often this has happened before."""
        self.counts[what] = self.counts.get(what, 0) + 1
        return self.counts[what] - 1


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve on a free port of this machine."""
    hub = Hub()
    kind = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _changed(fault: str, path: str, content: bytes) -> bytes:
    """Return what is sent in the place of a file's content."""
    if fault == "corrupt":
        return bytes([content[0] ^ 1]) + content[1:]
    if fault == "mixed-up":
        return OLDER_FILES[path]
    return content[:-5] if fault == "truncated" else content


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        head = self.headers
        token = head.get("Authorization", "").removeprefix("Bearer ")
        asked = Request(self.command, self.path, head.get("Host", ""), head.get("Range", ""), token)
        self.hub.requests.append(asked)
        if parts[0] == "api":
            repo = "/".join(parts[2:4])
            if not self.refused(repo, token, "api"):
                self.describe(repo, parts)
        elif parts[0] == "cdn":
            self.body("/".join(parts[1:3]), "/".join(parts[3:]), {})
        else:
            repo, commit, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            if not self.refused(repo, token, "resolve"):
                self.resolve(repo, commit, path)

    def refused(self, repo: str, token: str, where: str) -> bool:
        """Answer what makes a repository faulty as a whole."""
        fault = repo.removeprefix("faulty/")
        if fault == "hangs":
            time.sleep(30)
        if fault in ("hangs", "closes"):
            self.close_connection = True
            return True
        refusal: tuple[int, dict[str, str]] | None = {
            "private": (401, {"X-Error-Code": "RepoNotFound"}),
            "secured": None if token == TOKEN else (401, {}),
            "gated": (403, {"X-Error-Code": "GatedRepo"}),
            "forbidden": (403, {}),
            "limited": (429, {"Retry-After": "120"}),
            "maintained": (503, {}),
            "recovering": None if self.hub.times("recovering") else (503, {}),
            "limited-later": (429, {"Retry-After": "1"}) if where == "resolve" else None,
            "gone-later": (404, {"X-Error-Code": "EntryNotFound"}) if where == "resolve" else None,
        }.get(fault)
        if fault == "website":
            self.reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
            return True
        if refusal is None and not repo.startswith(("good/", "faulty/")):
            refusal = (404 if token else 401, {"X-Error-Code": "RepoNotFound"})
        if refusal is not None:
            self.reply(refusal[0], b"", refusal[1])
        return refusal is not None

    def describe(self, repo: str, parts: list[str]) -> None:
        """Answer /api/models/REPO/revision/REVISION and /tree/COMMIT."""
        revision = parts[5] if len(parts) > 5 else "main"
        known = {"main": COMMIT, COMMIT: COMMIT, "older": OLDER, OLDER: OLDER}
        if revision not in known:
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        if repo == "faulty/behind":  # as a mirror does that knows its newest commit alone
            known = dict.fromkeys(known, COMMIT)
        if (repo, revision) == ("good/moving", "main") and not self.hub.times(repo):
            known["main"] = OLDER
        files = self.hub.files(repo, known[revision])
        if len(parts) > 4 and parts[4] == "tree":
            tree = [_entry(path, content) for path, content in files.items()]
            if repo == "faulty/escaping":
                tree.append(_entry("../escaped.txt", b"out"))
            if repo == "faulty/huge":
                tree.append({**_entry("huge.safetensors", b"x"), "size": 10**18})
                tree[-1]["lfs"]["size"] = 10**18
            self.json(tree)
        else:
            siblings = [{"rfilename": path} for path in files]
            self.json({"id": repo, "sha": known[revision], "tags": [], "siblings": siblings})

    def resolve(self, repo: str, commit: str, path: str) -> None:
        """Answer /REPO/resolve/COMMIT/PATH: the file, or where it lies."""
        content = self.hub.files(repo, commit)[path]
        about = {"X-Repo-Commit": commit}
        if repo == "faulty/circling":
            self.reply(302, b"", {**about, "Location": self.path})
        elif path.endswith(LARGE):
            port = urlsplit(self.hub.endpoint).port
            marked = repo if commit == COMMIT else f"{repo}@older"
            place = f"http://localhost:{port}/cdn/{marked}/{path}?{SIGNATURE}"
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{_sha256(content)}"'}
            if repo == "good/xet":
                linked["X-Xet-Hash"] = _sha256(content)
                linked["Link"] = f'<{self.hub.endpoint}/api/xet>; rel="xet-auth"'
            self.reply(302, b"", {**about, **linked, "Location": place})
        else:
            self.body(repo, path, {**about, "ETag": f'"{_blob(content)}"'})

    def body(self, repo: str, path: str, about: dict[str, str]) -> None:
        """Send a file, or what a faulty repository has in its place."""
        fault = repo.removeprefix("faulty/").removesuffix("@older")
        content = self.hub.files(repo, "")[path]
        if self.command == "GET":
            if fault == "endless":
                self.endless(content, about)
                return
            content = _changed(fault, path, content)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if self.headers.get("Range"):
            about["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        end = len(content)
        if self.command == "GET" and path == "model.safetensors" and self.breaks_off(fault):
            end //= 2
        if self.command == "GET" and repo.removesuffix("@older") == "good/slow":
            self.hub.begun.set()
            self.hub.going_on.wait(20)
        self.reply(206 if start else 200, content[start:end], about, len(content) - start)
        if end < len(content):
            if fault.startswith("falling-silent"):
                time.sleep(30)
            self.close_connection = True

    def breaks_off(self, fault: str) -> bool:
        """Whether a file ends in its middle this time."""
        once = fault in ("cut", "falling-silent-once") and not self.hub.times(fault)
        return once or fault in ("staying-cut", "falling-silent")

    def endless(self, content: bytes, about: dict[str, str]) -> None:
        """Send a file in pieces, and never say that it is over."""
        self.send_response(200)
        for key, value in {**about, "Transfer-Encoding": "chunked"}.items():
            self.send_header(key, value)
        self.end_headers()
        for _ in range(400):
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            except OSError:
                break
        self.close_connection = True

    def json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(
        self, code: int, content: bytes, about: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(code)
        for key, value in about.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.wfile.flush()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return entry
