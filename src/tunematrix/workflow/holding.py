"""Folders that a process holds: nobody removes them while it runs, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path


def hold(folder: Path, *, shared: bool) -> int:
    """Hold a folder until the descriptor that is returned is closed, or this process ends.

    Args:
        folder: that is there. shared: whether others may hold it as well.
    """
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    return held


def remove_unless_held(folder: Path) -> None:
    """Remove a folder with all that is in it, unless a process holds it."""
    with suppress(OSError):  # gone meanwhile, held, or no folder
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
