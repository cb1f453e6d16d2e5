"""The step `download` as a command: says what the process that downloads does."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.configuration.download import DownloadConfig
from tunematrix.errors import BadInput, MachineProblem, counted
from tunematrix.hub.events import (
    Begun,
    Done,
    Got,
    Kind,
    Listed,
    Message,
    ModelOrder,
    Remark,
    Stopped,
    Waiting,
)
from tunematrix.hub.failures import warnings_of
from tunematrix.hub.receipt import RECEIPT
from tunematrix.hub.session import Session, route_of_failure
from tunematrix.paths import made, shown
from tunematrix.pipeline.download.view import DownloadView, size
from tunematrix.pipeline.settings import StepConfig
from tunematrix.report.text import indented
from tunematrix.spec.problems import place


def download(
    config: StepConfig[DownloadConfig], view: DownloadView, *, dry_run: bool, verbose: bool
) -> None:
    """Download what a config names; what is there already is only checked.

    Raises:
        BadInput: the Hub has no such thing, or doesn't give it to this user.
        MachineProblem: the Hub, the network or the disk failed.
        KeyboardInterrupt: Ctrl-C; what was fetched is kept.
    """
    session = Session(config.settings, os.environ, dry_run=dry_run, verbose=verbose)
    step = _Step(session.orders, view, dry_run=dry_run)
    _check_folders(config, dry_run=dry_run)
    try:
        with view.open():
            session.run(step.take)
    except Stopped as stopped:
        failed = stopped.failed
        if verbose and failed.kind is not Kind.DIED:
            view.line(session.printed)
        problem = config.problem(route_of_failure(failed), "")
        error = session.error(failed, place(problem.file, problem.line))
        raise type(error)(indented(str(error), "")) from None
    step.sum_up()


@dataclass
class _Got:
    """What has come of one order."""

    listed: Listed | None = None
    done: list[Done] = field(default_factory=list)


class _Step:
    """What is known so far."""

    def __init__(
        self, orders: tuple[ModelOrder, ...], view: DownloadView, *, dry_run: bool
    ) -> None:
        self.orders, self._view, self._dry_run = orders, view, dry_run
        self._states = [_Got() for _ in orders]

    def take(self, message: Message) -> None:
        """Show what is said."""
        if isinstance(message, Remark):
            self._view.line(message.text)
        elif isinstance(message, Listed):
            self._states[message.order].listed = message
            self._view.listed(message, self.orders[message.order], dry_run=self._dry_run)
            for text in warnings_of(message):
                self._view.line(f"warning: {text}")
        elif isinstance(message, Waiting):
            folder = shown(Path(self.orders[message.order].output_dir))
            self._view.line(f"another download is at work in {folder}; waiting for its end")
        elif isinstance(message, Begun):
            self._view.begun(message)
        elif isinstance(message, Got):
            self._view.got(message)
        elif isinstance(message, Done):
            self._view.done(message)
            self._states[message.order].done.append(message)

    def sum_up(self) -> None:
        """Say what there is now."""
        for order, state in zip(self.orders, self._states, strict=True):
            if state.listed is None:
                continue
            files = state.listed.files
            total = f"{counted(len(files), 'file')}, {size(sum(file.size for file in files))}"
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
