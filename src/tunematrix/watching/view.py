"""What a watched command shows: its own output as it comes, then what was seen inside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.run_dir import RunDir
from tunematrix.report.terminal import check_line
from tunematrix.report.text import one_line, printable
from tunematrix.results.record import Record

_MARKS = {"passed": "✓", "failed": "✗", "warned": "!"}
_STYLES = {"passed": "green", "failed": "red", "warned": "yellow"}
_PIECE = 1 << 16


class Output:
    """Passes on what a command writes to its logs, as it comes.

    Args:
        run_dir: its folder. out, err: where what it prints, and prints as errors, goes.
    """

    def __init__(self, run_dir: RunDir, out: TextIO, err: TextIO) -> None:
        self._tails = (_Tail(run_dir.stdout, out), _Tail(run_dir.stderr, err))

    def __call__(self, _seconds: float = 0.0) -> None:
        """Pass on what has been written since the last call."""
        for tail in self._tails:
            tail.pass_on()


class _Tail:
    """The end of a file that grows."""

    def __init__(self, path: Path, to: TextIO) -> None:
        self._path, self._to, self._offset = path, to, 0

    def pass_on(self) -> None:
        """Write what is new, byte for byte where that is possible."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            while piece := file.read(_PIECE):
                self._offset += len(piece)
                _write(piece, self._to)


def _write(piece: bytes, to: TextIO) -> None:
    binary = getattr(to, "buffer", None)
    if binary is None:
        to.write(piece.decode("utf-8", errors="replace"))
    else:
        to.flush()
        binary.write(piece)
    to.flush()


def passing_on(*, to_errors: bool) -> Callable[[RunDir], Output]:
    """Return what makes an `Output` of a folder; with `to_errors`, all goes to standard error."""
    return lambda run_dir: Output(run_dir, sys.stderr if to_errors else sys.stdout, sys.stderr)


def verdicts(record: Record, seen: str) -> RenderableType:
    """Return what was seen in a command, and what the checks say of it: failures first.

    Args:
        record: of the command. seen: what was watched, in a line.
    """
    place = Text(f"evidence: {one_line(record.run_dir)}", "dim", no_wrap=True)
    return Group(shown_verdicts(record.checks, seen), place)


def shown_verdicts(checks: Sequence[Verdict], seen: str) -> RenderableType:
    """Return the same of verdicts that no record keeps."""
    lines: list[RenderableType] = [Text(f"watched {one_line(seen)}", "bold")]
    for outcome in ("failed", "warned"):
        for check in checks:
            if check.outcome == outcome:
                lines.append(Text(f"{_MARKS[outcome]} {check_line(check)}", _STYLES[outcome]))
                lines.append(_below(printable(check.message), "default"))
    if passed := [check for check in checks if check.outcome == "passed"]:
        lines.append(Text(f"{_MARKS['passed']} {len(passed)} passed", _STYLES["passed"]))
        lines.append(_below(", ".join(one_line(check.name) for check in passed), "dim"))
        lines += [_below(one_line(check.message), "dim") for check in passed if check.message]
    return Group(*lines)


def _below(text: str, style: str) -> RenderableType:
    return Padding(Text(text, style), (0, 0, 0, 2))
