"""The process that downloads: it can be given up at any moment, whatever the client waits for.

The job comes as the first line on stdin, messages go to stdout. When stdin ends, the process that
started this one has: then this one ends, too. Nothing that was downloaded is executed or unpickled.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import logging
import os
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TextIO, TypeVar

from tunematrix.errors import BadInput
from tunematrix.hub.events import (
    AllDone,
    Done,
    DownloadJob,
    Failed,
    Kind,
    Listed,
    Message,
    ModelOrder,
    Received,
    Remark,
    RemoteFile,
    Stopped,
    Waiting,
    packed,
    unpacked_job,
)
from tunematrix.hub.receipt import Receipt, ReceivedFile, digests, read_receipt

Answer = TypeVar("Answer")

WAITS = (1, 2)
"""Seconds before the Hub is asked again for a list, after what may be over a moment later."""
LOCK = Path(".cache/huggingface/tunematrix.lock")
"""Held while a folder is written to; below it, beside the client's own."""
LONGEST_WAIT = 10
"""Seconds; a server that asks for more has its answer shown instead."""
_QUERY = re.compile(r"\?\S+")


def main() -> None:
    """Do the job."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no message
    job = unpacked_job(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(message: Message) -> None:
        out.write(packed(message) + "\n")
        out.flush()

    try:
        if importlib.util.find_spec("huggingface_hub") is None:
            raise Stopped(Failed(Kind.NO_LIBRARY))
        _do(job, say)
        say(AllDone())
    except Stopped as stopped:
        if job.verbose:
            traceback.print_exc(file=sys.stderr)
        say(stopped.failed)
    _leave(out)


def _leave(out: TextIO) -> None:
    """End at once: threads of a client that still waits for a server would hold it up."""
    out.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _do(job: DownloadJob, say: Callable[[Message], None]) -> None:
    from huggingface_hub import constants

    _listen(job, say)
    offline = constants.HF_HUB_OFFLINE
    listed = []
    for number, order in enumerate(job.orders):
        found = _cached(number, order) if offline else _looked_up(number, order, job, say)
        say(found)
        listed.append(found)
    if job.dry_run:
        return
    _check_space(job, listed)
    for found in listed:
        with _alone(found.order, job, say):
            _receive(found, job, say)
        say(Received(found.order))


@contextlib.contextmanager
def _alone(number: int, job: DownloadJob, say: Callable[[Message], None]) -> Iterator[None]:
    """Keep other downloads out of a folder; one that is at work there is waited for."""
    from filelock import FileLock, Timeout

    place = Path(job.orders[number].output_dir) / LOCK
    with _explained(number, "", job):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(Waiting(number))
            lock.acquire()
        except NotImplementedError:
            say(Remark("this disk knows no locks: another download at the same time isn't noticed"))
    try:
        yield
    finally:
        lock.release()


def _receive(found: Listed, job: DownloadJob, say: Callable[[Message], None]) -> None:
    """Get all files of a repository, and write down what they are."""
    order = job.orders[found.order]
    received = []
    for file in found.files:
        taken = (
            _taken(found, order, file) if found.offline else _fetched(found, order, file, job, say)
        )
        say(taken)
        received.append(ReceivedFile(path=taken.path, size=taken.size, sha256=taken.sha256))
    if found.offline:  # its receipt has just been read, and stays
        return
    receipt = Receipt(
        repo=order.repo, revision=order.revision, commit=found.commit, files=tuple(received)
    )
    with _explained(found.order, "", job):
        receipt.write(Path(order.output_dir))


def _listen(job: DownloadJob, say: Callable[[Message], None]) -> None:
    """Pass on what the client logs, without the queries of addresses: they may be signed."""

    class Forwarder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = _QUERY.sub("?…", record.getMessage()).strip()
            say(Remark(f"huggingface_hub: {text.splitlines()[0] if text else ''}"))

    logger = logging.getLogger("huggingface_hub")
    logger.handlers[:] = [Forwarder()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if job.verbose else logging.WARNING)


@contextlib.contextmanager
def _explained(order: int, path: str, job: DownloadJob) -> Iterator[None]:
    from tunematrix.hub.causes import failure

    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        has_token = bool(token_of(job))
        raise Stopped(failure(error, order, path, has_token=has_token)) from error


def token_of(job: DownloadJob) -> str | bool:
    """Return the token of the environment; False, which keeps the client from looking further."""
    return os.environ.get(job.token_variable, "").strip() or False


def _looked_up(
    number: int, order: ModelOrder, job: DownloadJob, say: Callable[[Message], None]
) -> Listed:
    """Ask the Hub what a revision is, and which of its files are wanted."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(token=token_of(job), library_name="tunematrix")

    def ask() -> tuple[str, list[RemoteFile]]:
        commit = api.model_info(order.repo, revision=order.revision).sha or ""
        tree = api.list_repo_tree(order.repo, recursive=True, revision=commit)
        return commit, [_remote(entry) for entry in tree if isinstance(entry, RepoFile)]

    commit, files = _patiently(ask, number, job, say)
    return Listed(number, commit, _wanted(number, order, files), len(files))


def _remote(entry: object) -> RemoteFile:
    path, size = str(getattr(entry, "path", "")), int(getattr(entry, "size", 0))
    lfs = getattr(entry, "lfs", None)
    if lfs is not None:
        return RemoteFile(path, int(lfs.size), str(lfs.sha256))
    return RemoteFile(path, size, "", str(getattr(entry, "blob_id", "")))


def _patiently(
    ask: Callable[[], Answer], number: int, job: DownloadJob, say: Callable[[Message], None]
) -> Answer:
    """Ask again after what may be over a moment later."""
    from tunematrix.hub.causes import TRANSIENT

    for wait in (*WAITS, None):
        try:
            with _explained(number, "", job):
                return ask()
        except Stopped as stopped:
            failed = stopped.failed
            if wait is None or failed.kind not in TRANSIENT or failed.retry_after > LONGEST_WAIT:
                raise
            pause = max(wait, failed.retry_after)
            what = f"answered {failed.status}" if failed.status else "broke off"
            say(Remark(f"the hub {what}; asking again in {pause} s"))
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _wanted(number: int, order: ModelOrder, files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files that an order names; a pattern that matches none ends it."""
    names = tuple(sorted(file.path for file in files))
    for pattern in order.files:
        if not any(_matches(name, pattern) for name in names):
            raise Stopped(Failed(Kind.UNMATCHED, number, detail=pattern, names=names))
    chosen = [f for f in files if any(_matches(f.path, pattern) for pattern in order.files)]
    for file in chosen:
        # What a server names must not lead out of the folder.
        path = PurePosixPath(file.path.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in file.path:
            raise Stopped(Failed(Kind.UNSAFE_PATH, number, file.path))
    return tuple(sorted(chosen, key=lambda file: file.path))


def _matches(name: str, pattern: str) -> bool:
    """Match as the client does: `folder/` is all below it."""
    return fnmatch.fnmatchcase(name, f"{pattern}*" if pattern.endswith("/") else pattern)


def _check_space(job: DownloadJob, listed: list[Listed]) -> None:
    """Refuse what can't fit, before hours are spent on it."""
    for found in listed:
        folder = Path(job.orders[found.order].output_dir)
        files = [f for f in found.files if not (folder / f.path).exists()]
        needed, free = sum(file.size for file in files), shutil.disk_usage(folder).free
        if needed > free:
            text = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
            raise Stopped(Failed(Kind.DISK_FULL, found.order, detail=text))


def _fetched(
    found: Listed,
    order: ModelOrder,
    file: RemoteFile,
    job: DownloadJob,
    say: Callable[[Message], None],
) -> Done:
    from tunematrix.hub.fetching import Fetching

    with _explained(found.order, file.path, job):
        return Fetching(found, order, file, token_of(job), say).done()


def _cached(number: int, order: ModelOrder) -> Listed:
    """Find what an earlier download left in the folder, without asking anybody."""
    try:
        receipt = read_receipt(Path(order.output_dir))
    except BadInput:
        receipt = None
    if receipt is None or receipt.repo != order.repo:
        raise Stopped(Failed(Kind.OFFLINE, number, detail="nothing of it is there"))
    if order.revision not in (receipt.revision, receipt.commit):
        raise Stopped(Failed(Kind.OFFLINE, number, detail=f"{receipt.revision} is there"))
    files = [RemoteFile(file.path, file.size, file.sha256) for file in receipt.files]
    return Listed(number, receipt.commit, _wanted(number, order, files), len(files), offline=True)


def _taken(found: Listed, order: ModelOrder, file: RemoteFile) -> Done:
    path = Path(order.output_dir, file.path)
    if not path.is_file() or digests(path)[0] != file.sha256:
        text = f"{file.path} is missing or was changed"
        raise Stopped(Failed(Kind.OFFLINE, found.order, file.path, detail=text))
    return Done(found.order, file.path, file.size, file.sha256, "there")


if __name__ == "__main__":
    main()
