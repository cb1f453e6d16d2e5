"""The one way out for text: without secrets, with control characters written out.

Nothing else prints; what a file gets, `report.text` and `evidence.secrets` have made safe before.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any, TextIO

from rich.console import Console, RenderableType

from tunematrix.evidence.secrets import masked, redacted, secrets_in
from tunematrix.report.terminal import render
from tunematrix.report.text import written_out


def safe(text: str) -> str:
    """Return a text that may be shown: secrets are masked, control characters written out."""
    return written_out(redacted(masked(text, secrets_in(os.environ))))


def say(text: str = "", *, end: str = "\n") -> None:
    """Print a text for whoever reads standard output."""
    print(safe(text), end=end)


def say_json(data: Any, indent: int | None = 2) -> None:
    """Print data; JSON's own escapes keep control characters out."""
    print(masked(json.dumps(data, indent=indent), secrets_in(os.environ)))


def complain(text: str) -> None:
    """Print a text beside what was asked for: progress, an error."""
    print(safe(text), file=sys.stderr, flush=True)


def screen(file: TextIO | None = None) -> Console:
    """Return the terminal to print on: NO_COLOR rules out all styles, bold and dim among them.

    Without a file, it is standard output.
    """
    return Console(file=file, color_system=None if os.environ.get("NO_COLOR") else "auto")


def show(what: RenderableType, file: TextIO | None = None) -> None:
    """Print what is laid out already; its texts were made printable one by one."""
    here = screen(file)
    colour = here.is_terminal and here.color_system is not None
    text = render(what, here.width, colour=colour)
    print(masked(text, secrets_in(os.environ)), end="", file=file)


def encode_whatever_comes() -> None:
    """Let no character end this process, however little its terminal or pipe can encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
