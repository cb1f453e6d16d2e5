"""A server in a process of its own: started, waited for, and ended with all that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunematrix.errors import MachineProblem, StepFailed, TunematrixError, ending
from tunematrix.paths import python_path
from tunematrix.stack.steps.serving import ports

_GUARD = "tunematrix.stack.steps.serving.guard"
_POLITE_SECONDS = 15.0
"""What a server that is told to end may take to do so; one of transformers needs 1.5 s."""
# A guard also waits for what follows the server; one that takes longer is stuck itself.
_GUARD_SECONDS = 15.0
_ASK_SECONDS = 2.0
_TICK = 0.2
_TELL_SECONDS = 2.0
_LINE = 300
_TAIL = 20_000
# It serves a folder of this disk; the CLI of transformers would else look for its newer releases.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class ServerEnd:
    """How a server ended.

    Attributes:
        code: its exit code; below 0, the signal that ended it.
        asked: whether it ran until it was told to end; killed: whether it didn't do so in time.
        seconds: from being told to its end. left: command lines of what outlived it, killed since.
        port_free: whether its port can be listened at again.
    """

    code: int
    asked: bool
    killed: bool
    seconds: float
    left: tuple[str, ...]
    port_free: bool


class Server:
    """A server that runs, under a guard.

    Attributes:
        port: of the loopback device; url: with the path of its API; log: what it prints.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log: Path, polite: float
    ) -> None:
        self.port, self.log, self._polite = port, log, polite
        self.url = f"http://{ports.HOST}:{port}/v1"
        self._guard = process
        self._ending: ServerEnd | None = None
        word = self._word()
        self._pid: int | None = None if word is None else word["pid"]

    def wait_until_ready(self, seconds: float, tell: Callable[[float], None]) -> float:
        """Wait until it answers /health, and return the seconds that this took.

        Args:
            seconds: that it may take. tell: is told every other second how many have passed.

        Raises:
            StepFailed: it ended, or took longer. MachineProblem: it was killed.
        """
        began = told = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if self.has_ended():
                raise self.end_too_early("before it was ready")
            if self._is_healthy():
                return passed
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                tell(passed)
            time.sleep(_TICK)
        raise StepFailed(
            f"the server wasn't ready within its {seconds:g} s (server_timeout); it said last: "
            f"{self.last_line()}; likely the model is large or this machine is busy: give it more "
            f"time, or see {self.log}"
        )

    def has_ended(self, within: float = 0.0) -> bool:
        """Whether it isn't running any more, or won't be `within` so many seconds."""
        try:
            self._guard.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end_too_early(self, when: str) -> TunematrixError:
        """Return the error of a server that ended by itself; `when` says at what time."""
        end = self.stop()
        how = ending(end.code)
        said = f"the server {how} {when}; it said last: {self.last_line()}"
        if end.code == -signal.SIGKILL:
            return MachineProblem(
                f"{said}; likely memory ran out: free some, or serve a smaller model"
            )
        if not end.port_free:
            return ports.taken(self.port)
        return StepFailed(f"{said}; likely the model can't be served as it is: see {self.log}")

    def last_line(self) -> str:
        """Return the last line that it printed."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:_LINE] if said else "nothing"

    def stop(self) -> ServerEnd:
        """End it, and return how it ended; again and again if need be.

        Raises:
            MachineProblem: its guard is gone, so nobody can say what is left.
        """
        if self._ending is not None:
            return self._ending
        word = self._last_word()
        if word is None:
            text = "the process that guards the server was ended from outside"
            raise MachineProblem(f"{text}; see whether a server still runs at port {self.port}")
        self._ending = ServerEnd(
            code=int(word["code"]),
            asked=bool(word["asked"]),
            killed=bool(word["killed"]),
            seconds=float(word["seconds"]),
            left=tuple(word["left"]),
            port_free=ports.is_free(self.port),
        )
        return self._ending

    def _last_word(self) -> dict[str, Any] | None:
        """Close the guard's stdin, and return what it then says of the end."""
        try:
            said, _ = self._guard.communicate(timeout=self._polite + _GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            said, _ = self._guard.communicate()
        word: dict[str, Any] | None = json.loads(said) if said else None
        return word

    def _word(self) -> dict[str, Any] | None:
        """Return what the guard says next; None where it has gone without a word."""
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        word: dict[str, Any] | None = json.loads(line) if line else None
        return word

    def _is_healthy(self) -> bool:
        # Without the proxies that variables may name: it is this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://{ports.HOST}:{self.port}/health"
        try:
            with opener.open(url, timeout=_ASK_SECONDS) as answer:
                healthy = answer.status == 200
        except (OSError, ValueError):
            return False
        # Somebody else's server may have come to this port meanwhile.
        return healthy and self._pid is not None and ports.listens(self._pid, self.port)


@contextmanager
def started(
    words: Sequence[str], port: int, log: Path, polite: float = _POLITE_SECONDS
) -> Iterator[Server]:
    """Start a server; when the context is left, it has ended with all that it started.

    Args:
        words: its program and arguments. port: at which it is told to listen.
        log: file that gets what it prints. polite: seconds that it may take to end when it is told.

    Raises:
        MachineProblem: no process can be started, or the log can't be written.
    """
    variables = {**os.environ, **_QUIET, "PYTHONPATH": python_path()}
    try:
        with log.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _GUARD, str(polite), *words],
                cwd=log.parent,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed.fileno(),
                bufsize=0,  # so that reading one word takes nothing of the next
                start_new_session=True,
            )
    except OSError as error:
        text = f"no server can be started: {error.strerror} ({error.filename})"
        raise MachineProblem(f"{text}; free memory or disk space, or correct output_dir") from error
    server = Server(process, port, log, polite)
    try:
        yield server
    finally:
        with suppress(MachineProblem):
            server.stop()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
