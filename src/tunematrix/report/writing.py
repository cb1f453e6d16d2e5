"""Files that views write: whole, or as they were before, also if two write one at once."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from tunematrix.errors import MachineProblem

STANDARD_OUTPUT = Path("-")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one piece, folders included; `-` is the standard output.

    Raises:
        MachineProblem: there is no room, or no right to write.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.buffer.write(content)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe, or /dev/stdout
            return
        target = path.resolve()
        draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(content)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        message = f"can't write {path}: {error.strerror}; give a place that can be written"
        raise MachineProblem(message) from error
