from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.unit.environments import packing

from tunematrix.errors import MachineProblem
from tunematrix.versions.index import Index, read_releases


def _file(version: str, day: str = "", **more: Any) -> dict[str, Any]:
    when = {"upload-time": f"{day}T10:00:00.5Z"} if day else {}
    return {"filename": f"wobble-{version}-py3-none-any.whl", **when, **more}


def _versions(*files: dict[str, Any]) -> list[str]:
    return [str(release.version) for release in read_releases({"files": [*files]})]


def test_only_what_an_installer_takes() -> None:
    """Yanked releases, pre-releases and those for other Pythons are no releases to try."""
    assert _versions(
        _file("1.0"),
        _file("1.1", yanked="broken"),
        _file("1.2rc1"),
        _file("1.3", **{"requires-python": ">=4"}),
        _file("1.4", **{"requires-python": ">=3.8"}),
        {"filename": "wobble.exe"},
        {"filename": "wobble-1.5.tar.gz"},
    ) == ["1.0", "1.4", "1.5"]


def test_when_it_was_published() -> None:
    """The first of its files counts, and where none has a time, none is made up."""
    early, late = _file("1.0", "2025-06-01"), _file("1.0", "2025-06-03", size=7)
    (release,) = read_releases({"files": [late, early]})
    assert release.published is not None and release.published.day == 1
    assert release.size == 7
    (undated,) = read_releases({"files": [_file("1.0")]})
    assert undated.published is None


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels in a folder, and in an index of files, are releases without a date."""
    for version in ("1.10", "1.9"):
        packing.wheel(tmp_path / "wheels", "wobble", version)
    packing.wheel(tmp_path / "wheels", "wobble-more", "3.0")
    page = tmp_path / "simple" / "wobble" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="../../files/wobble-2.0-py3-none-any.whl#sha256=0">it</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    found = Index().releases("wobble")
    assert [str(one.version) for one in found] == ["1.9", "1.10", "2.0"]
    assert {one.published for one in found} == {None}


def test_an_index_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named without the password that its address has."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hush-hush@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    with pytest.raises(MachineProblem, match=r"http://127\.0\.0\.1:9/simple can't be asked") as got:
        Index().releases("wobble")
    assert "hush" not in str(got.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xff{garbage",
        b"[1, 2]",
        b'{"files": 3}',
        b'{"files": [{}]}',
        b'{"files": [{"filename": 7}]}',
        b'{"files": [{"filename": "a-1.tar.gz", "upload-time": "yesterday"}]}',
    ],
)
def test_an_index_that_answers_nonsense(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, without the password, in place of a traceback."""

    class Nonsense(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://user:s3cretP4ss@127.0.0.1:{server.server_port}/simple"
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.delenv("UV_INDEX", raising=False)
        with pytest.raises(MachineProblem, match="doesn't answer as one does") as caught:
            Index().releases("wobble")
        server.shutdown()
    assert "s3cret" not in str(caught.value)
