"""A server with the paths of an OpenAI-compatible API and with one fault; run with a port and that.

It imports no model: each answer is the same text, unless the fault makes it another.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

port, fault = int(sys.argv[1]), sys.argv[2]
WORDS = ["once", " more", " with", " feeling"]
running: list[int] = []
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers."""

    def do_GET(self) -> None:
        """Says whether it is ready."""
        self.send(503 if fault == "never ready" else 200, b"{}")

    def do_POST(self) -> None:
        """Completes, or answers a chat."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if fault == "dies":
            print("RuntimeError: the weights have gone", flush=True)
            os._exit(3)
        if fault == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        with lock:
            running.append(1)
        if fault == "mixes up":
            time.sleep(0.3)
        alone = len(running) == 1
        with lock:
            running.pop()
        words = WORDS if alone or fault != "mixes up" else WORDS[::-1]
        self.answer(asked, "messages" in asked, words)

    def answer(self, asked: dict[str, object], chat: bool, words: list[str]) -> None:
        """Send the words, as a whole or one by one."""
        usage = {"completion_tokens": len(words), "prompt_tokens": 1, "total_tokens": 1}
        if not asked.get("stream"):
            text = "".join(words)
            choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            body = {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage}
            self.send(500 if fault == "errs" else 200, json.dumps(body).encode())
            return
        sent = words[1:] if fault == "loses a piece" else words
        pieces = [{"delta": {"content": word}} if chat else {"text": word} for word in sent]
        lines = [f"data: {json.dumps({'choices': [{'index': 0, **p}]})}\n\n" for p in pieces]
        self.send(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream")

    def send(self, code: int, content: bytes, kind: str = "application/json") -> None:
        """Send a body."""
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if fault == "refuses":
    sys.exit("OSError: no tokenizer in this folder")
if fault == "ignores SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if fault == "leaves a helper":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
