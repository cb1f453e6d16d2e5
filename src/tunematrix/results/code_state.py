"""Which code a run was of: the commit, and a digest of what isn't as committed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from tunematrix.paths import is_cache

_SECONDS = 20
_DIGITS = 12
_LARGEST = 10_000_000
"""Bytes of a file whose content is read; of a larger one, its size and age tell it from others."""


def code_state(root: Path, besides: Iterable[Path]) -> Mapping[str, str]:
    """Return the commit of the repository that a project lies in, as facts for records.

    Args:
        root: the project. besides: folders whose files aren't code, though Git may see them.

    Returns:
        "commit": 12 hexadecimal digits; "changes": as many, the same for the same changes, only
        where something isn't as committed. Nothing at all without Git or a commit.
    """
    git = ("git", "--no-optional-locks", "-C", str(root))
    try:
        commit = _said(*git, "rev-parse", "--short=12", "HEAD").strip()
        top = Path(_said(*git, "rev-parse", "--show-toplevel").strip())
        # Each new file by itself: a folder of them may hold what is left out below.
        status = _said(*git, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    except (OSError, subprocess.SubprocessError):
        return {}
    left_out = [folder.resolve() for folder in besides]
    changed = [
        (state, path)
        for state, path in _entries(status, top)
        if not is_cache(path.relative_to(top))
        and not any(path.resolve().is_relative_to(folder) for folder in left_out)
    ]
    return {"commit": commit} | ({"changes": _digest(changed, top)} if changed else {})


def _entries(status: str, top: Path) -> Iterator[tuple[str, Path]]:
    """Yield each path that isn't as committed, and what Git says of it in two letters."""
    for entry in status.split("\0"):
        if entry:
            yield entry[:2], top / entry[3:]


def _digest(changed: Iterable[tuple[str, Path]], top: Path) -> str:
    whole = blake2b(digest_size=_DIGITS // 2)
    for state, path in sorted(changed):
        whole.update(f"{state} {path.relative_to(top)}\0".encode(errors="surrogateescape"))
        whole.update(_content(path))
    return whole.hexdigest()


def _content(path: Path) -> bytes:
    try:
        status = path.lstat()
        if path.is_file() and status.st_size <= _LARGEST:
            return path.read_bytes()
    except OSError:  # it was removed, which its state says
        return b""
    return f"{status.st_size} {status.st_mtime_ns}".encode()


def _said(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
        errors="surrogateescape",
    )
    return done.stdout
