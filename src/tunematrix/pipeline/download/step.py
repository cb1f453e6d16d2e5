"""The step `download`: starts the process that downloads, watches it, and says what it did."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from tunematrix.errors import BadInput, MachineProblem, TunematrixError, ending
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.paths import made, python_path, shown
from tunematrix.pipeline.download.config import DownloadConfig
from tunematrix.pipeline.download.events import (
    AllDone,
    Begun,
    Done,
    DownloadJob,
    Failed,
    Got,
    Kind,
    Listed,
    Message,
    ModelOrder,
    Remark,
    packed,
    unpacked,
)
from tunematrix.pipeline.download.failures import Circumstances, error_of
from tunematrix.pipeline.download.receipt import RECEIPT, Receipt, ReceivedFile
from tunematrix.pipeline.download.view import DownloadView, size
from tunematrix.pipeline.settings import StepConfig, redacted
from tunematrix.report.text import indented
from tunematrix.spec.problems import place

HUB = "https://huggingface.co"
PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
"""Endings of files that may be pickles, which run code when they are loaded."""
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LAST_LINES = 5


def download(
    config: StepConfig[DownloadConfig], view: DownloadView, *, dry_run: bool, verbose: bool
) -> None:
    """Download what a config names; what is there already is only checked.

    Raises:
        BadInput: the Hub has no such thing, or doesn't give it to this user.
        MachineProblem: the Hub, the network or the disk failed.
        KeyboardInterrupt: Ctrl-C; what was fetched is kept.
    """
    step = _Step(config, view, dry_run=dry_run)
    _check_folders(config, dry_run=dry_run)
    job = DownloadJob(
        config.settings.huggingface.token_variable, dry_run, verbose, tuple(step.orders)
    )
    with tempfile.TemporaryFile() as log:
        try:
            with view.open(), _started(job, log) as (process, messages):
                step.watch(process, messages)
        except TunematrixError:
            if verbose:
                view.line(_safe(_text(log)))
            raise
        if step.died:
            last = "\n".join(_text(log).splitlines()[-_LAST_LINES:])
            raise step.error(Failed(Kind.DIED, step.current, detail=f"{step.died}: {_safe(last)}"))
    step.sum_up()


@dataclass
class _Got:
    """What has come of one order."""

    listed: Listed | None = None
    done: list[Done] = field(default_factory=list)


class _Step:
    """What is known so far."""

    def __init__(
        self, config: StepConfig[DownloadConfig], view: DownloadView, *, dry_run: bool
    ) -> None:
        self._config, self._view, self._dry_run = config, view, dry_run
        settings = config.settings
        self.orders = [
            ModelOrder(m.repo, m.revision, m.files, str(Path(m.output_dir).expanduser()))
            for m in settings.models
        ]
        self._states = [_Got() for _ in self.orders]
        self.current = 0
        self._path = ""
        self._last_remark = ""
        self.died = ""

    def watch(self, process: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        """Take messages until the process ends.

        Raises:
            TunematrixError: it failed, or there was no progress for too long.
        """
        for line in self._lines(messages, self._config.settings.timeout):
            if line is None:
                said = f"the last that was said: {self._last_remark}" if self._last_remark else ""
                raise self.error(Failed(Kind.HANG, self.current, self._path, detail=said))
            message = unpacked(line)
            if isinstance(message, AllDone):
                return
            self._take(message)
        self.died = ending(process.wait())

    def _take(self, message: Message) -> None:
        if isinstance(message, Failed):
            raise self.error(message)
        if isinstance(message, Remark):
            self._last_remark = _safe(message.text)
            self._view.line(self._last_remark)
            return
        self._last_remark = ""
        if isinstance(message, Listed):
            self.current = message.order
            self._states[message.order].listed = message
            self._view.listed(message, self.orders[message.order], dry_run=self._dry_run)
            self._warn(message)
        elif isinstance(message, Begun):
            self.current, self._path = message.order, message.path
            self._view.begun(message)
        elif isinstance(message, Got):
            self._view.got(message)
        elif isinstance(message, Done):
            self._view.done(message)
            self._note(message)

    def _lines(self, messages: IO[bytes], patience: float) -> Iterator[bytes | None]:
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

    def _warn(self, listed: Listed) -> None:
        for file in listed.files:
            if PurePosixPath(file.path).suffix.lower() in PICKLES:
                self._view.line(
                    f"warning: {file.path} may be a pickle, which runs code of its author when it "
                    "is loaded; later steps load safetensors alone: name those in `files` instead"
                )

    def _note(self, done: Done) -> None:
        """Write the receipt once all of an order has come."""
        state = self._states[done.order]
        state.done.append(done)
        if state.listed is None or len(state.done) < len(state.listed.files):
            return
        order = self.orders[done.order]
        files = tuple(ReceivedFile(path=d.path, size=d.size, sha256=d.sha256) for d in state.done)
        commit = state.listed.commit
        receipt = Receipt(repo=order.repo, revision=order.revision, commit=commit, files=files)
        try:
            receipt.write(Path(order.output_dir))
        except OSError as error:
            kind = Kind.CANT_WRITE
            text = (error.strerror or "").lower()
            raise self.error(Failed(kind, done.order, detail=text)) from None

    def error(self, failed: Failed) -> TunematrixError:
        """Return the error that a failure becomes, without any secret of the environment."""
        model = self._config.settings.models[failed.order]
        key = "revision" if failed.kind is Kind.NO_REVISION else "repo"
        problem = self._config.problem(("models", failed.order, key), "")
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
        error = error_of(
            failed,
            Circumstances(
                place=place(problem.file, problem.line),
                repo=model.repo,
                revision=model.revision,
                output_dir=shown(Path(self.orders[failed.order].output_dir)),
                endpoint=endpoint,
                token=self._config.settings.huggingface.token_variable,
                seconds=self._config.settings.timeout,
            ),
        )
        return type(error)(_safe(str(error)))

    def sum_up(self) -> None:
        """Say what there is now."""
        for order, state in zip(self.orders, self._states, strict=True):
            if state.listed is None:
                continue
            files = state.listed.files
            total = f"{len(files)} files, {size(sum(file.size for file in files))}"
            if self._dry_run:
                self._view.line(f"nothing was written; without --dry-run: {total}")
                continue
            fetched = sum(done.deed != "there" for done in state.done)
            how = f"{fetched} fetched, {len(files) - fetched} there already"
            where = shown(Path(order.output_dir))
            self._view.line(f"{order.repo}: {total} ({how}), commit {state.listed.commit}")
            self._view.line(f"all checked, and listed in {where}/{RECEIPT}")


def _check_folders(config: StepConfig[DownloadConfig], *, dry_run: bool) -> None:
    """Refuse what can't be written to before anything is asked for."""
    for index, model in enumerate(config.settings.models):
        folder = Path(model.output_dir).expanduser()
        problem = config.problem(
            ("models", index, "output_dir"), f"{shown(folder)} is a file; name a folder"
        )
        if folder.exists() and not folder.is_dir():
            raise BadInput(str(problem))
        if dry_run:
            continue
        try:
            made(folder)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            text = f"can't write to {shown(folder)}: {reason}; correct its permissions"
            raise MachineProblem(text) from None


@contextlib.contextmanager
def _started(
    job: DownloadJob, log: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start the process in a session of its own, so that Ctrl-C is ours; end it afterwards."""
    command = [sys.executable, "-m", "tunematrix.pipeline.download.transfer"]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_QUIET, "PYTHONPATH": python_path()},
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


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode("utf-8", errors="replace").strip()


def _safe(text: str) -> str:
    """Return a text that came from elsewhere without secrets and without control characters."""
    return indented(redacted(masked(text, secrets_in(os.environ))), "")
