"""The bottom of a terminal: lines that are drawn again and again, below all that scrolls past."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any, TextIO

UP = "\x1b[{}A\r"
CLEAR_LINE, CLEAR_REST, CLEAR_BELOW = "\x1b[2K", "\x1b[K", "\x1b[J"
"""Clear the cursor's line; what is right of it there; and that with all lines below."""
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
        # Each line takes the place of an old one: what is cleared first would flicker.
        text = "".join(f"{line}{CLEAR_REST}\n" for line in lines) + CLEAR_BELOW
        if self._drawn and text == self._last:
            return
        begun = "" if self._drawn or self.above.at_line_start else "\n"
        self._file.write(begun + self._to_the_top() + text)
        self._file.flush()
        self._drawn, self._last = tuple(widths), text
        self.above.at_line_start = True

    def erase(self) -> None:
        """Take the lines away, and what was typed below them.

        Each by itself: a screen that is cleared from its top, tmux keeps among what scrolled past.
        """
        if self._drawn:
            up = self._to_the_top()
            self._file.write(up + f"{CLEAR_LINE}\n" * self._height + CLEAR_BELOW + up)
        self._drawn = ()

    def leave(self) -> None:
        """Let the lines stand, and what is printed from now on stand below them."""
        self._drawn = ()

    @property
    def _height(self) -> int:
        """How many lines are drawn; a terminal that was made narrower has folded them."""
        columns = self.size.columns
        return sum(max(1, -(-width // columns)) for width in self._drawn)

    def _to_the_top(self) -> str:
        return UP.format(self._height) if self._drawn else ""


class Above:
    """A terminal's file whose every line comes above a region.

    Attributes:
        file: the terminal's own; at_line_start: whether nothing stands before the cursor.
    """

    def __init__(self, file: TextIO, region: Region) -> None:
        self.file = file
        self.at_line_start = True
        self._region = region

    def write(self, text: str) -> int:
        """Write a text, once the region is out of its way."""
        self._region.erase()
        self.at_line_start = text.endswith("\n") if text else self.at_line_start
        return self.file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
