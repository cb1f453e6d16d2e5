"""Which code a run was of: the commit, and a digest of what isn't as committed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import blake2b, sha1
from pathlib import Path

from tunematrix.paths import is_cache

DOCS = "docs"
PAGES = frozenset([".md", ".rst"])
_SECONDS = 20
_DIGITS = 12
_LARGEST = 10_000_000
"""Bytes of a file whose content is read; of a larger one, its size and age tell it from others."""


def code_state(root: Path, besides: Iterable[Path]) -> Mapping[str, str]:
    """Return the commit of the repository that a project lies in, as facts for records.

    Args:
        root: the project. besides: folders whose files aren't code, though Git may see them.

    Returns:
        "commit": 12 hexadecimal digits; "code": as many, the same for the same files, committed or
        not, of those that a cell's result may depend on; "changes": as many, the same for the same
        changes, only where something isn't as committed. Nothing without Git or a commit.
    """
    git = ("git", "--no-optional-locks", "-C", str(root))
    try:
        commit = _said(*git, "rev-parse", "--short=12", "HEAD").strip()
        top = Path(_said(*git, "rev-parse", "--show-toplevel").strip())
        # Each new file by itself: a folder of them may hold what is left out below.
        status = _said(*git, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
        committed = _said(*git, "ls-tree", "-r", "-z", "--full-tree", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return {}
    left_out = [folder.resolve() for folder in besides]
    changed = [
        (state, path) for state, path in _entries(status, top) if _counts(path, top, left_out)
    ]
    files = _blobs(committed, top) | {path: _blob(path) for _, path in changed}
    homes = (top, root.resolve())
    left_out += [folder / DOCS for folder in homes]
    code = _of_all(
        f"{path.relative_to(top)}\0{blob}\0"
        for path, blob in sorted(files.items())
        if blob and _counts(path, top, left_out) and not _is_for_people(path, homes)
    )
    changes = {"changes": _digest(changed, top)} if changed else {}
    return {"commit": commit, "code": code, **changes}


def _counts(path: Path, top: Path, left_out: Iterable[Path]) -> bool:
    """Whether a file is neither a cache nor in a folder that is left out."""
    whole = path.resolve()
    return not is_cache(path.relative_to(top)) and not any(
        whole.is_relative_to(folder) for folder in left_out
    )


def _is_for_people(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a file is a test, which no cell imports, or a page right in one of some folders."""
    is_page = path.suffix in PAGES and path.parent in folders
    return is_page or fnmatchcase(path.name, "test_*.py") or fnmatchcase(path.name, "*_test.py")


def _blobs(listed: str, top: Path) -> dict[Path, str]:
    """Return each file that `git ls-tree` lists, and how Git calls its content."""
    entries = (entry.partition("\t") for entry in listed.split("\0") if entry)
    return {top / path: facts.split(" ")[2] for facts, _, path in entries}


def _blob(path: Path) -> str:
    """Return how Git calls the content of a file, so that it is the same once that is committed.

    Empty where there is no such file.
    """
    content = _content(path)
    if content is None:
        return ""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _entries(status: str, top: Path) -> Iterator[tuple[str, Path]]:
    """Yield each path that isn't as committed, and what Git says of it in two letters."""
    for entry in status.split("\0"):
        if entry:
            yield entry[:2], top / entry[3:]


def _digest(changed: Iterable[tuple[str, Path]], top: Path) -> str:
    return _of_all(
        part
        for state, path in sorted(changed)
        for part in (f"{state} {path.relative_to(top)}\0", _content(path) or b"")
    )


def _of_all(parts: Iterable[str | bytes]) -> str:
    whole = blake2b(digest_size=_DIGITS // 2)
    for part in parts:
        whole.update(part.encode(errors="surrogateescape") if isinstance(part, str) else part)
    return whole.hexdigest()


def _content(path: Path) -> bytes | None:
    """Return what a file holds; of a link where it leads, and None where nothing is there."""
    try:
        status = path.lstat()
        if path.is_symlink():
            return os.fsencode(path.readlink())
        if path.is_file() and status.st_size <= _LARGEST:
            return path.read_bytes()
    except OSError:  # it was removed, which its state says
        return None
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
