"""What a log reader takes and what it returns: a file on disk in, the steps in it out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.files import open_regular, read_bounded
from tunematrix.evidence.lines import without_codes

HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
LONGEST_LINE = 64 * 1024
"""Bytes; a longer line is no line of a log, but a vocabulary or a progress bar without end."""
LARGEST_DOCUMENT = 256 * 1024 * 1024
"""Bytes of a log that is one JSON document, which has to be read as a whole."""

_LINE_ENDS = re.compile(rb"[\r\n]+")


@dataclass(frozen=True)
class LogContent:
    """What a reader made out of a log.

    Attributes:
        steps: in the order of their numbers, each number once.
        cut_off: the end is missing: the trainer was ended, or is writing still.
    """

    steps: tuple[LoggedStep, ...]
    cut_off: bool = False


class LogLine(NamedTuple):
    """One line, without its end and without the codes that colour a terminal.

    Attributes:
        text: the line.
        ended: whether a line end followed; a number at the end of a line that has none
            may have lost digits.
    """

    text: str
    ended: bool


@dataclass(frozen=True)
class LogFile:
    """A file that may be a trainer's log, read as far as a reader wants it.

    Attributes:
        path: the file; only regular ones can be read.
    """

    path: Path

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB.

        Raises:
            OSError: it can't be read, or is no regular file.
        """
        with open_regular(self.path) as file:
            return file.read(HEAD_BYTES)

    @property
    def is_text(self) -> bool:
        """Whether its head looks like text.

        A log that was emptied under a writer's hands begins with a hole of zeros, and is text.
        """
        return b"\0" not in self.head[:4096].strip(b"\0")

    def text(self) -> str:
        """Return the whole file; for logs that are one document, see `lines` for others.

        Raises:
            OSError: it can't be read, or is longer than 256 MiB.
        """
        return read_bounded(self.path, LARGEST_DOCUMENT).decode("utf-8", errors="replace")

    def lines(self, keyword: bytes = b"") -> Iterator[LogLine]:
        """Yield the lines one after the other, however long the file is; none of a binary file.

        Args:
            keyword: in lower case; lines without it, in any case, are left out at little cost.

        Raises:
            OSError: it can't be read.
        """
        if not self.is_text:
            return
        for line, ended in _raw_lines(self.path, keyword):
            if keyword in line.lower():
                text = line.decode("utf-8", errors="replace")
                yield LogLine(without_codes(text), ended)

    @property
    def ends_inside_a_line(self) -> bool:
        """Whether the last line has no line end."""
        with open_regular(self.path) as file:
            if not file.seek(0, 2):
                return False
            file.seek(-1, 2)
            return file.read(1) not in (b"\n", b"\r")


def _raw_lines(path: Path, keyword: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield lines and whether they ended; blocks without the keyword aren't split."""
    rest, too_long = b"", False
    with open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            block = rest + chunk
            end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
            whole, rest = block[:end], block[end:]
            if too_long and whole:  # it ends here, and nobody has seen its beginning
                _, *after = _LINE_ENDS.split(whole, maxsplit=1)
                whole, too_long = b"".join(after), False
            if len(rest) > LONGEST_LINE:
                rest, too_long = b"", True
            if keyword in whole.lower():
                yield from ((line, True) for line in _LINE_ENDS.split(whole) if _fits(line))
    if rest and not too_long:
        yield rest, False


def _fits(line: bytes) -> bool:
    return 0 < len(line) <= LONGEST_LINE


LogReader: TypeAlias = Callable[[LogFile], LogContent | None]
"""Takes a file; returns the steps in it, or None where another program wrote it.

Raises ValueError for a log of its trainer that is malformed.
"""
