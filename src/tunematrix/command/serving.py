"""A spec's inference section: a real server, one completion, and its perplexity."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.command.guarded import CommandRun, Guard, Outcome, Process
from tunematrix.command.invocation import HOST, Invocation, free_port
from tunematrix.command.ranks import tail
from tunematrix.configuration.download import on_the_hub
from tunematrix.configuration.trainer import Inference
from tunematrix.errors import Obstacle, TunematrixError, Unavailable
from tunematrix.evidence.events import Completion, NoCompletion, Refused
from tunematrix.evidence.log import EventLog
from tunematrix.matrix.requirements import missing_modules
from tunematrix.paths import PACKAGE
from tunematrix.run.executor import Poll

SCORER = "tunematrix.stack.yardsticks.perplexity"
"""The program that computes a perplexity, in a process of its own."""
_BASE = PACKAGE / "stack/toyworld/base"
_NEEDS = ("fastapi", "uvicorn", "transformers", "torch")
_INSTALL = 'python -m pip install "transformers[serving]"'
_SECONDS = 300
"""What finalizing, a completion and scoring may take, each."""
_WEIGHTS = ("*.safetensors", "*.bin")
_NUMBER = re.compile(r"(\d+)$")
_TICK = 0.2


class _Failed(TunematrixError):
    """There is no completion; the text says why."""


def serve_and_score(invocation: Invocation, events: EventLog, poll: Poll) -> None:
    """Prepare the final checkpoint, serve it, and score what it completes, as the spec asks for.

    What can't be done is written down, and never passes.
    """
    command = invocation.command
    if command.inference is None and command.finalize is None:
        return
    try:
        if command.finalize is not None:
            words = invocation.filled(command.template.finalize, command.finalize)
            _run(invocation, "finalize", words, poll)
        if command.inference is not None:
            events.write(_completion(invocation, command.inference, poll))
    except Unavailable as error:
        events.write(Refused(error.obstacle))
        events.write(NoCompletion(str(error)))
    except _Failed as error:
        events.write(NoCompletion(str(error)))


def final_checkpoint(output: Path) -> Path:
    """Return the folder of the last checkpoint that can be loaded.

    Raises:
        _Failed: there is none.
    """
    configs = [path.parent for path in output.rglob("config.json")]
    found = [one for one in configs if any(next(one.glob(w), None) for w in _WEIGHTS)]
    if output in found:
        return output
    if found:
        return max(found, key=lambda path: (_step(path), path.stat().st_mtime))
    if next(output.rglob("adapter_config.json"), None):
        text = "an adapter was saved, which no server loads by itself: merge it into its base"
        raise _Failed(f"{text}, with `finalize` of the trainer")
    text = "no folder below the output has config.json and weights (No model.safetensors found)"
    raise _Failed(f"{text}; set save_strategy to steps, so that a final checkpoint is saved")


def _completion(invocation: Invocation, wanted: Inference, poll: Poll) -> Completion:
    checkpoint = final_checkpoint(invocation.run_dir.output)
    port = free_port()
    with _served(invocation, checkpoint, port) as server:
        _await_server(server, port, wanted.server_timeout, poll)
        text = _ask(port, checkpoint, wanted, server)
    own = invocation.command.template.scorer
    root = Path(invocation.command.root)
    scorer = own if on_the_hub(own, root) else str(root / own if own else _BASE)
    return Completion(
        prompt=wanted.prompt,
        text=text,
        perplexity=_perplexity(invocation, scorer, wanted.prompt + text, poll),
        scorer=own or "the toy world's base model",
        checkpoint=checkpoint.relative_to(invocation.run_dir.output).as_posix(),
    )


@dataclass
class _Server:
    """A server that runs under a guard, in a thread."""

    log: Path
    ended: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def last_line(self) -> str:
        lines = [line for line in tail(self.log).splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


@contextmanager
def _served(invocation: Invocation, checkpoint: Path, port: int) -> Iterator[_Server]:
    values = {"checkpoint": str(checkpoint), "host": HOST, "port": str(port)}
    template = invocation.command.template.serve
    words = (
        invocation.filled(template, {}, values)
        if template
        else _transformers_serve(invocation, checkpoint, port)
    )
    server = _Server(invocation.run_dir.path / "server.log")
    process = Process(words, invocation.variables, str(server.log), str(server.log))
    job = CommandRun((process,), str(invocation.folder), 24 * 3600)

    def stop(seconds: float) -> None:
        if server.stop.is_set():
            raise _Failed("stopped")

    def run(guard: Guard) -> None:
        try:
            outcome = guard.run(job, stop)
            if outcome.unstartable:
                server.log.write_text(f"{words[0]} can't be started: {outcome.unstartable}\n")
        except _Failed:
            pass
        finally:
            server.ended.set()

    with Guard(invocation.run_dir.path / "server-guard.log") as guard:
        thread = threading.Thread(target=run, args=(guard,))
        thread.start()
        try:
            yield server
        finally:
            server.stop.set()
            thread.join()


def _transformers_serve(invocation: Invocation, checkpoint: Path, port: int) -> tuple[str, ...]:
    python = invocation.values["python"]
    program = Path(python).parent / "transformers"
    lacking = missing_modules(_NEEDS) if python == sys.executable else ()
    if lacking or not program.exists():
        what = ", ".join(lacking) or str(program)
        found = f"serving the checkpoint needs {what}, which isn't installed"
        advice = f"install it with: {_INSTALL}, or give the trainer a command `serve`"
        raise Unavailable(Obstacle("transformers serve", found, advice))
    device = invocation.config.backend.device
    where = ("--device", device, "--host", HOST, "--port", str(port), "--log-level", "warning")
    return (str(program), "serve", str(checkpoint), *where)


def _await_server(server: _Server, port: int, seconds: float, poll: Poll) -> None:
    """Wait until the server answers; one without /health is there once it answers at all."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        poll(passed)
        if server.ended.is_set():
            raise _Failed(f"the server ended before it answered (server.log): {server.last_line}")
        try:
            _open(f"http://{HOST}:{port}/health", None, 5)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(_TICK)
    text = f"the server didn't answer within its {seconds:g} s (inference.server_timeout)"
    raise _Failed(f"{text}; the last line of server.log: {server.last_line}")


def _ask(port: int, checkpoint: Path, wanted: Inference, server: _Server) -> str:
    request = {
        "model": str(checkpoint),
        "prompt": wanted.prompt,
        "max_tokens": wanted.max_tokens,
        "temperature": wanted.temperature,
    }
    try:
        answer = json.loads(_open(f"http://{HOST}:{port}/v1/completions", request, _SECONDS))
        text: object = answer["choices"][0]["text"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        how = f"{type(error).__name__}: {error}"
        text = f"the server gave no completion ({how}); server.log: {server.last_line}"
        raise _Failed(text) from None
    if not isinstance(text, str):
        raise _Failed("the server gave a completion without a text")
    return text


def _open(url: str, request: Mapping[str, object] | None, seconds: float) -> bytes:
    data = None if request is None else json.dumps(request).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    # Without the proxies that variables may name: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=seconds) as answer:
        content: bytes = answer.read(1_000_000)
        return content


def _perplexity(invocation: Invocation, scorer: str, text: str, poll: Poll) -> float:
    if lacking := missing_modules(("torch", "transformers")):
        what = " and ".join(lacking)
        found = f"scoring a completion needs {what}, which isn't installed here"
        raise Unavailable(Obstacle(what, found, "install it in this environment"))
    folder = invocation.run_dir.path
    written, result = folder / "completion.txt", folder / "perplexity.json"
    written.write_text(text, encoding="utf-8")
    words = (sys.executable, "-m", SCORER, scorer, str(written), str(result))
    _run(invocation, "score", words, poll)
    try:
        value: float = json.loads(result.read_text(encoding="utf-8"))["perplexity"]
    except (OSError, ValueError, KeyError) as error:
        raise _Failed(f"the scorer left no perplexity ({error}); see score.log") from None
    return value


def _run(invocation: Invocation, name: str, words: tuple[str, ...], poll: Poll) -> None:
    """Run a command beside the trainer's, to its good end.

    Raises:
        _Failed: it ended otherwise.
    """
    folder = invocation.run_dir.path
    log = folder / f"{name}.log"
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)} if name == "score" else {}
    process = Process(words, {**invocation.variables, **paths}, str(log), str(log))
    with Guard(folder / f"{name}-guard.log") as guard:
        outcome = guard.run(CommandRun((process,), str(invocation.folder), _SECONDS), poll)
    if outcome.unstartable or outcome.problem or outcome.timed_out or any(outcome.codes):
        raise _Failed(f"the command `{name}` failed: {_how(outcome, log)}")


def _how(outcome: Outcome, log: Path) -> str:
    if known := outcome.unstartable or outcome.problem:
        return known
    if outcome.timed_out:
        return f"it ran past its {_SECONDS} s"
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'} (all of it in {log.name})"


def _step(path: Path) -> int:
    number = _NUMBER.search(path.name)
    return int(number[1]) if number else -1
