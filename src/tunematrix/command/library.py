"""Whether a process has loaded a shared library, as the system's list of its memory tells."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_SECONDS = 0.2
"""Between two looks; what imports a library and trains takes longer."""


class SharedLibrary:
    """Looks for a library in the memory of processes, until one has it.

    Args:
        name: beginning of its file's name, such as libmlx.

    Attributes:
        loaded: whether one has had it.
    """

    def __init__(self, name: str) -> None:
        self.loaded = False
        self._mark = f"/{name}"
        self._next = 0.0

    @classmethod
    def named(cls, name: str) -> SharedLibrary | None:
        """Return what looks for a library; None where none is named, or nothing here can tell."""
        return cls(name) if name and sys.platform in ("linux", "darwin") else None

    def read(self, living: Iterable[psutil.Process]) -> None:
        """Look once, if it is time to."""
        if self.loaded or time.monotonic() < self._next:
            return
        self.loaded = any(self._mark in _files(process.pid) for process in living)
        self._next = time.monotonic() + _SECONDS


def _files(pid: int) -> str:
    """Return the files that a process has in its memory; none of a process that has ended."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
        return ""
    # Not yet run: macOS shows them in no file.
    command = ["/usr/sbin/lsof", "-a", "-d", "txt", "-F", "n", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
