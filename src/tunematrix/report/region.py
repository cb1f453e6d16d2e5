"""The bottom of a terminal: lines that are drawn again and again, below all that scrolls past."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any, TextIO

UP, CLEAR_BELOW = "\x1b[{}A", "\r\x1b[J"
"""Move the cursor up by so many lines; clear from there to the end of the screen."""
USUAL_SIZE = os.terminal_size((80, 24))


class Region:
    """Lines at the bottom of a terminal.

    Whoever else prints there has to write through `above`: what is drawn goes away first, and comes
    back below with the next `draw`. Nothing of the terminal is switched, so that nothing needs to
    be switched back if the process is killed.

    Attributes:
        above: the terminal's file for all others.

    Args:
        file: the terminal's.
    """

    def __init__(self, file: TextIO) -> None:
        self.above = Above(file, self)
        self._file = file
        self._drawn: Sequence[int] = ()
        self._last = ""

    @property
    def size(self) -> os.terminal_size:
        """The terminal's size now; it may have been changed since."""
        try:
            size = os.get_terminal_size(self._file.fileno())
        except OSError:
            size = shutil.get_terminal_size()
        # A terminal that nobody has told its size says 0.
        return size if size.columns > 0 and size.lines > 0 else USUAL_SIZE

    def draw(self, lines: Sequence[str], widths: Sequence[int]) -> None:
        """Show these lines in place of those before; in one piece, so that nothing flickers.

        Args:
            lines: with their colours. widths: of each, in columns, without its colours.
        """
        text = "".join(f"{line}\n" for line in lines)
        if self._drawn and text == self._last:
            return
        self._file.write(self._erasing() + text)
        self._file.flush()
        self._drawn, self._last = tuple(widths), text

    def erase(self) -> None:
        """Take the lines away."""
        self._file.write(self._erasing())
        self._drawn = ()

    def leave(self) -> None:
        """Let the lines stand, and what is printed from now on stand below them."""
        self._drawn = ()

    def _erasing(self) -> str:
        """Return what takes the lines away; a terminal that was made narrower has folded them."""
        columns = self.size.columns
        height = sum(max(1, -(-width // columns)) for width in self._drawn)
        return UP.format(height) + CLEAR_BELOW if height else ""


class Above:
    """A terminal's file whose every line comes above a region."""

    def __init__(self, file: TextIO, region: Region) -> None:
        self._file = file
        self._region = region

    def write(self, text: str) -> int:
        """Write a text, once the region is out of its way."""
        self._region.erase()
        return self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
