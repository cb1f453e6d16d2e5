"""The process that downloads, seen from here: a job goes in, and what it says comes out."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from tunematrix.configuration.download import DownloadConfig, hub_address
from tunematrix.errors import MachineProblem, TunematrixError, ending
from tunematrix.evidence.secrets import masked, redacted, secrets_in
from tunematrix.hub.events import (
    AllDone,
    Begun,
    DownloadJob,
    Failed,
    Kind,
    Listed,
    Message,
    ModelOrder,
    Remark,
    Stopped,
    Waiting,
    packed,
    unpacked,
)
from tunematrix.hub.failures import Circumstances, error_of
from tunematrix.paths import python_path, shown

_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LAST_LINES = 5


class Session:
    """One run of the process that downloads.

    Args:
        config: what is wanted.
        environment: variables of the process, that of the token among them.
        dry_run: whether everything is looked up, and nothing is fetched.
        verbose: whether the client says all that it does.

    Attributes:
        orders: the config's models, as the process is given them.
        printed: all that the process has printed beside its messages, without secrets, once it
            has ended.
    """

    def __init__(
        self,
        config: DownloadConfig,
        environment: Mapping[str, str],
        *,
        dry_run: bool = False,
        verbose: bool = False,
    ) -> None:
        self._config, self._environment = config, environment
        self.orders = tuple(
            ModelOrder(m.repo, m.revision, m.files, str(Path(m.output_dir).expanduser()))
            for m in config.models
        )
        self._job = DownloadJob(config.huggingface.token_variable, dry_run, verbose, self.orders)
        self._order, self._path, self._last_remark = 0, "", ""
        self._waits = False
        self.printed = ""

    def run(self, take: Callable[[Message], None]) -> None:
        """Pass on messages until all is done; whatever ends this ends the process as well.

        Raises:
            Stopped: it failed, ended early, or made no progress for too long.
            MachineProblem: it can't be started.
        """
        with tempfile.TemporaryFile() as log:
            try:
                with _started(self._job, log, self._environment) as (process, messages):
                    how = self._watch(process, messages, take)
            finally:
                log.seek(0)
                text = log.read().decode("utf-8", errors="replace").strip()
                self.printed = self.safe(text)
        if how:
            last = "\n".join(self.printed.splitlines()[-_LAST_LINES:])
            raise Stopped(Failed(Kind.DIED, self._order, detail=f"{how}: {last}"))

    def error(self, failed: Failed, place: str = "") -> TunematrixError:
        """Return the error that a failure becomes, without secrets.

        Args:
            failed: what happened. place: file and line of the entry that `route` leads to.
        """
        order = self.orders[failed.order]
        at = Circumstances(
            place=place,
            repo=order.repo,
            revision=order.revision,
            output_dir=shown(Path(order.output_dir)),
            endpoint=hub_address(self._environment),
            token=self._job.token_variable,
            seconds=self._config.timeout,
        )
        error = error_of(failed, at)
        return type(error)(self.safe(str(error)))

    def safe(self, text: str) -> str:
        """Return a text that came from elsewhere without secrets."""
        variable = self._job.token_variable
        token = self._environment.get(variable, "").strip()
        named = {token: f"<{variable}>"} if token else {}
        return redacted(masked(text, {**named, **secrets_in(self._environment)}))

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        messages: IO[bytes],
        take: Callable[[Message], None],
    ) -> str:
        """Return how the process ended; empty where it has said that all is done."""
        for line in _lines(messages, self._config.timeout):
            if line is None:
                raise Stopped(self._given_up())
            message = unpacked(line)
            if isinstance(message, AllDone):
                return ""
            if isinstance(message, Failed):
                raise Stopped(message)
            take(self._noted(message))
        return ending(process.wait())

    def _noted(self, message: Message) -> Message:
        """Take note of how far it is."""
        if isinstance(message, Remark):
            self._last_remark = self.safe(message.text)
            return Remark(self._last_remark)
        self._last_remark, self._waits = "", isinstance(message, Waiting)
        if isinstance(message, Listed | Begun | Waiting):
            self._order = message.order
        if isinstance(message, Begun):
            self._path = message.path
        return message

    def _given_up(self) -> Failed:
        if self._waits:
            return Failed(Kind.BUSY, self._order)
        said = f"the last that was said: {self._last_remark}" if self._last_remark else ""
        return Failed(Kind.HANG, self._order, self._path, detail=said)


def route_of_failure(failed: Failed) -> tuple[str | int, ...]:
    """Return the keys in the config that lead to what is to blame."""
    key = "revision" if failed.kind is Kind.NO_REVISION else "repo"
    return "models", failed.order, key


def _lines(messages: IO[bytes], patience: float) -> Iterator[bytes | None]:
    """Yield whole lines as they come; None once none but remarks came for too long."""
    rest, heard = b"", time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(messages, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=0.2):
                chunk = os.read(messages.fileno(), 65536)
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if not isinstance(unpacked(line), Remark):
                        heard = time.monotonic()
                    yield line
                if not chunk:
                    return
            if time.monotonic() - heard > patience:
                yield None
                return


@contextlib.contextmanager
def _started(
    job: DownloadJob, log: IO[bytes], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start the process in a session of its own, so that Ctrl-C is ours; end it afterwards."""
    command = [sys.executable, "-m", "tunematrix.hub.transfer"]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment, **_QUIET, "PYTHONPATH": python_path()},
            start_new_session=True,
        )
    except OSError as error:
        raise MachineProblem(f"no process can be started to download: {error}") from error
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(packed(job).encode() + b"\n")
            process.stdin.flush()
        yield process, process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
