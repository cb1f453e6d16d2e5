"""Whether a run left its repository as it was: a listing before it, and one after."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tunematrix.paths import CACHES, files_below, is_cache

Stamp: TypeAlias = tuple[int, int]
"""When a file was changed (ns), and its size (bytes)."""

MOST_FILES = 20_000
"""A folder with more files is left to Git alone."""
_GIT_SECONDS = 30


@dataclass(frozen=True)
class Snapshot:
    """How a folder, and the repository that it lies in, looked at one time.

    Attributes:
        status: what Git says of each path that isn't as committed, and its stamp; None without Git.
        files: the stamp of each file below the folder; None where there are too many.
    """

    status: Mapping[str, tuple[str, Stamp | None]] | None
    files: Mapping[str, Stamp] | None

    @property
    def way(self) -> str:
        """How it was taken."""
        ways = ["git status"] if self.status is not None else []
        return " and ".join([*ways, "listing"] if self.files is not None else ways)


def take(folder: Path, besides: Path) -> Snapshot:
    """Return how a folder looks now, without what lies below `besides`."""
    return Snapshot(_status(folder, besides), _files(folder, besides))


def changes(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Return the paths that differ, absolute and sorted."""
    changed: set[str] = set()
    if before.status is not None and after.status is not None:
        changed |= _different(before.status, after.status)
    if before.files is not None and after.files is not None:
        changed |= _different(before.files, after.files)
    return tuple(sorted(changed))


def _different(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def _status(folder: Path, besides: Path) -> dict[str, tuple[str, Stamp | None]] | None:
    top = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)
    if top is None:
        return None
    # Without taking the index's lock, so that a commit of the user's isn't disturbed.
    git = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain", "-z"]
    try:
        said = _said([*git, "--untracked-files=all", "--no-renames"])
    except (OSError, subprocess.SubprocessError):
        return None
    found = {}
    for entry in said.split("\0"):
        state, path = entry[:2], Path(top, entry[3:])
        if entry and not is_cache(path.relative_to(top)) and not path.is_relative_to(besides):
            found[str(path)] = (state, _stamp(path))
    return found


def _said(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True, errors="replace"
    )
    return done.stdout


def _files(folder: Path, besides: Path) -> dict[str, Stamp] | None:
    found: dict[str, Stamp] = {}
    for path in files_below(folder, (*CACHES, "*.egg-info"), lambda below: below == besides):
        if path.suffix != ".pyc" and (stamp := _stamp(path)) is not None:
            found[str(path)] = stamp
        if len(found) > MOST_FILES:
            return None
    return found


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
