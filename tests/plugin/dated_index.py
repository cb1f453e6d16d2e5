"""A package index on this machine that says when each release was published."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

_JSON = "application/vnd.pypi.simple.v1+json"


@contextmanager
def dated_index(wheels: Path, days: Mapping[str, str]) -> Iterator[str]:
    """Serve wheels, each published at noon of its day; yield the index's address.

    Args:
        wheels: their folder. days: by name and version, `wobble-1.0`.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/simple/"):
                super().do_GET()
                return
            body = _page(wheels, days, self.path.split("/")[2])
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", _JSON)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass  # what is asked for is nobody's matter

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=wheels))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        thread.join()


def _page(wheels: Path, days: Mapping[str, str], name: str) -> bytes:
    files = [
        {
            "filename": path.name,
            "url": f"/{path.name}",
            "hashes": {},
            "upload-time": f"{days['-'.join(path.name.split('-')[:2])]}T12:00:00.000000Z",
        }
        for path in sorted(wheels.glob(f"{name.replace('-', '_')}-*.whl"))
    ]
    page = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
    return json.dumps(page).encode() if files else b""
