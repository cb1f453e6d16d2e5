"""The step `download`: models from the Hub, for the steps after it; nothing of it is loaded.

It fetches in a process of its own, as the command does. What it writes down is read from the disk
afterwards, beside what the hub says when it is asked apart from that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tunematrix.configuration.download import DownloadStep, hub_address
from tunematrix.errors import BadInput, MachineProblem, WrongSetting
from tunematrix.evidence.events import FetchedFile, StepBegun, StepFetched, StepProblem
from tunematrix.hub.events import Done, Listed, Message, Remark, RemoteFile, Stopped, Waiting
from tunematrix.hub.failures import warnings_of
from tunematrix.hub.receipt import Receipt, digests, read_receipt
from tunematrix.hub.session import Session, route_of_failure
from tunematrix.paths import shown
from tunematrix.stack.steps.job import Line, StepJob


def run(settings: DownloadStep, job: StepJob) -> None:
    """Download models, and write down what lies there and what the hub says of it.

    Raises:
        WrongSetting: the hub has no such thing, or doesn't give it to this user.
        MachineProblem: the hub, the network or the disk failed; `StepProblem` is written before.
    """
    line = Line()
    with job.said(line):
        named = _looked_up(settings, job)
        for number, listed in sorted(named.items()):
            _begin(settings, job, number, listed)
        line.text = (
            "nothing was fetched or written" if job.dry_run else _fetch(settings, job, named)
        )


def _begin(settings: DownloadStep, job: StepJob, number: int, listed: Listed) -> None:
    model = settings.models[number]
    does = f"fetches {len(listed.files)} of its {listed.total} files, {_megabytes(listed)}"
    what = f"{model.repo} at {model.revision}, commit {listed.commit}"
    job.events.write(StepBegun(job.name, what, "", "", model.output_dir, does))
    for text in warnings_of(listed):
        job.warn(text)


def _fetch(settings: DownloadStep, job: StepJob, named: dict[int, Listed]) -> str:
    """Fetch all models; return what the step says at its end."""
    _make_folders(settings)
    found: dict[int, Listed] = {}
    done: list[Done] = []
    total = sum(len(listed.files) for listed in named.values())

    def take(message: Message) -> None:
        if isinstance(message, Listed):
            found[message.order] = message
        elif isinstance(message, Done):
            done.append(message)
            job.progress("files", len(done), total)
        elif isinstance(message, Waiting):
            folder = settings.models[message.order].output_dir
            job.warn(f"another download is at work in {folder}; waiting for its end")
        elif isinstance(message, Remark):
            job.warn(message.text)

    _pass_on(settings, job, take, dry_run=False)
    if any(found[number].commit != listed.commit for number, listed in named.items()):
        named = _looked_up(settings, job)  # a branch may have moved on in between
    for number, listed in sorted(named.items()):
        job.events.write(_fetched(settings, job, number, listed))
    fetched = sum(one.deed != "there" for one in done)
    size = ", ".join(_megabytes(listed) for listed in named.values())
    return f"{fetched} files fetched, {len(done) - fetched} there already ({size})"


def _fetched(settings: DownloadStep, job: StepJob, number: int, listed: Listed) -> StepFetched:
    """Read again from the disk what a model's files are."""
    model = settings.models[number]
    folder = Path(model.output_dir).expanduser()
    receipt = _receipt(folder)
    received = {} if receipt is None else {file.path: file.sha256 for file in receipt.files}
    return StepFetched(
        name=job.name,
        repo=model.repo,
        revision=model.revision,
        hub="" if listed.offline else hub_address(os.environ),
        commit=listed.commit,
        listed="" if receipt is None else receipt.commit,
        output_dir=str(folder),
        files=tuple(_on_disk(folder, one, received.get(one.path, "")) for one in listed.files),
    )


def _on_disk(folder: Path, file: RemoteFile, received: str) -> FetchedFile:
    path = folder / file.path
    sha256, blob = digests(path) if path.is_file() else ("", "")
    return FetchedFile(file.path, file.size, file.sha256, file.blob, received, sha256, blob)


def _receipt(folder: Path) -> Receipt | None:
    try:
        return read_receipt(folder)
    except BadInput:  # one that can't be read lists nothing
        return None


def _looked_up(settings: DownloadStep, job: StepJob) -> dict[int, Listed]:
    """Return what the hub says of each model; without a network, what was there says it."""
    named: dict[int, Listed] = {}

    def take(message: Message) -> None:
        if isinstance(message, Listed):
            named[message.order] = message
        elif isinstance(message, Remark):
            job.warn(message.text)

    _pass_on(settings, job, take, dry_run=True)
    return named


def _pass_on(
    settings: DownloadStep, job: StepJob, take: Callable[[Message], None], *, dry_run: bool
) -> None:
    session = Session(settings, os.environ, dry_run=dry_run)
    try:
        session.run(take)
    except Stopped as stopped:
        error, route = session.error(stopped.failed), route_of_failure(stopped.failed)
        if isinstance(error, BadInput):
            raise WrongSetting(route, str(error)) from None
        job.events.write(StepProblem(job.name, route, str(error)))
        raise MachineProblem(str(error)) from None


def _make_folders(settings: DownloadStep) -> None:
    for number, model in enumerate(settings.models):
        folder = Path(model.output_dir).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            text = f"{shown(folder)} can't be made: {reason}; name another folder"
            raise WrongSetting(("models", number, "output_dir"), text) from None


def _megabytes(listed: Listed) -> str:
    return f"{sum(file.size for file in listed.files) / 1e6:.1f} MB"
