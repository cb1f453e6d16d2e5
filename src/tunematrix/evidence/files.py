"""Files of a cell, read as what anybody may have put there: regular ones alone, and bounded."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; nothing else can make the reader wait, or read for ever.

    Raises:
        OSError: it isn't there, can't be read, or is something else, such as a pipe.
    """
    # A pipe that nobody writes to would hold up whoever opens it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no regular file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        OSError: it can't be read, is something else, or longer.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{path.name} is longer than {limit} bytes")
    return content
