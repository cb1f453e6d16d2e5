"""A server with the two paths of an OpenAI-compatible API that are asked for; copied into projects.

What it answers is the third argument: the text, or what goes wrong.
"""

import http.server
import json
import sys
import time
from pathlib import Path

checkpoint, port, answer = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if answer == "refuses":
    sys.exit("no tokenizer in " + str(checkpoint))
if answer == "hangs":
    time.sleep(600)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers."""

    def do_GET(self) -> None:
        """Says that it is there."""
        self.send(200, {"ok": (checkpoint / "config.json").exists()})

    def do_POST(self) -> None:
        """Completes."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["max_tokens"] == 20 and asked["temperature"] == 0.7, asked
        self.send(500 if answer == "errs" else 200, {"choices": [{"text": answer}]})

    def send(self, code: int, body: dict[str, object]) -> None:
        """Sends JSON."""
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
