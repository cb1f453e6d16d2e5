"""Error families, each with the exit code that the command line and pytest end with.

Attributes of every family:
    exit_code: documented in README.md; pytest's own codes keep their meaning.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Mapping


class ExitCode(enum.IntEnum):
    """What the process exits with.

    0 to 5 are pytest's own: passed, failed, interrupted, internal error, bad input,
    nothing tested.
    """

    PASSED = 0
    FAILED = 1
    INTERRUPTED = 2
    INTERNAL = 3
    BAD_INPUT = 4
    NOTHING_TESTED = 5
    MACHINE = 6


class TunematrixError(Exception):
    """Base of every error that a user can act on; shown without a traceback."""

    exit_code: ExitCode = ExitCode.INTERNAL


class BadInput(TunematrixError):
    """A spec, a config, an option or a path is wrong; the text says where and what to do."""

    exit_code = ExitCode.BAD_INPUT


class NothingTested(TunematrixError):
    """The run selected no cell, or could run none."""

    exit_code = ExitCode.NOTHING_TESTED


class MachineProblem(TunematrixError):
    """This machine can't go on: no space left, no process can be started."""

    exit_code = ExitCode.MACHINE


class Unavailable(MachineProblem):
    """A device or a library is missing here, or is there and can't be used."""


class FaultBroken(RuntimeError):
    """A deliberate sabotage raised itself, so that the run says nothing about the stack."""

    def __init__(self, name: str, when: str, what: str) -> None:
        text = f"the fault {name} raised {when} ({what}); mend it, since the stack wasn't tried"
        super().__init__(text)


class RanksEnded(RuntimeError):
    """Processes that a cell was launched in ended early; which is to blame, their logs say.

    Attributes:
        codes: by rank, the exit code of each that was noticed; -9 for signal 9.
        processes: how many there were.
    """

    def __init__(self, codes: Mapping[int, int], processes: int) -> None:
        super().__init__(f"of {processes} processes, these ended early: {dict(codes)}")
        self.codes = dict(codes)
        self.processes = processes


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the advice that ends a message about an unknown name: close matches, or a list."""
    names = list(known)
    if close := difflib.get_close_matches(name, names):
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "there is none to choose from"
    rest = "" if len(names) <= 12 else f" and {len(names) - 12} more"
    return f"it can be {', '.join(names[:12])}{rest}"
