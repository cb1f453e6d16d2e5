"""The disk that overlays take: it is measured, told and bounded."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tunematrix.errors import BadInput
from tunematrix.paths import shown, tool_table

LIMIT_KEY = "overlays_gb"
"""In [tool.tunematrix]: the most that overlays may take."""
DEFAULT_GB = 20.0
GB = 1e9
NO_SPACE = "there is no space left; make room, or lower overlays_gb in [tool.tunematrix]"
_BLOCK = 512
_LITTLE = 20_000_000
"""Bytes; a disk with less is full."""


@dataclass(frozen=True)
class Taken:
    """What the overlays of a project take.

    Attributes:
        count: how many there are; size: bytes of all together, a file that several share once.
        shared: bytes of it that an installer's cache holds too, so that they cost nothing twice.
        limit: the most bytes that they may take. removed: how many were removed for that.
    """

    count: int
    size: int
    shared: int
    limit: float
    removed: int = 0

    def __str__(self) -> str:
        """Say it as in `overlays: 3.1 of 20 GB`."""
        gone = f", {self.removed} not used for longest removed" if self.removed else ""
        cached = f", {self.shared / GB:.1f} GB of it shared with the installer's cache"
        return f"overlays: {self.size / GB:.1f} of {self.limit / GB:g} GB{cached}{gone}"


def limit(root: Path) -> float:
    """Return the most bytes that overlays of a project may take.

    Raises:
        BadInput: what pyproject.toml says is no size.
    """
    given = tool_table(root, "tunematrix").get(LIMIT_KEY, DEFAULT_GB)
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        text = (
            f"{shown(root / 'pyproject.toml')}: tool.tunematrix.{LIMIT_KEY}: {given!r} is no size"
        )
        raise BadInput(f"{text}; write a number of gigabytes, such as 20")
    return given * GB


def bounded(cache: Path, most: float) -> Taken:
    """Remove the overlays that were used longest ago until the others take no more than `most`.

    One that a process uses stays, however long ago it was first used.
    """
    folders = _by_age(cache)
    removed = 0
    sizes = _measured(folders)
    for folder in folders[:-1]:  # the newest is about to be used
        if sum(own for own, _ in sizes.values()) <= most:
            break
        if _removed(folder):
            removed += 1
            sizes = _measured([one for one in folders if one.exists()])
    whole = sum(own for own, _ in sizes.values())
    shared = sum(cached for _, cached in sizes.values())
    return Taken(len(sizes), whole, shared, most, removed)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep an overlay from being removed, and remember that it was used now."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            os.utime(folder)
        yield


def is_full(place: Path, reason: str) -> bool:
    """Return whether an installer failed with `reason` since the disk of a place is full."""
    code = f"(os error {errno.ENOSPC})"  # as uv has it; pip has [Errno 28]
    named = code in reason or f"[Errno {errno.ENOSPC}]" in reason
    return named or shutil.disk_usage(place).free < _LITTLE


def _by_age(cache: Path) -> list[Path]:
    """Return the overlays in a folder, the one that was used longest ago first."""
    found = [path for path in cache.glob("*") if path.is_dir() and not path.suffix]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _measured(folders: list[Path]) -> dict[Path, tuple[int, int]]:
    """Return the bytes of each folder, and those of files that lie elsewhere too.

    What several share counts in the first alone.
    """
    seen: set[int] = set()
    found = {}
    for folder in folders:
        whole = cached = 0
        for status in _files(folder):
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                whole += status.st_blocks * _BLOCK
                cached += status.st_blocks * _BLOCK * (status.st_nlink > 1)
        found[folder] = whole, cached
    return found


def _files(folder: Path | str) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.stat(follow_symlinks=False)


def _removed(folder: Path) -> bool:
    """Remove an overlay unless a process uses it; return whether it is gone."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Renamed first: half a folder must not be taken for a whole one.
        half = folder.with_name(f"{folder.name}.unfinished")
        folder.rename(half)
        shutil.rmtree(half, ignore_errors=True)
        return True
