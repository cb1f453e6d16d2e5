"""A terminal for tests: a command runs in it, and what its screen shows is kept picture by picture.

It knows what the live view sends and nothing else, so that any other sequence is an error.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(r"\x1b\[(?P<count>\d*)(?P<what>[AJK])|\x1b\[[\d;]*m|(?P<text>[^\x1b])")
PICTURE_ENDS = "\x1b[J"


@dataclass
class Screen:
    """What a terminal shows.

    Attributes:
        width, height: its size. lines: what it shows; past: what has scrolled out of it.
    """

    width: int = 80
    height: int = 24
    lines: list[str] = field(default_factory=lambda: [""])
    past: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0

    @property
    def text(self) -> str:
        """All of it, from the first line on."""
        return "\n".join(line.rstrip() for line in (*self.past, *self.lines))

    def feed(self, text: str) -> None:
        """Take what a program prints."""
        position = 0
        while position < len(text):
            token = TOKEN.match(text, position)
            assert token, f"the terminal doesn't know {text[position : position + 12]!r}"
            position = token.end()
            if (character := token["text"]) is not None:
                self._put(character)
            elif what := token["what"]:
                self._control(what, token["count"])

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        else:
            if self.column == self.width:
                self._down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")
        if len(self.lines) > self.height:
            self.past.append(self.lines.pop(0))
            self.row -= 1

    def _control(self, what: str, count: str) -> None:
        line = self.lines[self.row]
        if what == "A":
            self.row = max(0, self.row - int(count))
        elif count == "2":
            self.lines[self.row] = ""
        else:
            self.lines[self.row] = line[: self.column]
            if what == "J":
                del self.lines[self.row + 1 :]


@dataclass(frozen=True)
class Watched:
    """A command that has ended in a terminal.

    Attributes:
        code: its exit code. pictures: the screen each time that it was drawn; the last as it ended.
        modes_kept: whether the terminal's modes are as they were.
    """

    code: int
    pictures: Sequence[str]
    modes_kept: bool

    @property
    def text(self) -> str:
        """All that was printed and wasn't taken away."""
        return self.pictures[-1]


def watched(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    keys: Callable[[str], bytes] = lambda picture: b"",
    width: int = 80,
) -> Watched:
    """Run a command in a terminal; `keys` says what is typed when it sees a picture."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    modes = termios.tcgetattr(its)
    environment = {**variables, "TERM": variables.get("TERM", "xterm-256color")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=_take_the_terminal,
    )
    screen, pictures = Screen(width), list[str]()
    for part in _parts(own, process):
        screen.feed(part)
        pictures.append(screen.text)
        if typed := keys(screen.text):
            os.write(own, typed)
    kept = termios.tcgetattr(its) == modes
    os.close(own)
    os.close(its)
    return Watched(process.wait(timeout=60), pictures, kept)


def _take_the_terminal() -> None:
    """Make the terminal that of the session, so that its Ctrl-C interrupts."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _parts(terminal: int, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield what is printed, cut after each picture."""
    os.set_blocking(terminal, False)
    begun = b""
    while True:
        has_ended = process.poll() is not None
        try:
            begun += os.read(terminal, 65_536)
        except BlockingIOError:
            if has_ended:
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
            continue
        *parts, begun = begun.split(PICTURE_ENDS.encode())
        yield from (part.decode() + PICTURE_ENDS for part in parts)
    yield begun.decode()
