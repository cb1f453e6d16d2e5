"""Whether a process has loaded a shared library, as the system's list of its memory tells."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
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
        self._name = name
        self._next = 0.0

    @classmethod
    def named(cls, name: str) -> SharedLibrary | None:
        """Return what looks for a library; None where none is named, or nothing here can tell."""
        return cls(name) if name and sys.platform in ("linux", "darwin") else None

    def read(self, living: Iterable[psutil.Process]) -> None:
        """Look once, if it is time to."""
        if self.loaded or time.monotonic() < self._next:
            return
        self.loaded = any(
            Path(file).name.startswith(self._name)
            for process in living
            for file in _code_in(process.pid)
        )
        self._next = time.monotonic() + _SECONDS


def _code_in(pid: int) -> Iterator[str]:
    """Yield the files whose code a process has in its memory; none of a process that has ended."""
    if sys.platform == "linux":
        with suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
            # Address, permissions, offset, device, inode and, of a file, its path.
            entries = (line.split(maxsplit=5) for line in maps.splitlines())
            yield from (one[5] for one in entries if len(one) == 6 and "x" in one[1])
        return
    # Not yet run: macOS shows them in no file.
    command = ["/usr/sbin/lsof", "-a", "-d", "txt", "-F", "n", "-p", str(pid)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    yield from (line[1:] for line in told.splitlines() if line.startswith("n"))
